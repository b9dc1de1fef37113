# SPDX-License-Identifier: MIT
"""Uses of a mount as a user makes them: commands of a shell, and what one can wait for.

Knows processes and the mounts that tests share, never what a ccache is.
"""

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.mounting import Mounted, Mounts, mounts

SECONDS = 30.0
MAX_AGE = 40.0
"""Seconds; less than what the guard of a mount lets it live."""

Process = subprocess.Popen[bytes]


def sh(directory: Path, script: str, *arguments: str, status: int = 0) -> str:
    """Run a script in `directory`; its stdout and stderr in one."""
    done = subprocess.run(
        ["timeout", "-s", "KILL", str(SECONDS), "bash", "-c", script, "sh", *arguments],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"},
        check=False,
        timeout=2 * SECONDS,
    )
    output = done.stdout.decode(errors="surrogateescape")
    assert done.returncode == status, f"status {done.returncode}: {output}"
    return output


@contextlib.contextmanager
def running(command: Sequence[str], directory: Path) -> Iterator[Process]:
    """A process in the background with its output in a pipe; killed when the block ends."""
    process = subprocess.Popen(
        list(command), cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def output_until(process: Process, wanted: bytes) -> bytes:
    """Read a process's output until `wanted` is in it."""
    assert process.stdout is not None
    poll, said = select.poll(), b""
    poll.register(process.stdout, select.POLLIN)
    deadline = time.monotonic() + SECONDS
    while wanted not in said:
        left = deadline - time.monotonic()
        assert left > 0, said
        assert poll.poll(left * 1000), said
        piece = os.read(process.stdout.fileno(), 65536)
        assert piece, said
        said += piece
    return said


def wait_until(true: Callable[[], object], what: str) -> None:
    """Wait for a state that nothing announces, within a bound."""
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


@contextlib.contextmanager
def waiting(directory: Path, *paths: str) -> Iterator[list[Process]]:
    """A `cat` for each path, each waiting at its FIFO when the block begins.

    One that returns before that, for what changed a moment ago, is started again.
    """
    with contextlib.ExitStack() as stack:
        yield [_waiting(stack, directory, path) for path in paths]


def _waiting(stack: contextlib.ExitStack, directory: Path, path: str) -> Process:
    for _ in range(100):
        process = stack.enter_context(running(["cat", path], directory))
        wait_until(lambda one=process: one.poll() is not None or waits(one), "it never waits")
        if process.poll() is None:
            return process
        assert process.returncode == 0
    raise AssertionError("the FIFO lets everybody go on")


def waits(process: Process) -> bool:
    """Whether a process is blocked in the open(2) of a FIFO, and not in the look-up before it."""
    try:
        return Path(f"/proc/{process.pid}/wchan").read_text() == "wait_for_partner"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Shared:
    """A mount for many tests: a new one for each `MAX_AGE` seconds, empty for each test."""

    def __init__(self, maker: Mounts) -> None:
        self._maker = maker
        self._mount: Mounted | None = None
        self._made = 0.0

    def empty(self) -> Path:
        """The root of a mount in which there is nothing."""
        if self._mount is None or time.monotonic() - self._made > MAX_AGE:
            self._mount, self._made = self._maker.make(), time.monotonic()
        _clear(self._mount.path)
        return self._mount.path


def _clear(root: Path) -> None:
    for path in (root / "caches").iterdir():
        path.rmdir()
    for path in (root / "dir").iterdir():
        if path.name != "primary":
            path.unlink()
    for path in root.iterdir():
        if path.is_symlink() and path.name != "default":
            path.unlink()


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    """Mounts that the tests of a module share."""
    with mounts() as maker:
        yield Shared(maker)
