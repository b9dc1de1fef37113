# SPDX-License-Identifier: MIT
"""What a step takes in the daemon, without a kernel: `python -m bench.steps [--seconds S]`.

Handlers are called as pyfuse3 calls them, KCM requests come by a socket pair, and the journal is a
file on /dev/shm.  Each figure is the lowest median of a turn, in microseconds: of all that the
daemon does for the operation, and of the commit of its last step.  To compare two versions run it
in the worktree of each, a few times in turn.

This file knows handlers and KCM requests; never what is inside of a step.
"""

import argparse
import contextlib
import os
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import pyfuse3

from bench import credentials
from bench.work import wire
from ccfs.journal.journal import Journal
from ccfs.kcm.server import KcmServer
from ccfs.kcm.service import KcmService
from ccfs.service.info import Owner
from ccfs.store import Store
from ccfs.store.effects import Effects
from tests.support.direct import UID, Caller, FileSystem

SIZE = 42
PREFIX = credentials.ccache(0)
RECORDS = [credentials.credential(credentials.server(number)) for number in range(SIZE + 20)]
LENGTH = len(RECORDS[0])
PRINCIPAL = credentials.principal(credentials.NT_PRINCIPAL, credentials.CLIENT)
NAME = b"%d:kcm\0" % UID


class Steps:
    """A file system with a journal, a KCM connection to it, and the seconds of its commits."""

    def __init__(self, directory: str) -> None:
        self.fs, self.caller = FileSystem(root=True), Caller(pid=os.getpid())
        self.fs.committer.clock = time.time
        self.commits: list[float] = []
        journal = Journal(f"{directory}/journal", fresh=True)
        journal.create("/mount", UID, self.fs.file_system.store)
        self._commit = journal.commit
        journal.commit = self._timed  # type: ignore[method-assign]
        self.fs.committer.journal = journal
        self._kcm = KcmServer(
            KcmService(self.fs.committer, Owner(UID, UID, root=True)), limit=1 << 20, budget=1 << 22
        )
        self._client, theirs = socket.socketpair()
        self._kcm.serve_connection(theirs)
        caches = self.fs.walk("caches", self.caller)
        self._ccache = self.call("mkdir", caches, b"bench", 0o700, self.caller).st_ino

    def _timed(self, store: Store, effects: Effects) -> None:
        began = time.perf_counter()
        self._commit(store, effects)
        self.commits.append(time.perf_counter() - began)

    def call(self, handler: str, *arguments: object) -> Any:
        """Call a handler."""
        return self.fs.call(handler, *arguments)

    def request(self, opcode: int, payload: bytes) -> None:
        """One KCM request and its reply."""
        self._client.send(struct.pack(">IBBH", 4 + len(payload), 2, 0, opcode) + payload)
        self._kcm.answer_all()
        assert self._client.recv(1 << 20)[:12] == bytes((0, 0, 0, 4, *bytes(8)))

    def write(self, directory: int, name: bytes, data: bytes, flags: int) -> None:
        """Create a file, write to it, close it."""
        handle = self.call("create", directory, name, 0o600, flags, self.caller)[0].fh
        self.call("write", handle, 0, data)
        self.call("release", handle)

    def fill(self) -> None:
        """Have SIZE credentials in the ccache."""
        self.make_empty()
        for number in range(SIZE):
            self.append(number)

    def make_empty(self) -> None:
        """What libkrb5 does to initialize a ccache."""
        with contextlib.suppress(pyfuse3.FUSEError):
            self.call("unlink", self._ccache, b"ccache", self.caller)
        self.write(self._ccache, b"ccache", PREFIX, os.O_WRONLY | os.O_CREAT)

    def append(self, number: int) -> None:
        """What libkrb5 does to store the credential of a number, the last one so far."""
        found = self.call("lookup", self._ccache, b"ccache", self.caller).st_ino
        handle = self.call("open", found, os.O_RDWR | os.O_APPEND, self.caller).fh
        self.call("write", handle, len(PREFIX) + number * LENGTH, RECORDS[number])
        self.call("release", handle)

    def store(self) -> Iterator[Callable[[], object]]:
        """Append to the file `ccache`."""
        self.fill()
        return (partial(self.append, number) for number in range(SIZE, len(RECORDS)))

    def initialize(self) -> Iterator[Callable[[], object]]:
        """Unlink the file `ccache`, and make an empty one."""
        for _ in range(3):
            self.fill()
            yield self.make_empty

    def remove(self) -> Iterator[Callable[[], object]]:
        """Unlink a file in `credentials/`."""
        self.fill()
        directory = self.call("lookup", self._ccache, b"credentials", self.caller).st_ino
        for name in list(self.fs.entries("caches/bench/credentials"))[: SIZE // 2]:
            yield partial(self.call, "unlink", directory, name, self.caller)

    def new_file(self) -> Iterator[Callable[[], object]]:
        """Write a new file in `credentials/`."""
        self.fill()
        directory = self.call("lookup", self._ccache, b"credentials", self.caller).st_ino
        for number in range(SIZE, len(RECORDS)):
            name, flags = b"new%d" % number, os.O_WRONLY | os.O_CREAT
            yield partial(self.write, directory, name, RECORDS[number], flags)

    def kcm_store(self) -> Iterator[Callable[[], object]]:
        """A STORE of KCM."""
        self.fill_by_kcm()
        for record in RECORDS[SIZE:]:
            yield partial(self.request, wire.STORE, NAME + record)

    def kcm_initialize(self) -> Iterator[Callable[[], object]]:
        """An INITIALIZE of KCM."""
        for _ in range(3):
            self.fill_by_kcm()
            yield partial(self.request, wire.INITIALIZE, NAME + PRINCIPAL)

    def fill_by_kcm(self) -> None:
        """Have SIZE credentials in the ccache of KCM's requests."""
        self.request(wire.INITIALIZE, NAME + PRINCIPAL)
        for record in RECORDS[:SIZE]:
            self.request(wire.STORE, NAME + record)


Operations = Iterator[Callable[[], object]]
WORKS: tuple[Callable[[Steps], Operations], ...] = (
    Steps.store,
    Steps.initialize,
    Steps.remove,
    Steps.new_file,
    Steps.kcm_store,
    Steps.kcm_initialize,
)


def turn(steps: Steps, work: Callable[[Steps], Operations]) -> tuple[float, float]:
    """The medians of one turn: seconds of the whole, and of the last commit of each."""
    whole, commits = [], []
    for operation in work(steps):
        began = time.perf_counter()
        operation()
        whole.append(time.perf_counter() - began)
        commits.append(steps.commits[-1])
    return median(whole), median(commits)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.steps", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each work: 2")
    seconds = parser.parse_args().seconds
    print(f"{'us':14} {'whole':>6} {'commit':>6}")
    for work in WORKS:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
            steps, until, turns = Steps(directory), time.monotonic() + seconds, []
            while time.monotonic() < until:
                turns.append(turn(steps, work))
        whole, commit = (min(figures) * 1e6 for figures in zip(*turns, strict=True))
        print(f"{work.__name__:14} {whole:6.1f} {commit:6.1f}")


if __name__ == "__main__":
    main()
