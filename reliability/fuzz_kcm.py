# SPDX-License-Identifier: MIT
"""Random KCM messages: every one gets a reply of the protocol, or its connection an end.

    python -m reliability.fuzz_kcm --count 1000000 [--seed N]    the service, without a socket
    python -m reliability.fuzz_kcm --sockets --count 100000      a real mount, many connections

Messages are mutations of what clients send, cut anywhere on their way.  Each run of messages begins
with a fresh store and follows from its number, so that one that fails can be done again:
`--seed NUMBER --count 1000`.  After each the store's invariants hold and nothing is held any more;
nothing but the codes of the protocol is answered, what is kept to be said again is what would be
said anew, and the log stays empty.
"""

import contextlib
import functools
import gc
import logging
import os
import random
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ccfs.kcm.codes import Code
from ccfs.kcm.opcodes import OPERATIONS
from ccfs.kcm.service import TOO_LARGE, KcmService, Responder
from ccfs.kcm.wire import MemoryBudget, PartialRequest, ProtocolError, TooLarge, size_of
from ccfs.ops import inodes
from ccfs.service.info import Owner
from ccfs.store import Limits
from reliability.fuzzing import Complaints, argument_parser, blocks, peak, resident
from tests.support import kcm, mounting
from tests.support.direct import UID, FileSystem
from tests.support.kcm import credential, lengthed, principal, request, tag, u32
from tests.support.kcm_fresh import check_cached
from tests.support.mounting import mounts
from tests.support.mutations import (
    big_endian,
    insert,
    insert_random,
    mutate,
    overwrite,
    remove,
    replace_byte,
    truncate,
)
from tests.support.storing import check

RUN = 1000
"""Messages of a run."""
GROWTH = 500
"""Blocks of memory that may come and go; a leak of one in each run of a long fuzz is more."""
LIMITS = Limits(ccaches=6, ccache_bytes=4096, total_bytes=16_384, events=50, handles=12)
REFUSALS = {int(code) for code in Code} - {Code.CC_WRITE}
SECONDS = 30.0

NUMBERS = big_endian(*(0, 1, 2, 4, 16, 0x7F, 0xFF, 0xFFFF, 1 << 16, 1 << 24, 1 << 31, 0xFFFFFFFF))
CHANGES = (
    replace_byte,
    overwrite(NUMBERS),
    remove((1, 2, 4, 16, 60)),
    insert_random((1, 4, 16)),
    truncate,
    insert((b"\0", b"\0" * 16, principal("alice@R"))),
)
SERVERS = ("krbtgt/R@R", "host/www@R", "host/x@S", "krb5_ccache_conf_data/fast_avail@X-CACHECONF:")


def names(uid: int) -> list[bytes]:
    """Names as clients send them, good and bad."""
    own = [b"", b":tkt", b":a", b":b", b":", b":tkt.x", b":" + b"n" * 300, b":a/b", b"x", b":\xff"]
    return [b"%d%s\0" % (uid, name) for name in own] + [b"\0", b"7:a\0", b"tkt\0"]


@dataclass
class Maker:
    """Makes messages; `uuids` are those that were seen in replies."""

    choose: random.Random
    uid: int
    uuids: list[bytes] = field(default_factory=list)

    def message(self) -> bytes:
        """One message from its length on, most often changed somewhere."""
        opcode = self.choose.choice(OPCODES)
        made = bytearray(request(opcode, *self._payload(opcode)))
        for _ in range(self.choose.choice((0, 0, 0, 1, 1, 2, 5))):
            mutate(made, self.choose, CHANGES)
        if self.choose.randrange(4):  # in step, whatever is in it
            made[:4] = struct.pack(">I", max(len(made) - 4, 0))
        return bytes(made)

    def _payload(self, opcode: int) -> list[bytes]:
        choose = self.choose
        name, uuid = self._name(), self._uuid()
        match opcode:
            case kcm.INITIALIZE:
                return [name, principal("alice@R")]
            case kcm.STORE:
                return [name, self._credential()]
            case kcm.RETRIEVE | kcm.REMOVE_CRED:
                return [name, u32(1 << choose.randrange(32)), self._tag()]
            case kcm.GET_CRED_BY_UUID:
                return [name, uuid]
            case kcm.MOVE_CACHE:
                return [name, self._name()]
            case kcm.GET_CACHE_BY_UUID:
                return [uuid]
            case kcm.SET_FLAGS | kcm.SET_KDC_OFFSET:
                return [name, choose.choice(NUMBERS)]
            case kcm.REPLACE:
                made = [lengthed(self._credential()) for _ in range(choose.randrange(4))]
                return [name, choose.choice(NUMBERS), principal("bob@R"), u32(len(made)), *made]
            case _:
                return [name]

    def _name(self) -> bytes:
        own = names(self.uid)
        return self.choose.choice(own if not self.choose.randrange(4) else own[:4])

    def _uuid(self) -> bytes:
        if self.uuids and self.choose.randrange(4):
            return self.choose.choice(self.uuids)
        return self.choose.randbytes(16)

    def _credential(self) -> bytes:
        choose = self.choose
        return credential(
            choose.choice(SERVERS),
            ticket=bytes(choose.choice((0, 1, 40, 700))),
            is_skey=choose.randrange(2),
            times=choose.choice(((1, 1, 2, 3), (0xFFFFFFFF, 0, 0, 0), (0, 0, 0, 0))),
            second=b"second" * choose.randrange(2),
            authdata=[(1, b"one")] * choose.randrange(3),
        )

    def _tag(self) -> bytes:
        choose = self.choose
        client = choose.choice((None, "alice@R", "bob@R"))
        some = choose.choice(({}, {"enctype": 18}, {"ticket": b"t", "second": b"second"}))
        return tag(choose.choice((None, *SERVERS)), client=client, **some)

    def learn(self, payload: bytes) -> None:
        """Take UUIDs from a reply."""
        if payload and len(payload) % 16 == 0:
            self.uuids = (self.uuids + kcm.uuids(payload))[-40:]


OPCODES = [*OPERATIONS, *OPERATIONS, kcm.STORE, kcm.STORE, kcm.INITIALIZE, kcm.REPLACE, 1, 24, 9999]


def pieces(data: bytes, choose: random.Random) -> Iterator[bytes]:
    """The bytes as they may come: mostly at once, sometimes one by one."""
    step = choose.choice((len(data), len(data), 1, 7, 100))
    return (data[at : at + step] for at in range(0, len(data), step or 1))


class Run:
    """One store, one client after the other."""

    def __init__(self, number: int) -> None:
        self.choose = random.Random(number)
        self.fs = FileSystem(limits=LIMITS)
        self.service = KcmService(self.fs.committer, Owner(UID, UID))
        self.maker = Maker(self.choose, UID)
        self.room = MemoryBudget(50_000)
        self.replies = 0
        self.last = b""

    def run(self, count: int) -> None:
        """Send `count` messages and see that all is well."""
        left = count
        while left:
            for _ in range(min(left, self.choose.choice((1, 5, 50)))):
                left -= 1
                if self._connection_ends():
                    break
        self._end()

    def _answer(self, peer: Responder, message: bytes) -> bytes:
        reply = peer.answer(message)
        check_cached(peer)
        return reply

    def _connection_ends(self) -> bool:
        """A connection with some messages; whether it was ended, by whomever."""
        peer = self.service.responder(UID, 1)
        assert peer is not None
        self.last = self.maker.message()
        data, whole = self.last, True
        try:
            while data:
                size = size_of(data)
                request, whole = self._take(data[: size or len(data)], size)
                if request is not None:
                    self._reply(
                        TOO_LARGE if isinstance(request, TooLarge) else self._answer(peer, request)
                    )
                data = data[size or len(data) :]
        except ProtocolError:
            return True
        return not whole

    def _take(self, data: bytes, size: int) -> tuple[bytes | TooLarge | None, bool]:
        """A request as it comes in pieces, and whether all of it has come."""
        if not size:
            return None, False
        taken = PartialRequest(size, 20_000, self.room)
        for piece in pieces(data, self.choose):
            taken.feed(piece)
        if not taken.missing:
            return taken.finish(), True
        taken.close()
        return None, False

    def _reply(self, data: bytes) -> None:
        self.replies += 1
        reply = kcm.split(data)
        assert reply.status == 0 or (reply.status in REFUSALS and not reply.payload), reply.status
        self.maker.learn(reply.payload)

    def _end(self) -> None:
        check(self.fs.file_system.store)
        assert self.room.available == 50_000
        for path in self.fs.all_paths():
            self.fs.stat(path)


def run(count: int, seed: int) -> None:
    """Send `count` messages; raises for the first that breaks something, and says which."""
    complaints = Complaints()
    logging.getLogger("ccfs").addHandler(complaints)
    runs, early, replies = -(-count // RUN), 0, 0
    for number in range(seed, seed + runs):
        one = Run(number)
        try:
            one.run(min(RUN, count - (number - seed) * RUN))
            assert not complaints.lines, complaints.lines
        except BaseException as error:
            error.add_note(f"seed {number}: {one.last.hex()}")
            raise
        replies += one.replies
        if number - seed == runs // 10:
            early = held()
        if (number - seed + 1) % 100 == 0:
            print(f"{(number - seed + 1) * RUN} messages, peak {peak()} KiB", flush=True)
    logging.getLogger("ccfs").removeHandler(complaints)
    grown = held() - early
    assert grown < GROWTH, f"{grown} blocks of memory were not given back"
    print(f"{count} messages, {replies} replies: all of the protocol; {grown} blocks more in use")


def held() -> int:
    """How many pieces of memory Python has in use, with nothing in the caches."""
    for one in gc.get_objects():
        if isinstance(one, functools._lru_cache_wrapper):
            one.cache_clear()
    inodes._REFS.clear()
    return blocks()


class Crowd:
    """Clients of a real server: some send what they like and vanish, one behaves and is served."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path = path
        self.choose = random.Random(seed)
        self.maker = Maker(self.choose, os.geteuid())
        self.clients: list[socket.socket] = []
        self.good = kcm.Client(path)

    def step(self) -> None:
        """Send one message from a client chosen at random."""
        choose = self.choose
        if len(self.clients) < 40 or not choose.randrange(30):
            self._connect()
        client = choose.choice(self.clients)
        try:
            for piece in pieces(self.maker.message(), choose):
                client.send(piece)
            if choose.randrange(3):
                self._drain(client)
        except BlockingIOError:
            self._drain(client)
        except ConnectionError:
            self._leave(client)
        if not choose.randrange(20):
            self._leave(choose.choice(self.clients))
        if not choose.randrange(50):
            reply = self.good.ask(kcm.GET_DEFAULT_CACHE)
            assert reply.status == 0, reply.status

    def close(self) -> None:
        """All leave."""
        for client in self.clients:
            client.close()
        self.good.close()

    def _connect(self) -> None:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(SECONDS)
        client.connect(str(self.path))
        client.setblocking(False)
        self.clients.append(client)

    def _drain(self, client: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while client.recv(65536):
                pass
            self._leave(client)

    def _leave(self, client: socket.socket) -> None:
        if client in self.clients:
            self.clients.remove(client)
        client.close()
        if not self.clients:
            self._connect()


def run_sockets(path: Path, pid: int, count: int, seed: int) -> None:
    """Send `count` messages to the daemon `pid`, which must not grow."""
    crowd, early = Crowd(path, seed), 0
    try:
        for number in range(count):
            crowd.step()
            if number == count // 4:
                early = resident(pid)
    finally:
        crowd.close()
    print(f"{count} messages on sockets: others served; resident {early} -> {resident(pid)} KiB")


def main() -> None:
    """The command line."""
    parser = argument_parser(__doc__, 1_000_000)
    parser.add_argument("--sockets", action="store_true")
    given = parser.parse_args()
    if not given.sockets:
        run(given.count, given.seed)
        return
    mounting.GUARD_SECONDS = 24 * 3600.0
    with mounts() as maker:
        path = maker.directory / "kcm"
        options = ("--max-ccache-size", "64K", "--max-total-size", "512K", "--max-ccaches", "20")
        mounted = maker.make("--no-journal", "--kcm-socket", str(path), *options)
        run_sockets(path, mounted.pid, given.count, given.seed)
        assert mounted.complaints() == [], mounted.complaints()


if __name__ == "__main__":
    main()
