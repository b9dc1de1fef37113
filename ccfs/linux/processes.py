# SPDX-License-Identifier: MIT
"""Processes by pidfd and start time.

A pid alone doesn't identify a process: once that has ended, the kernel gives the number to another.
Where there is no free descriptor to open /proc with, functions raise OSError: that doesn't mean
that the process has ended.

Knows pidfds and /proc; never what a process does.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass

from ccfs.linux import peer_credentials
from ccfs.linux.descriptors import wait_readable

SO_PEERPIDFD = 77
"""Linux 6.5: a pidfd of the process that connected (unix(7))."""
_INT = struct.Struct("i")


@dataclass(frozen=True, slots=True)
class Process:
    """A process, identified for good.

    `start`: clock ticks from boot to its start (proc(5), stat).
    """

    pid: int
    start: int


@dataclass(frozen=True, slots=True)
class Work:
    """What a process has done: `ticks` of CPU time (proc(5)); `runnable`: it could run now."""

    ticks: int
    runnable: bool


def find(pid: int, *, ended: bool = False) -> Process | None:
    """Return the process that has a pid now; None for none, or (unless `ended`) for a zombie."""
    try:
        fields = _stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") and not ended else Process(pid, int(fields[19]))


def work_done(process: Process) -> Work | None:
    """Return what a process has done so far; None when it has ended, or /proc can't be read."""
    try:
        fields = _stat(process.pid)
    except OSError:
        return None
    return Work(int(fields[11]) + int(fields[12]), fields[0] == b"R")


def filesystem_uid(process: Process) -> int | None:
    """Return the file-system uid of a process (proc(5), status); None when it has ended."""
    try:
        with open(f"/proc/{process.pid}/status", "rb") as file:
            uids = next(line.split() for line in file if line.startswith(b"Uid:"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(uids[4]) if find(process.pid) == process else None


def open_pidfd(process: Process) -> int | None:
    """Return a pidfd of a process; None when it has ended."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if _find_or_close(process.pid, descriptor) == process:
        return descriptor
    os.close(descriptor)
    return None


def peer(connection: socket.socket) -> tuple[Process, int] | None:
    """Return the process at the other end of a socket, and a pidfd; None when it has ended."""
    try:
        value = connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD, _INT.size)
        descriptor = int(_INT.unpack(value)[0])
    except OSError:
        return _peer_by_pid(connection)
    process = _find_or_close(peer_credentials.peer(connection).pid, descriptor)
    if process is not None:
        return process, descriptor
    os.close(descriptor)
    return None


def send_signal(pidfd: int, number: signal.Signals) -> None:
    """Send a signal; a process that has ended needs none."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


def wait_for_end(pid: int, seconds: float) -> bool:
    """Wait for a child of this process to end; False after `seconds`.  It isn't reaped."""
    pidfd = os.pidfd_open(pid)
    try:
        return wait_readable(pidfd, seconds)
    finally:
        os.close(pidfd)


def _stat(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat from the state on: field 3 of proc(5) has index 0."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()


def _peer_by_pid(connection: socket.socket) -> tuple[Process, int] | None:
    """Before Linux 6.5: a peer that waits for a reply has not ended, and its pid is its own."""
    process = find(peer_credentials.peer(connection).pid)
    descriptor = open_pidfd(process) if process else None
    return (process, descriptor) if process and descriptor is not None else None


def _find_or_close(pid: int, descriptor: int) -> Process | None:
    """As `find`; closes the descriptor where that raises."""
    try:
        return find(pid)
    except OSError:
        os.close(descriptor)
        raise
