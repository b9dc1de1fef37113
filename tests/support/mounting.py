# SPDX-License-Identifier: MIT
"""A real ccfs mount for a test, and nothing of it left behind.

This file knows processes, the mount table and fusectl, never what is in a mount. A test may hang
its mount, kill the daemon or fail in the middle: after it there is no mount, no process, no
directory, and no reader stuck in the kernel.
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ccfs.linux import mountinfo
from ccfs.linux.hardening import may_lock
from ccfs.mounting import mountpoint

TMPFS = "/dev/shm"
START_SECONDS = 20.0
STOP_SECONDS = 15.0
GUARD_SECONDS = 100.0
FUSECTL = Path("/sys/fs/fuse/connections")

_QUIET = ("ccfs: debug: ", "ccfs: info: ")
_NOT_LOCKED = "ccfs: warning: memory is not locked"
"""True where the machine forbids mlock(2), and no fault of the daemon's there."""
_KILLED_BY_TEST = (0, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT)


def ccfs_command() -> list[str]:
    """The `ccfs` that belongs to this Python."""
    script = Path(sys.executable).with_name("ccfs")
    return [str(script)] if script.exists() else [sys.executable, "-m", "ccfs"]


def run_ccfs(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `ccfs` with a bound, its output kept; `options` go to subprocess.run."""
    command = [*ccfs_command(), *map(str, arguments)]
    settings: dict[str, Any] = {"stdin": subprocess.DEVNULL, "timeout": 60, **options}
    return subprocess.run(command, capture_output=True, text=True, check=False, **settings)


@dataclass(slots=True)
class Mounted:
    """A mount of its own: `path` is its root, `pid` its daemon, `log` what the daemon says."""

    path: Path
    process: subprocess.Popen[str]
    log: Path
    _guard: threading.Timer = field(repr=False)

    @property
    def pid(self) -> int:
        """The process that serves."""
        return self.process.pid

    def ccfs(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `ccfs COMMAND ARGUMENTS MOUNTPOINT`."""
        return run_ccfs(command, *arguments, self.path)

    def complaints(self) -> list[str]:
        """The lines of the log that aren't plain information."""
        lines = self.log.read_text(errors="replace").splitlines()
        quiet = _QUIET if may_lock() else (*_QUIET, _NOT_LOCKED)
        return [line for line in lines if not line.startswith(quiet)]

    def close(self) -> list[str]:
        """Unmount and clean up; returns what was wrong with the way the daemon ended."""
        self._guard.cancel()
        wrong = self._stop()
        if is_mounted(self.path):
            wrong.append("still mounted after its daemon ended")
        tear_down(self.path, self.process)
        return wrong

    def _stop(self) -> list[str]:
        ended_before = self.process.poll()
        if ended_before is not None:
            known = ended_before in _KILLED_BY_TEST
            if known and is_mounted(self.path):
                tear_down(self.path, self.process)
            return [] if known else [f"the daemon ended with status {ended_before}"]
        self.process.terminate()
        try:
            status = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return [f"the daemon did not end within {STOP_SECONDS} s of SIGTERM"]
        return [f"the daemon ended with status {status}"] if status else []


class Mounts:
    """Makes mounts and takes them away: `make(*options)` as often as a test wants."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="ccfs-mount-", dir=TMPFS))
        self.made: list[Mounted] = []

    def make(self, *options: str) -> Mounted:
        """Mount a ccfs with the `ccfs mount` options given; it answers when this returns."""
        number = len(self.made)
        path, log = self.directory / f"ccfs{number}", self.directory / f"log{number}"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [*ccfs_command(), "mount", "--foreground", *options, str(path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        guard = threading.Timer(GUARD_SECONDS, tear_down, [path, process])
        guard.daemon = True
        guard.start()
        mounted = Mounted(path, process, log, guard)
        self.made.append(mounted)
        assert process.stdout is not None
        line = first_line(process.stdout, START_SECONDS)
        assert line.startswith("export KRB5CCNAME="), f"no mount: {line!r} {log.read_text()}"
        return mounted

    def close(self) -> tuple[list[str], list[str]]:
        """Take all mounts away; returns (what went wrong at the end, what the logs complain of)."""
        wrong, complaints = [], []
        try:
            for mounted in reversed(self.made):
                wrong += mounted.close()
                complaints += mounted.complaints()
        finally:
            for mounted in self.made:
                tear_down(mounted.path, mounted.process)
            shutil.rmtree(self.directory)
        return wrong, complaints


MakeMount = Callable[..., Mounted]
"""The type of the fixture `make_mount`: `make_mount("--allow-root", ...)` gives a fresh mount."""


@contextlib.contextmanager
def mounts() -> Iterator[Mounts]:
    """Mounts for a test that doesn't use the fixtures; fails when one of them ends badly."""
    maker = Mounts()
    try:
        yield maker
    finally:
        wrong, complaints = maker.close()
    assert not wrong
    assert not complaints


def first_line(stream: IO[str], seconds: float) -> str:
    """The first line of a pipe, or what came of it within `seconds`."""
    deadline = time.monotonic() + seconds
    poll = select.poll()
    poll.register(stream, select.POLLIN)
    said = b""
    while not said.endswith(b"\n") and poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        byte = os.read(stream.fileno(), 1)
        if not byte:
            break
        said += byte
    return said.decode()


@contextlib.contextmanager
def until_killed(
    process: subprocess.Popen[str], line: str, seconds: float = START_SECONDS
) -> Iterator[subprocess.Popen[str]]:
    """Wait until a process has printed `line`; kill the process when the block ends."""
    try:
        assert process.stdout is not None
        assert first_line(process.stdout, seconds) == f"{line}\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def is_mounted(path: Path) -> bool:
    """Whether anything is mounted at `path`, which isn't touched."""
    return mountinfo.topmost(str(path)) is not None


def tear_down(path: Path, process: subprocess.Popen[str] | None = None) -> None:
    """Take away whatever is left, whatever state it is in: detach, kill, abort."""
    connection = mountinfo.topmost(str(path))
    while is_mounted(path):
        mountpoint.unmount(str(path), lazy=True)
    if process is not None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    if connection is not None and connection.owner is not None:
        abort(connection.connection)
    if process is not None:
        process.wait(STOP_SECONDS)
        if process.stdout is not None:
            process.stdout.close()


def abort(connection: int) -> None:
    """End a FUSE connection: its requests fail, and every waiter for a reply wakes."""
    with fusectl() as directory:
        switch = directory / str(connection) / "abort"
        with contextlib.suppress(OSError):
            switch.write_text("1")


@contextlib.contextmanager
def fusectl() -> Iterator[Path]:
    """The kernel's control files, mounted for the time being if they aren't and we may."""
    if mountinfo.topmost(str(FUSECTL)) or os.geteuid() != 0:
        yield FUSECTL
        return
    mount = ["mount", "-t", "fusectl", "none", str(FUSECTL)]
    subprocess.run(mount, check=True, timeout=10, capture_output=True)
    try:
        yield FUSECTL
    finally:
        subprocess.run(["umount", str(FUSECTL)], check=False, timeout=10, capture_output=True)
