# SPDX-License-Identifier: MIT
"""Processes as the kernel reports them: /proc and pidfds.

Knows process ids, never what a process is for.
"""

import contextlib
import os
import select
from collections.abc import Iterator
from pathlib import Path


def children(pid: int) -> list[int]:
    """Return the children of a process; none where it has ended."""
    try:
        pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(child) for child in pids]


def parent(pid: int) -> int:
    """The parent of a process (proc(5))."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])


def resident(pid: int) -> int:
    """The memory that a process has in use, in bytes."""
    with open(f"/proc/{pid}/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def serving(path: Path) -> list[int]:
    """Every process that was started with this path in its command line."""
    found = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            words = Path(f"/proc/{int(entry)}/cmdline").read_bytes().split(b"\0")
            if os.fsencode(path) in words:
                found.append(int(entry))
    return found


def is_alive(pid: int) -> bool:
    """Whether a process has not ended."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def ended(pidfd: int, seconds: float = 20.0) -> bool:
    """Whether a process ends in time."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


@contextlib.contextmanager
def pidfd(pid: int) -> Iterator[int]:
    """A descriptor of a process."""
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def wchan(pid: int) -> str:
    """Where a process waits."""
    return Path(f"/proc/{pid}/wchan").read_text()


def devices(pid: int) -> list[str]:
    """The FUSE connections that a process has open."""
    found = []
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it is closed since
            found.append(str(one.readlink()))
    return [one for one in found if one == "/dev/fuse"]


def pipes(pid: int) -> set[str]:
    """The pipes that a process has open."""
    directory = Path(f"/proc/{pid}/fd")
    return {one for fd in directory.iterdir() if (one := os.readlink(fd)).startswith("pipe:")}
