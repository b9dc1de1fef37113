# SPDX-License-Identifier: MIT
"""Load on one mount: `python -m reliability.load [--processes N] [--seconds S] ...`.

Mixed work of many processes, many open files, many waiters, many ccaches, and the memory of the
daemon over time.  Each part says what it saw; an error that is no limit, or a change that is not
there afterwards, ends the program.
"""

import argparse
import contextlib
import fcntl
import json
import os
import random
import resource
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from reliability import writers
from tests.support.background_mount import BackgroundMount, background_mount
from tests.support.clients.python import records
from tests.support.processes import resident

SHARED = "shared"
MIB = 1 << 20


@dataclass
class Said:
    """What a run of mixed work came to: steps, errors by name, credentials in the shared ccache."""

    steps: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    shared: int = 0


@dataclass
class Worker:
    """One process: changes a ccache of its own, looks at others, stores into one of all."""

    mount: Path
    number: int
    writer: writers.Writer
    random: random.Random
    stored: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    steps: int = 0

    def work(self, deadline: float) -> None:
        """Do this and that until then."""
        acts: list[Callable[[], None]] = [self.change] * 5 + [self.look] * 4
        acts += [self.list_all, self.read_info, self.lock]
        while time.monotonic() < deadline:
            self.attempt(self.random.choice(acts))
            if self.steps % 50 == 0:
                self.attempt(self.share)
        self.writer.check()

    def attempt(self, act: Callable[[], object]) -> None:
        """One step; what fails is counted by its name."""
        self.steps += 1
        try:
            act()
        except FileNotFoundError:
            if act == self.share:
                raise
        except OSError as error:
            self.errors[f"{act.__name__}: {error.strerror}"] += 1

    def change(self) -> None:
        self.writer.step(self.writer)

    def look(self) -> None:
        """Read another writer's ccache: whole credentials, perhaps the beginning of one."""
        name = self.random.choice(os.listdir(self.mount / "caches"))
        image = (self.mount / "caches" / name / "ccache").read_bytes()
        records.servers_in(image, complete=False, removed=True)

    def list_all(self) -> None:
        for name in os.listdir(self.mount / "caches")[:5]:
            os.listdir(self.mount / "caches" / name / "credentials")

    def read_info(self) -> None:
        (self.mount / "info").read_bytes()

    def lock(self) -> None:
        with (self.mount / "lock").open("r+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)

    def share(self) -> None:
        server = f"host/shared-{self.number}-{self.steps}"
        writers.append_one(self.mount / "caches" / SHARED / "ccache", records.record(server))
        self.stored.append(server)


def mixed(here: BackgroundMount, processes: int, seconds: float) -> Said:
    """Mixed work of so many processes at a time; AssertionError where a change is lost."""
    caches = here.path / "caches"
    (caches / SHARED).mkdir(exist_ok=True)
    (caches / SHARED / "ccache").write_bytes(records.ccache([]))
    gate = here.directory / "gate"
    gate.touch()
    pipes = [_start(here, gate, number, seconds) for number in range(processes)]
    said, stored = Said(), set[str]()
    for pid, reader in pipes:
        with os.fdopen(reader) as pipe:
            told = json.loads(pipe.read() or '{"failed": "it died"}')
        os.waitpid(pid, 0)
        assert "failed" not in told, told
        said.steps += told["steps"]
        stored |= set(told["stored"])
        for name, count in told["errors"].items():
            said.errors[name] = said.errors.get(name, 0) + count
    there = records.servers_in((caches / SHARED / "ccache").read_bytes())
    assert sorted(there) == sorted(stored), set(there) ^ stored
    said.shared = len(there)
    return said


def _start(here: BackgroundMount, gate: Path, number: int, seconds: float) -> tuple[int, int]:
    name = f"w{number}"
    (here.path / "caches" / name).mkdir(exist_ok=True)
    reader, report = os.pipe()
    pid = os.fork()
    if pid:
        os.close(report)
        return pid, reader
    said: dict[str, object] = {"failed": "it died"}
    try:
        chance = random.Random(number)
        step = list(writers.WAYS.values())[number % len(writers.WAYS)]
        writer = writers.Writer(here.path, name, step, gate, chance)
        worker = Worker(here.path, number, writer, chance)
        worker.work(time.monotonic() + seconds)
        errors = worker.errors + writer.errors
        said = {"steps": worker.steps, "stored": worker.stored, "errors": errors}
    except BaseException as error:
        said = {"failed": f"{type(error).__name__}: {error}"[:2000]}
    finally:
        with os.fdopen(report, "w") as pipe:
            json.dump(said, pipe)
        os._exit(0)


def open_files(here: BackgroundMount, count: int) -> int:
    """Have so many files open at once, and read from each; returns how many there were."""
    _allow(count + 100)
    path = here.path / "default" / "ccache"
    wanted = path.read_bytes()
    with contextlib.ExitStack() as stack:
        files = []
        for _ in range(count):
            descriptor = os.open(path, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            files.append(descriptor)
        return sum(os.pread(file, len(wanted) + 1, 0) == wanted for file in files)


def waiters(here: BackgroundMount, count: int) -> int:
    """So many wait for the next change without a process each; returns how many hear of it."""
    _allow(count + 100)
    poll = select.poll()
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            descriptor = os.open(here.path / "changed", os.O_RDONLY | os.O_NONBLOCK)
            stack.callback(os.close, descriptor)
            poll.register(descriptor, 0)
        (here.path / "caches" / "for-the-waiters").mkdir()
        heard = 0
        deadline = time.monotonic() + 30
        while heard < count and time.monotonic() < deadline:
            heard = sum(bool(what & select.POLLHUP) for _, what in poll.poll(100))
        (here.path / "caches" / "for-the-waiters").rmdir()
        return heard


def many(here: BackgroundMount, ccaches: int, credentials: int) -> tuple[float, float, float]:
    """Fill the mount; returns bytes of the daemon a credential, seconds, seconds to come back."""
    old = here.info()
    before = resident(int(old["pid"]))
    began = time.monotonic()
    have = set(os.listdir(here.path / "caches"))
    names = [n for n in (f"many-{number}" for number in range(ccaches)) if n not in have]
    for name in names:
        (here.path / "caches" / name).mkdir()
        image = records.ccache(f"host/{name}-{number}" for number in range(credentials))
        (here.path / "caches" / name / "ccache").write_bytes(image)
    took = time.monotonic() - began
    each = (resident(int(old["pid"])) - before) / (len(names) * credentials)
    os.kill(int(old["pid"]), signal.SIGKILL)
    back, _ = here.come_back(old["server_id"])
    for name in names:
        image = (here.path / "caches" / name / "ccache").read_bytes()
        assert len(records.servers_in(image)) == credentials
    return each, took, back


def endure(
    here: BackgroundMount, processes: int, seconds: float, turns: int
) -> Iterator[tuple[int, Said]]:
    """Mixed work in turns; yields the daemon's memory after each, and what the turn came to."""
    for _ in range(turns):
        said = mixed(here, processes, seconds / turns)
        (here.path / "caches" / SHARED).rmdir()
        yield resident(here.pid()), said


def _allow(files: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, max(hard, files)))


def main() -> int:
    """Run all parts, and print what they saw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0, help="of mixed work")
    parser.add_argument("--count", type=int, default=10_000, help="open files, and waiters")
    parser.add_argument("--ccaches", type=int, default=1000)
    parser.add_argument("--credentials", type=int, default=40)
    parser.add_argument("--endurance", type=float, default=600.0, help="seconds of the last part")
    given = parser.parse_args()
    with background_mount() as here:
        here.mount()
        (here.path / "default/ccache").write_bytes(records.ccache(["host/one", "host/two"]))
        for line in _parts(here, given):
            print(line, flush=True)
        here.unmount()
    return 0


def _parts(here: BackgroundMount, given: argparse.Namespace) -> Iterator[str]:
    said = mixed(here, given.processes, given.seconds)
    yield f"mixed work: {given.processes} processes, {given.seconds:.0f} s, {said.steps} steps"
    yield f"  errors: {said.errors or 'none'}"
    yield f"  stored into one ccache by all of them: {said.shared}, all there"
    yield f"open files: {open_files(here, given.count)} of {given.count} read right"
    yield f"waiters: {waiters(here, given.count)} of {given.count} heard of the change"
    turns = max(2, int(given.endurance // 30))
    for number, (memory, said) in enumerate(endure(here, 8, given.endurance, turns), 1):
        after = given.endurance / turns * number
        errors = said.errors or "no error"
        yield f"after {after:.0f} s: {memory / MIB:.1f} MiB, {said.steps} steps, {errors}"
    for name in os.listdir(here.path / "caches"):
        if name != "tkt":
            (here.path / "caches" / name).rmdir()
    each, took, back = many(here, given.ccaches, given.credentials)
    yield (
        f"{given.ccaches} ccaches of {given.credentials}: {took:.1f} s to fill,"
        f" {each:.0f} bytes of memory a credential, back {back:.2f} s after a kill"
    )


if __name__ == "__main__":
    sys.exit(main())
