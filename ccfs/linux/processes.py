"""Processes that are watched: which one it is, and whether it still is.

Knows pidfds and /proc; never what a process does.  A pid alone names nobody: it is somebody else's
after its process has ended.  Where there is no descriptor left to look with, that is an OSError:
nobody has ended because of it.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass

from ccfs.linux import peer_credentials

SO_PEERPIDFD = 77
"""Linux 6.5: a pidfd of who connected (unix(7))."""
_INT = struct.Struct("i")


@dataclass(frozen=True, slots=True)
class Process:
    """A process for good: a pid alone is another one's after its process has ended.

    `start`: clock ticks from boot to its start (proc(5), stat).
    """

    pid: int
    start: int


def of(pid: int, *, ended: bool = False) -> Process | None:
    """The process that has a pid now; None for nobody, or (unless `ended`) one that has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") and not ended else Process(pid, int(fields[19]))


@dataclass(frozen=True, slots=True)
class Work:
    """What a process has done: `ticks` of a core (proc(5), stat); `runnable`: it could now."""

    ticks: int
    runnable: bool


def work_done(process: Process) -> Work | None:
    """What a process has done so far; None when it has ended, or that can't be seen."""
    try:
        with open(f"/proc/{process.pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return Work(int(fields[11]) + int(fields[12]), fields[0] == b"R")


def filesystem_uid(process: Process) -> int | None:
    """The uid whose rights a process has at files (proc(5), status); None when it has ended."""
    try:
        with open(f"/proc/{process.pid}/status", "rb") as file:
            found = next(line.split() for line in file if line.startswith(b"Uid:"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(found[4]) if of(process.pid) == process else None


def hold(process: Process) -> int | None:
    """A pidfd of a process; None when it has ended."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if _of(process.pid, descriptor) == process:
        return descriptor
    os.close(descriptor)
    return None


def peer(connection: socket.socket) -> tuple[Process, int] | None:
    """Who is at the other end of a socket, and a pidfd of it; None when it has ended."""
    try:
        told = connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD, _INT.size)
        descriptor = int(_INT.unpack(told)[0])
    except OSError:
        return _peer_by_pid(connection)
    process = _of(peer_credentials.peer(connection).pid, descriptor)
    if process is not None:
        return process, descriptor
    os.close(descriptor)
    return None


def _peer_by_pid(connection: socket.socket) -> tuple[Process, int] | None:
    """On a kernel that has no better; who waits for our reply can't be somebody else by now."""
    process = of(peer_credentials.peer(connection).pid)
    descriptor = hold(process) if process else None
    return (process, descriptor) if process and descriptor is not None else None


def _of(pid: int, descriptor: int) -> Process | None:
    """The process that has a pid now; the descriptor goes where that can't be seen."""
    try:
        return of(pid)
    except OSError:
        os.close(descriptor)
        raise


def send(pidfd: int, number: signal.Signals) -> None:
    """Send a signal; one who has ended needs none."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)
