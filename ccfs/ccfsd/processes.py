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

from ccfs import control
from ccfs.ccfsd.registry import Process

SO_PEERPIDFD = 77
"""Linux 6.5: a pidfd of who connected (unix(7))."""
_INT = struct.Struct("i")


def of(pid: int, *, ended: bool = False) -> Process | None:
    """The process that has a pid now; None for nobody, or (unless `ended`) one that has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") and not ended else Process(pid, int(fields[19]))


def cpu_time(pid: int) -> int:
    """The CPU time that a process has used, in clock ticks (proc_pid_stat(5)); 0 for none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(fields[11]) + int(fields[12])


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
    process = _of(control.peer(connection).pid, descriptor)
    if process is not None:
        return process, descriptor
    os.close(descriptor)
    return None


def _peer_by_pid(connection: socket.socket) -> tuple[Process, int] | None:
    """On a kernel that has no better; who waits for our reply can't be somebody else by now."""
    process = of(control.peer(connection).pid)
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
