# SPDX-License-Identifier: MIT
"""Processes that change a ccache each, and know what of it was acknowledged.

A writer has the servers that must be there.  A step that fails may have been done or not: when the
mount answers again the writer looks which it is, and takes anything else for a loss.  Each works
in a ccache of its own, in the way its name says.
"""

import contextlib
import fcntl
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from tests.support.clients.python import records

MOST = 40
"""So many credentials, then the ccache begins anew."""
PATIENCE = 30.0
"""Seconds that the mount may be away."""


class LostError(Exception):
    """An acknowledged credential is missing, or one is present that no writer stored."""


@dataclass
class Count:
    """What a writer did: steps acknowledged, failed and done all the same, failed and not done."""

    acknowledged: int = 0
    done: int = 0
    undone: int = 0


@dataclass
class Writer:
    """One writer.  `servers`: what must be in the ccache, None while there need not be any."""

    mount: Path
    name: str
    step: Callable[["Writer"], None]
    gate: Path
    random: random.Random
    servers: list[str] | None = None
    count: Count = field(default_factory=Count)
    errors: Counter[str] = field(default_factory=Counter)
    number: int = 0

    @property
    def directory(self) -> Path:
        """The ccache's directory."""
        return self.mount / "caches" / self.name

    @property
    def ccache(self) -> Path:
        """The ccache's file."""
        return self.directory / "ccache"

    def new(self) -> str:
        """A server that no credential was for."""
        self.number += 1
        return f"host/{self.name}-{self.number}"

    def work(self, ended: Callable[[], bool]) -> None:
        """Make steps until the end is wanted, one more than that was."""
        while not ended():
            with self.admitted():
                self.step(self)

    @contextlib.contextmanager
    def admitted(self) -> Iterator[None]:
        """Run one step with the gate open; a closed gate stops all writers between two steps."""
        while _sign(self.gate).exists():
            time.sleep(0.002)
        with self.gate.open() as gate:
            fcntl.flock(gate, fcntl.LOCK_SH)
            yield

    def attempt(self, action: Callable[[], None], *after: list[str] | None) -> None:
        """Do it; `after`: what may be in the ccache then, the last one when all was done."""
        before = self.servers
        try:
            action()
        except OSError as error:
            self.errors[f"{self.name}: {error.strerror or error}"] += 1
            self.settle(before, *after)
        else:
            self.servers = after[-1]
            self.count.acknowledged += 1

    def settle(self, *possible: list[str] | None) -> None:
        """Find out what came of a step that has failed."""
        found = self.look()
        if found not in possible:
            raise LostError(f"{self.name}: {found}, not one of {possible}")
        self.count.done += found == possible[-1]
        self.count.undone += found != possible[-1]
        self.servers = found

    def check(self) -> None:
        """Check that every acknowledged credential is present."""
        found = self.look()
        if found != self.servers:
            raise LostError(f"{self.name}: {found}, not {self.servers}")

    def look(self) -> list[str] | None:
        """Read the ccache, once the mount answers."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return self._servers()
            except OSError as error:
                if time.monotonic() > deadline:
                    raise LostError(f"{self.name}: {error} for {PATIENCE} s") from None
                time.sleep(0.005)

    def _servers(self) -> list[str] | None:
        mark = (self.mount / "info").read_bytes()
        image = self.ccache.read_bytes() if "ccache" in os.listdir(self.directory) else b""
        if mark.splitlines()[0] != (self.mount / "info").read_bytes().splitlines()[0]:
            raise OSError("the server has changed meanwhile")
        return records.servers_in(image, removed=True) if image else None


@contextlib.contextmanager
def standing_still(gate: Path) -> Iterator[None]:
    """Have all writers stand still.  A lock alone would never be had: they hold it in turns."""
    _sign(gate).touch()
    try:
        with gate.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    finally:
        _sign(gate).unlink()


def _sign(gate: Path) -> Path:
    return gate.with_name(gate.name + ".shut")


def append(writer: Writer) -> None:
    """As libkrb5 stores: one locked write at the end; from time to time a new beginning."""
    if writer.servers is None or len(writer.servers) >= MOST:
        writer.attempt(lambda: _initialise(writer), None, [])
        return
    server = writer.new()
    writer.attempt(
        lambda: append_one(writer.ccache, records.record(server)), [*writer.servers, server]
    )


def replace(writer: Writer) -> None:
    """As libkrb5 and kinit do it: a whole file, renamed over the old one."""
    servers = [writer.new() for _ in range(writer.random.randrange(8))]
    writer.attempt(lambda: _replace(writer, servers), servers)


def remove(writer: Writer) -> None:
    """Remove credentials one after the other, anywhere in the ccache."""
    if not writer.servers:
        servers = [writer.new() for _ in range(MOST)]
        writer.attempt(lambda: _replace(writer, servers), servers)
        return
    gone = writer.random.choice(writer.servers)
    left = [server for server in writer.servers if server != gone]
    name = quote(gone, safe="") + "@" + records.REALM.decode()
    writer.attempt((writer.directory / "credentials" / name).unlink, left)


def store(writer: Writer) -> None:
    """As the CCAPI stores: one marshalled credential into a new file in `credentials/`."""
    if writer.servers is None or len(writer.servers) >= MOST:
        writer.attempt(lambda: _replace(writer, []), [])
        return
    server = writer.new()
    place = writer.directory / "credentials" / f"new-{writer.number}"
    writer.attempt(lambda: _write(place, records.record(server)), [*writer.servers, server])


WAYS: dict[str, Callable[[Writer], None]] = {
    "append": append,
    "replace": replace,
    "remove": remove,
    "store": store,
}


def _initialise(writer: Writer) -> None:
    with contextlib.suppress(FileNotFoundError):
        writer.ccache.unlink()
    _write(writer.ccache, records.ccache([]))


def append_one(path: Path, data: bytes) -> None:
    """One write at the end of a file, under a lock."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX)
        _write_all(descriptor, data)
    finally:
        os.close(descriptor)


def _replace(writer: Writer, servers: list[str]) -> None:
    scratch = writer.directory / f"ccache.{writer.number:06}"
    _write(scratch, records.ccache(servers))
    scratch.rename(writer.ccache)


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        _write_all(descriptor, data)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    """One write(2); the kernel cuts it short where the daemon dies in the middle."""
    if os.write(descriptor, data) != len(data):
        raise OSError("cut short")


def until_sigterm() -> Callable[[], bool]:
    """Whether SIGTERM has come since; SIGINT is for the process that started the writers."""
    ended = False

    def end(*_: object) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return lambda: ended


def run(writer: Writer, report: int) -> None:
    """Be a process that writes until SIGTERM; says at the end what it did, or what is lost."""
    said = "failed"
    try:
        writer.work(until_sigterm())
        writer.check()
        count = writer.count
        said = f"ok {count.acknowledged} {count.done} {count.undone}"
    except Exception as error:
        said = f"failed {type(error).__name__}: {error}"
    finally:
        os.write(report, said.encode()[:4000])
        os._exit(0)
