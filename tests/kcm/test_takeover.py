# SPDX-License-Identifier: MIT
"""A daemon is killed at every instruction of a request, and another goes on with the connection.

Each is a process of its own that serves one end of a connection with a real journal.  The client
must see the right answers, each once, whatever the first one had done.
"""

import contextlib
import itertools
import logging
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from logging import FileHandler
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import ccfs
from ccfs.journal.journal import Journal
from ccfs.kcm.request_progress import RequestProgress
from ccfs.kcm.server import KcmServer
from ccfs.kcm.service import KcmService
from ccfs.linux.message_counts import Counted
from ccfs.service.commit import Committer
from ccfs.service.info import Owner
from ccfs.store import Client, Limits, Stamp, Store
from ccfs.takeover.handover import Handover
from tests.support import kcm
from tests.support.direct import MOUNT, NOW
from tests.support.kcm import credential, request, tag, u32

UID = os.geteuid()
NAME = b"%d:tkt\0" % UID
FIRST, OTHER, LARGE = credential("first@R"), credential("other@R"), credential(ticket=bytes(90_000))
SECONDS = 20.0
ROOT = os.path.dirname(ccfs.__file__)
BY_OPCODE = (
    "kcm/connection.py",
    "kcm/request_progress.py",
    "kcm/server.py",
    "linux/message_counts.py",
)
"""Where it is killed before each opcode of Python's; elsewhere before each line."""

STORE = request(kcm.STORE, NAME, OTHER)
REMOVE = request(kcm.REMOVE_CRED, NAME, u32(1), tag("first@R"))
LIST = request(kcm.GET_CRED_LIST, NAME)
DEFAULT = request(kcm.GET_DEFAULT_CACHE)
DONE = struct.pack(">Iii", 4, 0, 0)


def listed(*records: bytes) -> bytes:
    """The reply to GET_CRED_LIST."""
    payload = u32(len(records)) + b"".join(map(kcm.lengthed, records))
    return struct.pack(">Iii", 4 + len(payload), 0, 0) + payload


class Killer:
    """Kills this process at one of many instructions, in the order in which they come."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(ROOT):
            return None
        frame.f_trace_opcodes = frame.f_code.co_filename.endswith(BY_OPCODE)
        frame.f_trace_lines = not frame.f_trace_opcodes
        return self.step

    def step(self, frame: FrameType, event: str, _: Any) -> Any:
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.step


@dataclass
class KcmConnection:
    """What outlives a daemon: its journal, its handover page, and the connection."""

    journal: Path
    handover: Handover
    client: socket.socket
    kept: socket.socket

    def daemon(self, kill_at: int = 0, prepare: Callable[[], None] = lambda: None) -> int:
        """Fork one, to be killed at an instruction; 0: not at all."""
        pid = os.fork()
        if pid == 0:
            try:
                self._serve(kill_at, prepare)
            finally:
                os._exit(1)
        return pid

    def _serve(self, kill_at: int, prepare: Callable[[], None]) -> None:
        prepare()
        server = KcmServer(
            KcmService(self.committer(), Owner(UID, os.getegid())),
            limit=1 << 20,
            budget=1 << 22,
            takes_over=True,
        )
        server.serve_connection(self.kept.dup())
        if kill_at:
            sys.settrace(Killer(kill_at))
        server.start()
        while select.select([server], [], [], 0 if kill_at else None)[0]:
            server.answer_all()
        os._exit(0)

    def committer(self) -> Committer:
        """Open the journal as a daemon does."""
        at, fresh = Stamp(NOW, Client(UID, 1, "ccfs")), not self.journal.exists()
        journal = Journal(str(self.journal), fresh=fresh)
        if fresh:
            store = Store(Limits(), at)
            journal.create(MOUNT, UID, store)
        else:
            store = Store(Limits(), at, journal.load(MOUNT, UID))
        return Committer(store, journal=journal, handover=self.handover)

    def receive(self, size: int) -> bytes:
        """So many bytes of replies; fewer at the end of the connection."""
        data = b""
        while len(data) < size and (piece := self.client.recv(size - len(data))):
            data += piece
        return data

    def ask(self, message: bytes, reply: bytes) -> None:
        """Ask something, and see that the answer is this and nothing else."""
        self.client.sendall(message)
        assert self.receive(len(reply)) == reply


@contextlib.contextmanager
def kcm_connection(directory: Path) -> Iterator[KcmConnection]:
    """A ccache with one credential, and no daemon yet."""
    client, kept = socket.socketpair()
    client.settimeout(SECONDS)
    with client, kept:
        made = KcmConnection(directory / "journal", Handover(), client, kept)
        pid = made.daemon()
        records = [kcm.lengthed(FIRST)]
        replace = request(kcm.REPLACE, NAME, u32(0), kcm.principal("alice@R"), u32(1), *records)
        made.ask(replace, DONE)
        end(pid)
        yield made
    made.journal.unlink()
    os.close(made.handover.descriptor)


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def was_killed(pid: int) -> bool:
    """Whether a daemon was killed; False where it had nothing to do any more."""
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


CASES = {
    "store": (STORE, DONE, [FIRST, OTHER]),
    "remove": (REMOVE, DONE, []),
    "read": (DEFAULT, struct.pack(">Iii", 4 + len(NAME), 0, 0) + NAME, [FIRST]),
    "many at once": (STORE + REMOVE + LIST + STORE, DONE * 2 + listed(OTHER) + DONE, None),
    "refused": (
        request(kcm.STORE, b"%d:none\0" % UID, OTHER),
        struct.pack(">Iii", 4, 0, kcm.NOFILE),
        [FIRST],
    ),
}
STRIDE = int(os.environ.get("CCFS_KILL_STRIDE", "23"))
"""Every so manieth instruction; all of them take some minutes."""


@pytest.mark.parametrize("case", CASES)
def test_daemon_killed_at_any_instruction_does_request_once(tmp_path: Path, case: str) -> None:
    message, reply, records = CASES[case]
    for number in itertools.count(1, STRIDE):
        with kcm_connection(tmp_path) as here:
            here.client.sendall(message)
            killed = was_killed(here.daemon(number))
            second = here.daemon()
            try:
                assert here.receive(len(reply)) == reply, number
                if records is not None:
                    here.ask(LIST, listed(*records))
                here.ask(DEFAULT, CASES["read"][1])
            finally:
                end(second)
        if not killed:
            break
    assert number > 300


def dying_after(owner: type, method: str) -> Callable[[], None]:
    """Have a process killed as soon as a method has returned."""
    real = getattr(owner, method)

    def deadly(self: object, *args: Any) -> None:
        real(self, *args)
        os.kill(os.getpid(), signal.SIGKILL)

    return lambda: setattr(owner, method, deadly)


AFTER = {
    "commit": dying_after(Journal, "commit"),
    "send": dying_after(Counted, "send"),
    "take out": dying_after(Counted, "take_out"),
}


@pytest.mark.parametrize("point", AFTER)
def test_daemon_killed_during_takeover_does_request_once(tmp_path: Path, point: str) -> None:
    """At any instruction of its taking over."""
    for number in itertools.count(1, STRIDE):
        with kcm_connection(tmp_path) as here:
            here.client.sendall(REMOVE)
            assert was_killed(here.daemon(10**9, AFTER[point]))
            killed = was_killed(here.daemon(number))
            third = here.daemon()
            try:
                assert here.receive(len(DONE)) == DONE
                here.ask(LIST, listed())
            finally:
                end(third)
        if not killed:
            break
    assert number > 20


@pytest.mark.parametrize("deaths", [1, 2])
def test_request_that_kills_twice_ends_its_connection(tmp_path: Path, deaths: int) -> None:
    """It is tried twice, and then its connection ends."""
    said = tmp_path / "log"
    die = dying_after(RequestProgress, "begin")
    with kcm_connection(tmp_path) as here:
        here.client.sendall(STORE)
        for _ in range(deaths):
            assert was_killed(here.daemon(10**9, die))
        last = here.daemon(prepare=lambda: logging.getLogger().addHandler(FileHandler(said)))
        try:
            if deaths == 1:
                here.ask(LIST, DONE + listed(FIRST, OTHER))
            else:
                assert here.receive(1) == b""
        finally:
            end(last)
    refused = "two daemons have died on a KCM request (opcode 6), it is refused\n"
    assert said.read_text() == refused * (deaths - 1)


@pytest.mark.parametrize("cut", [1, 4, 8, 100, len(STORE) - 1])
def test_partial_request_survives_daemon(tmp_path: Path, cut: int) -> None:
    """The bytes that have arrived stay in the socket."""
    with kcm_connection(tmp_path) as here:
        here.client.sendall(STORE[:cut])
        for _ in range(3):
            assert not was_killed(here.daemon(kill_at=10**9))
        last = here.daemon()
        here.ask(STORE[cut:], DONE)
        here.ask(LIST, listed(FIRST, OTHER))
        end(last)


def test_oversized_partial_request_is_lost_with_daemon(tmp_path: Path) -> None:
    """The beginning of a request that fits into no socket: the client hears that it is lost."""
    large = request(kcm.STORE, NAME, credential(ticket=bytes(500_000)))
    with kcm_connection(tmp_path) as here:
        here.client.sendall(large[:100_000])
        assert not was_killed(here.daemon(kill_at=10**9))
        last = here.daemon()
        assert here.receive(1) == b""
        end(last)
