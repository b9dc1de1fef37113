# SPDX-License-Identifier: MIT
"""KCM on real sockets, in this process: many clients, bad ones, slow ones, vanishing ones."""

import array
import contextlib
import itertools
import os
import resource
import select
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio

from ccfs.kcm import server as serving
from ccfs.kcm import wire
from ccfs.kcm.server import KcmServer
from ccfs.kcm.service import KcmService
from ccfs.service.info import Owner
from tests.support import kcm
from tests.support.direct import FileSystem
from tests.support.kcm import Reply, credential, lengthed, principal, request, split, tag, u32
from tests.support.storing import check

SECONDS = 60.0
ENDED = (EOFError, trio.BrokenResourceError)
"""What a client gets at the connection's end, without or with unread requests."""
NAME = b"%d:tkt\0" % os.geteuid()
ALICE = principal("alice@R")
REPLACE = request(kcm.REPLACE, NAME, u32(0), ALICE, u32(1), lengthed(credential()))


class ServedKcm:
    """A server over a store, and clients of it."""

    def __init__(self, directory: Path, **bounds: int) -> None:
        self.fs = FileSystem()
        self.path = str(directory / "kcm")
        limits: dict[str, int] = {"limit": 1 << 20, "budget": 1 << 22, **bounds}
        service = KcmService(self.fs.committer, Owner(os.geteuid(), 0))
        self.kcm = KcmServer(service, **limits)  # type: ignore[arg-type]

    async def connect(self) -> "Talk":
        return Talk(await trio.open_unix_socket(self.path))

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[trio.Nursery]:
        """Serve within a time limit."""
        with socket.socket(socket.AF_UNIX) as listener, trio.fail_after(SECONDS):
            listener.bind(self.path)
            listener.listen(128)
            self.kcm.open(listener)
            async with trio.open_nursery() as nursery:
                await nursery.start(self.kcm.run)
                yield nursery

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Serve within a time limit; afterwards no client is connected and no memory is held."""
        room = self.kcm.budget.available
        async with self.serve() as nursery:
            async with await self.connect() as talk:
                await talk.ask(REPLACE)
            yield
            await self.until(lambda: self.kcm.connections == 0)
            nursery.cancel_scope.cancel()
        self.kcm.close()
        assert self.kcm.budget.available == room
        check(self.fs.file_system.store)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Let the server do its work; `open` has the bound."""
        while not holds():
            await trio.sleep(0.001)


class Talk:
    """A client's side."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream

    async def __aenter__(self) -> "Talk":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stream.aclose()

    async def ask(self, message: bytes) -> Reply:
        await self.stream.send_all(message)
        return await self.receive()

    async def receive(self) -> Reply:
        head = await self.exactly(4)
        return split(head + await self.exactly(4 + struct.unpack(">I", head)[0]))

    async def exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = await self.stream.receive_some(size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data


Scene = Callable[[ServedKcm], Coroutine[Any, Any, None]]


def play(tmp_path: Path, scene: Scene, **bounds: int) -> ServedKcm:
    """Run a scene with a server."""
    served = ServedKcm(tmp_path, **bounds)

    async def run() -> None:
        async with served.open():
            await scene(served)

    trio.run(run)
    return served


def test_connection_serves_many_requests(tmp_path: Path) -> None:
    async def scene(served: ServedKcm) -> None:
        async with await served.connect() as talk:
            for _ in range(50):
                reply = await talk.ask(request(kcm.GET_PRINCIPAL, NAME))
                assert reply == Reply(0, ALICE)

    play(tmp_path, scene)


def test_request_arriving_byte_by_byte_is_answered(tmp_path: Path) -> None:
    async def scene(served: ServedKcm) -> None:
        async with await served.connect() as talk, await served.connect() as other:
            for byte in REPLACE:
                await talk.stream.send_all(bytes([byte]))
                assert (await other.ask(request(kcm.NOOP))).status == 0
            assert (await talk.receive()).status == 0

    play(tmp_path, scene)


def test_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    """Clients don't do that, but the replies come in order; others have their turn."""
    messages = [request(kcm.NOOP), request(kcm.GET_PRINCIPAL, NAME), request(99)] * 200

    async def scene(served: ServedKcm) -> None:
        async with await served.connect() as talk:
            await talk.stream.send_all(b"".join(messages))
            for number in range(len(messages)):
                wanted = [Reply(0, b""), Reply(0, ALICE), Reply(kcm.INTERNAL, b"")]
                assert await talk.receive() == wanted[number % 3]

    play(tmp_path, scene)


def test_pipelined_requests_wait_for_unsent_reply(tmp_path: Path) -> None:
    """Whatever the kernel takes of a reply, what comes behind its request waits for it."""

    async def scene(served: ServedKcm) -> None:
        await fill(served, 3, size=100_000)
        messages = [request(kcm.GET_CRED_LIST, NAME), request(kcm.NOOP), REPLACE] * 2
        data = b"".join(messages) + request(kcm.GET_PRINCIPAL, NAME)
        async with await served.connect() as talk:
            await talk.stream.send_all(data[:-5])
            replies = [await talk.receive() for _ in messages]
            await talk.stream.send_all(data[-5:])
            assert await talk.receive() == Reply(0, ALICE)
        assert {reply.status for reply in replies} == {0}
        assert [len(kcm.entries(replies[number].payload)) for number in (0, 3)] == [4, 1]
        assert [replies[number].payload for number in (1, 2, 4, 5)] == [b""] * 4

    play(tmp_path, scene)


def test_pipelined_requests_leave_turns_to_tasks(tmp_path: Path) -> None:
    """Between two of them all others have their turn: clients, and tasks that are none."""
    count = 400

    async def scene(served: ServedKcm) -> None:
        requests, seen = served.fs.committer.requests, [0]

        async def watch() -> None:
            while seen[-1] < count:
                await trio.lowlevel.checkpoint()
                seen.append(requests["kcm_noop"])

        async with await served.connect() as talk, await served.connect() as other:
            await other.ask(request(kcm.GET_PRINCIPAL, NAME))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                await talk.stream.send_all(request(kcm.NOOP) * count)
                await other.ask(request(kcm.GET_PRINCIPAL, NAME))
                assert requests["kcm_noop"] < count // 4
                for _ in range(count):
                    assert await talk.receive() == Reply(0, b"")
        assert max(after - before for before, after in pairwise(seen)) <= 2

    play(tmp_path, scene)


class Hand:
    """A server whose calls are the test's, and its clients' ends of sockets."""

    def __init__(self, stack: contextlib.ExitStack, *, most: int = 100) -> None:
        self.fs = FileSystem()
        service = KcmService(self.fs.committer, Owner(os.geteuid(), 0))
        self.kcm = KcmServer(service, limit=1 << 20, budget=1 << 22, max_connections=most)
        self._stack = stack

    def connect(self, data: bytes = b"") -> socket.socket:
        """A client who has written `data`."""
        ours, theirs = socket.socketpair()
        self._stack.enter_context(ours).setblocking(False)
        self.kcm.serve_connection(theirs)
        ours.sendall(data)
        return ours

    @property
    def answered(self) -> int:
        """How many NOOPs."""
        return self.fs.committer.requests["kcm_noop"]

    def answer(self) -> None:
        """Answer until no request is left."""
        for _ in range(10_000):
            if not self.kcm.answer_all():
                return
        pytest.fail("requests without end")

    def is_idle(self) -> bool:
        ready = select.select([self.kcm], [], [], 0)[0]
        return not ready and self.kcm.answer_all() == 0

    def end(self) -> None:
        """Check that no client is connected, no memory is held and no request is left."""
        assert self.kcm.connections == 0
        assert self.kcm.budget.available == 1 << 22
        assert self.is_idle()


@pytest.fixture
def hand() -> Iterator[Hand]:
    with contextlib.ExitStack() as stack:
        yield Hand(stack)


NOOPS = request(kcm.NOOP) * 100
DONE = struct.pack(">Iii", 4, 0, 0)


def received(client: socket.socket) -> int:
    """How many replies to NOOP have come."""
    data = b""
    with contextlib.suppress(BlockingIOError):
        data = client.recv(1 << 16)
    assert data == DONE * (len(data) // len(DONE))
    return len(data) // len(DONE)


def test_answer_all_takes_one_request_per_connection(hand: Hand) -> None:
    """One request of each pipelining client; a new client is answered in the same call."""
    many, more, other = hand.connect(NOOPS), hand.connect(NOOPS * 2), hand.connect()
    for _ in range(100):
        other.sendall(request(kcm.NOOP))
        assert 1 <= hand.kcm.answer_all() <= 3
        while not received(other):
            assert hand.kcm.answer_all()
        assert received(many) <= 2
        assert received(more) <= 2
    hand.answer()
    assert hand.answered == 400
    assert hand.is_idle()


def test_answer_all_alternates_between_connections(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take turns; and one call is over after its time, with one turn at least."""
    monkeypatch.setattr(serving, "TURN_SECONDS", 0.0)
    many, other = hand.connect(NOOPS * 10), hand.connect()
    for _ in range(400):
        other.sendall(request(kcm.NOOP))
        assert [hand.kcm.answer_all() for _ in range(2)] == [1, 1]
        assert received(many) == received(other) == 1


def test_answer_all_serves_all_with_any_patience(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "TURN_SECONDS", 0.0)
    clients = [hand.connect(request(kcm.NOOP)) for _ in range(40)]
    for number in range(1, 41):
        assert hand.kcm.answer_all() == 1
        assert hand.answered == number
    assert [received(client) for client in clients] == [1] * 40
    assert hand.is_idle()


@pytest.mark.parametrize("many", [0, 1, 20, 39, 40])
def test_answer_all_starves_no_connection(
    hand: Hand, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    """Of forty clients who never stop asking, some of them many things at once."""
    monkeypatch.setattr(serving, "TURN_SECONDS", 0.0)
    clients = [hand.connect(NOOPS if number < many else b"") for number in range(40)]
    turns = [0] * 40
    for client in clients[many:]:
        client.sendall(request(kcm.NOOP))
    for _ in range(40 * 12):
        assert hand.kcm.answer_all() == 1
        for number, client in enumerate(clients):
            if received(client):
                turns[number] += 1
                client.sendall(request(kcm.NOOP))
    assert sum(turns) == 40 * 12
    assert min(turns) >= 6


def test_answer_all_checks_clock_between_connections(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock on which each look takes two fifths of the time there is."""
    ticks = itertools.count(0.0, serving.TURN_SECONDS * 0.4)
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
    for _ in range(10):
        hand.connect(request(kcm.NOOP))
    assert [hand.kcm.answer_all() for _ in range(5)] == [3, 3, 3, 1, 0]


@pytest.mark.parametrize("others", [0, 3])
def test_pipelined_requests_of_closed_connection_are_dropped(hand: Hand, others: int) -> None:
    """The other requests are not carried out: no client would get their replies."""
    clients = [hand.connect(NOOPS) for _ in range(1 + others)]
    for _ in range(5):
        hand.kcm.answer_all()
    before = hand.answered
    assert before < 100
    for client in clients:
        client.close()
    hand.answer()
    assert hand.answered <= before + len(clients)
    hand.end()


@pytest.mark.parametrize("size", [1, 3, 4, 6, 7])
def test_partial_request_is_not_polled(hand: Hand, size: int) -> None:
    """A client with an incomplete request counts as waiting for none."""
    client = hand.connect((request(kcm.NOOP) * 2)[: 8 + size])
    hand.answer()
    assert received(client) == 1
    assert hand.is_idle()
    client.sendall(request(kcm.NOOP)[size:])
    hand.answer()
    assert received(client) == 1
    client.close()
    hand.answer()
    hand.end()


def test_unsent_reply_is_not_polled(hand: Hand) -> None:
    client = hand.connect(REPLACE)
    for number in range(3):
        made = credential(f"h{number}@R", ticket=bytes(100_000))
        client.sendall(request(kcm.STORE, NAME, made))
        hand.answer()
    assert received(client) == 4
    client.sendall(request(kcm.GET_CRED_LIST, NAME) + request(kcm.NOOP))
    hand.answer()
    assert hand.answered == 0
    assert hand.is_idle()
    client.close()
    hand.answer()
    hand.end()


def test_half_closed_client_is_answered(hand: Hand) -> None:
    client = hand.connect(NOOPS)
    client.shutdown(socket.SHUT_WR)
    hand.answer()
    assert received(client) == 100
    assert client.recv(1) == b""
    hand.end()


@pytest.mark.parametrize("patience", [0.0, 60.0])
def test_connection_replaced_while_pipelining_is_closed(
    monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    """Also one whose turn was to be next: the newcomers, with its descriptor, are served."""
    monkeypatch.setattr(serving, "TURN_SECONDS", patience)
    with contextlib.ExitStack() as stack:
        hand = Hand(stack, most=3)
        gone = [hand.connect(NOOPS) for _ in range(3)]
        for _ in range(4):
            hand.kcm.answer_all()
        before = hand.answered
        come = [hand.connect() for _ in range(3)]
        assert hand.kcm.connections == 3
        hand.answer()
        assert hand.answered == before
        assert sum(received(client) for client in gone) == before
        assert hand.is_idle()
        for client in come:
            client.sendall(request(kcm.NOOP))
        hand.answer()
        assert [received(client) for client in come] == [1, 1, 1]
        for client in come:
            client.close()
        hand.answer()
        hand.end()


def test_malformed_data_behind_requests_ends_connection(hand: Hand) -> None:
    """Requests before it are answered, requests behind it are not."""
    client = hand.connect(request(kcm.NOOP) * 3 + b"\0\0\0\0" + request(kcm.NOOP) * 3)
    hand.answer()
    assert received(client) == 3
    hand.end()


def test_clients_closing_at_every_byte_change_nothing(tmp_path: Path) -> None:
    """Nothing is changed by what is not complete."""

    async def scene(served: ServedKcm) -> None:
        before = served.fs.lines()
        for size in range(len(REPLACE)):
            async with await served.connect() as talk:
                await talk.stream.send_all(REPLACE[:size])
        await served.until(lambda: served.kcm.connections == 0)
        assert served.fs.lines() == before

    play(tmp_path, scene)


def test_request_of_client_closed_before_reply_is_done(tmp_path: Path) -> None:
    """The request is carried out; its reply is dropped."""

    async def scene(served: ServedKcm) -> None:
        await fill(served, 3)
        for _ in range(30):
            async with await served.connect() as talk:
                await talk.stream.send_all(request(kcm.GET_CRED_LIST, NAME) * 3)
        async with await served.connect() as talk:
            await talk.stream.send_all(request(kcm.INITIALIZE, NAME, principal("bob@R")))
        await served.until(lambda: served.kcm.connections == 0)
        assert served.fs.read("caches/tkt/principal") == b"bob@R\n"

    play(tmp_path, scene)


async def fill(served: ServedKcm, count: int, size: int = 300_000) -> None:
    """Have credentials of `size` bytes in the ccache."""
    async with await served.connect() as talk:
        for number in range(count):
            made = credential(f"h{number}@R", ticket=bytes(size))
            assert (await talk.ask(request(kcm.STORE, NAME, made))).status == 0


@pytest.mark.parametrize(
    "data",
    [
        request(kcm.NOOP).replace(b"\2\0", b"\1\0", 1),
        b"\0\0\0\0",
        b"\0\0\0\3\2\0\0",
        b"GET " + bytes(10),
    ],
)
def test_malformed_data_ends_connection(tmp_path: Path, data: bytes) -> None:
    """It is closed, or never becomes a request; others are served."""

    async def scene(served: ServedKcm) -> None:
        async with await served.connect() as talk, await served.connect() as other:
            await talk.stream.send_all(data)
            if not data.startswith(b"GET"):
                with pytest.raises(ENDED):
                    await talk.receive()
            assert (await other.ask(request(kcm.NOOP))).status == 0

    play(tmp_path, scene)


def test_oversized_request_is_refused_and_connection_stays(tmp_path: Path) -> None:
    """It is answered, once all of it has come, and the connection stays."""

    async def scene(served: ServedKcm) -> None:
        async with await served.connect() as talk:
            large = request(kcm.STORE, NAME, bytes(3 << 20))
            assert await talk.ask(large) == Reply(kcm.NOMEM, b"")
            assert (await talk.ask(request(kcm.NOOP))).status == 0

    play(tmp_path, scene)


def test_megabyte_credential_is_stored_and_read(tmp_path: Path) -> None:
    async def scene(served: ServedKcm) -> None:
        async with await served.connect() as talk:
            large = credential("large@R", ticket=os.urandom(1 << 20))
            assert (await talk.ask(request(kcm.STORE, NAME, large))).status == 0
            reply = await talk.ask(request(kcm.RETRIEVE, NAME, u32(1), tag("large@R")))
            assert reply == Reply(0, large)
            listing = await talk.ask(request(kcm.GET_CRED_LIST, NAME))
            assert kcm.entries(listing.payload) == [credential(), large]

    play(tmp_path, scene, limit=2 << 20, budget=8 << 20)


def test_unread_replies_are_bounded(tmp_path: Path) -> None:
    """Their replies are bounded, and others wait for none of them."""

    async def scene(served: ServedKcm) -> None:
        await fill(served, 3)
        asked = request(kcm.GET_CRED_LIST, NAME)
        async with contextlib.AsyncExitStack() as stack:
            slow = [await stack.enter_async_context(await served.connect()) for _ in range(8)]
            for talk in slow:
                await talk.stream.send_all(asked * 2)
            await served.until(lambda: served.kcm.budget.available < 900_000)
            async with await served.connect() as other:
                for _ in range(20):
                    assert (await other.ask(request(kcm.GET_PRINCIPAL, NAME))).status == 0
                assert await other.ask(asked) == Reply(kcm.NOMEM, b"")
            codes = [(await talk.receive()).status for talk in slow for _ in range(2)]
            assert codes.count(0) >= 4
            assert set(codes) <= {0, kcm.NOMEM}
            async with await served.connect() as other:
                assert (await other.ask(asked)).status == 0

    play(tmp_path, scene)


def test_client_that_never_reads_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "STALL_SECONDS", 0.05)

    async def scene(served: ServedKcm) -> None:
        await fill(served, 3)
        async with await served.connect() as talk:
            await talk.stream.send_all(request(kcm.GET_CRED_LIST, NAME))
            await served.until(lambda: served.kcm.connections == 0)
            with pytest.raises(ENDED):
                await talk.receive()

    play(tmp_path, scene)


@pytest.mark.parametrize("sent", [1, 4, 8, 100])
def test_client_that_never_completes_request_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: int
) -> None:
    """Its memory is given back to the budget, and quiet connections stay."""
    monkeypatch.setattr(serving, "STALL_SECONDS", 0.05)
    large = request(kcm.STORE, NAME, bytes(500_000))

    async def scene(served: ServedKcm) -> None:
        room = served.kcm.budget.available
        async with await served.connect() as quiet, await served.connect() as talk:
            await quiet.ask(request(kcm.NOOP))
            await talk.stream.send_all(large[:sent])
            with pytest.raises(ENDED):
                await talk.receive()
            await served.until(lambda: served.kcm.budget.available == room)
            assert served.kcm.connections == 1
            assert (await quiet.ask(request(kcm.NOOP))).status == 0

    play(tmp_path, scene)


def test_thousand_connections_are_served(tmp_path: Path) -> None:
    """All of them stay, and each is served."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2200:
        pytest.skip(f"the limit of open files is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2200), hard))

    async def scene(served: ServedKcm) -> None:
        async with contextlib.AsyncExitStack() as stack:
            talks = [await stack.enter_async_context(await served.connect()) for _ in range(1000)]
            for _ in range(2):
                for talk in talks:
                    await talk.stream.send_all(request(kcm.GET_PRINCIPAL, NAME))
                for talk in talks:
                    assert await talk.receive() == Reply(0, ALICE)
            assert served.kcm.connections == 1000

    try:
        play(tmp_path, scene)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_connection_over_limit_replaces_quietest(tmp_path: Path) -> None:
    async def scene(served: ServedKcm) -> None:
        async with contextlib.AsyncExitStack() as stack:
            talks = [await stack.enter_async_context(await served.connect()) for _ in range(3)]
            for talk in talks:
                await talk.ask(request(kcm.NOOP))
            await talks[0].ask(request(kcm.NOOP))
            async with await served.connect() as more:
                assert (await more.ask(request(kcm.NOOP))).status == 0
                with pytest.raises(EOFError):
                    await talks[1].receive()
                for talk in (talks[0], talks[2]):
                    assert (await talk.ask(request(kcm.NOOP))).status == 0

    play(tmp_path, scene, max_connections=3)


def test_passed_connection_is_served_with_peer_credentials(tmp_path: Path) -> None:
    """By SCM_RIGHTS, through another socket; the kernel still says who has connected."""

    async def scene(served: ServedKcm) -> None:
        ours, theirs = socket.socketpair()
        giver, taker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs, giver, taker:
            descriptors = array.array("i", [theirs.fileno()])
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors.tobytes())]
            giver.sendmsg([b"kcm"], rights)
            _, handed, _, _ = socket.recv_fds(taker, 16, 1)
            served.kcm.serve_connection(socket.socket(fileno=handed[0]))
            theirs.close()
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
            assert await Talk(stream).ask(request(kcm.GET_PRINCIPAL, NAME)) == Reply(0, ALICE)
            await stream.aclose()

    play(tmp_path, scene)


def test_closed_connection_is_unwatched_while_passer_has_socket(tmp_path: Path) -> None:
    """The epoll would go on telling of it: it watches what is open anywhere."""
    served = ServedKcm(tmp_path)

    async def run() -> None:
        with trio.fail_after(SECONDS):
            async with trio.open_nursery() as nursery:
                await nursery.start(served.kcm.run)
                ours, given = socket.socketpair()
                with given:
                    served.kcm.serve_connection(given.dup())
                    ours.close()
                    await served.until(lambda: served.kcm.connections == 0)
                    assert select.select([served.kcm], [], [], 0) == ([], [], [])
                    served.kcm.answer_all()
                nursery.cancel_scope.cancel()

    trio.run(run)


def test_client_of_other_uid_is_closed(tmp_path: Path) -> None:
    """Without an answer: there is nothing for them here."""
    served = ServedKcm(tmp_path)
    served.kcm = KcmServer(
        KcmService(served.fs.committer, Owner(os.geteuid() + 1, 0)), limit=1000, budget=1000
    )

    async def run() -> None:
        async with served.serve() as nursery:
            async with await served.connect() as talk:
                with pytest.raises(ENDED):
                    await talk.ask(request(kcm.NOOP))
            assert served.kcm.connections == 0
            nursery.cancel_scope.cancel()

    trio.run(run)


def test_exception_ends_one_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    is_one_request, fatal = wire.is_one_request, request(98)

    def broken(data: bytes) -> bool:
        if data == fatal:
            raise ValueError("a secret that must not be seen")
        return is_one_request(data)

    monkeypatch.setattr(wire, "is_one_request", broken)

    async def scene(served: ServedKcm) -> None:
        async with await served.connect() as talk, await served.connect() as other:
            await talk.stream.send_all(fatal)
            with pytest.raises(ENDED):
                await talk.receive()
            assert (await other.ask(request(kcm.NOOP))).status == 0

    play(tmp_path, scene)
    assert "a connection failed: ValueError" in caplog.text
    assert "secret" not in caplog.text


def test_emfile_closes_quietest_connection(tmp_path: Path) -> None:
    """accept(2) fails with EMFILE: the quietest connection is closed, the next client served."""

    async def scene(served: ServedKcm) -> None:
        async with await served.connect() as first:
            await first.ask(request(kcm.NOOP))
            client = socket.socket(socket.AF_UNIX)
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            with client:
                client.setblocking(False)
                full: list[int] = []
                resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")), hard))
                try:
                    with contextlib.suppress(OSError):
                        while True:
                            full.append(os.dup(0))
                    client.connect(served.path)
                    with pytest.raises(EOFError):
                        await first.receive()
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                    for descriptor in full:
                        os.close(descriptor)
                stream = trio.SocketStream(trio.socket.from_stdlib_socket(client))
                assert (await Talk(stream).ask(request(kcm.NOOP))).status == 0
                await stream.aclose()

    play(tmp_path, scene)
