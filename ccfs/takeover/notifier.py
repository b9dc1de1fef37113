# SPDX-License-Identifier: MIT
"""The notifier: the daemon's child that makes file operations on the mount, which the daemon can't.

A daemon that used its own mount would wait for itself.  The notifier opens a `changed` FIFO for
writing and closes it, so that readers there go on; it sets the mode of a `ccache` to what it is, so
that inotify watches of the file report it.  It knows two pipes and a path; it holds nothing open in
the mount, and no descriptor of the FUSE device.

It outlives the daemon by a moment.  Where the mount is dead then, because no other daemon takes it
over, readers of a FIFO there wait in the kernel, and go on only when the FIFO is opened for
writing. The kernel finds a name of a dead mount only if it was looked up before, so that the
notifier looks up each FIFO in time.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from ccfs.linux import descriptors, processes

KICK = b"k"
"""The order to wake the readers of a serial number's FIFO; 0: the collection's."""
LEARN = b"l"
"""The order to look up the FIFO of a serial number."""
TOUCH = b"t"
"""The order to touch the `ccache` of an identifier."""

_PATHS = {KICK: ".kick.{}", LEARN: ".kick.{}", TOUCH: "by-id/{}/ccache"}
RECORD = 24
"""Bytes of an order: the kind, a serial number in hexadecimal, spaces, a newline.
The notifier sends the same record back when it has carried out the order."""
END_SECONDS = 1.0
"""That the notifier has to wake readers of FIFOs, and to end."""


@dataclass(frozen=True, slots=True)
class Notifier:
    """The daemon's side: descriptors of two pipes, for orders and for completions."""

    pid: int
    orders: int
    completions: int

    def send(self, kind: bytes, serial: str) -> None:
        """Send an order.  Raises OSError where the notifier has ended, or its pipe is full."""
        record = (kind + serial.encode("ascii")).ljust(RECORD - 1) + b"\n"
        os.write(self.orders, record)

    def end(self) -> None:
        """End the notifier, and wait for that; its user may have stopped it."""
        os.close(self.orders)
        os.close(self.completions)
        with suppress(ChildProcessError, ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)
            if not processes.wait_for_end(self.pid, END_SECONDS):
                os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


@dataclass(frozen=True, slots=True)
class Completion:
    """An order that was carried out."""

    kind: bytes
    serial: int


def start(
    mountpoint: str, liveness: int = -1, prepare: Callable[[], None] = lambda: None
) -> Notifier:
    """Fork the notifier.  It closes what it inherits, a descriptor of the FUSE device first of all.

    `liveness`: a descriptor that it keeps open, so that another process sees when it ends; -1 for
    none.  `prepare`: called in it then, where it was forked from a process that has secrets.
    """
    order_read, order_write = os.pipe2(os.O_CLOEXEC)
    completion_read, completion_write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _run(mountpoint, order_read, completion_write, liveness, prepare)
    os.close(order_read)
    os.close(completion_write)
    os.set_blocking(order_write, False)
    return Notifier(pid, order_write, completion_read)


def signal_orphan(leader: int, number: signal.Signals) -> None:
    """Signal the notifier of a dead daemon, which has led a process group; 0: no daemon.

    Only to be called while the notifier holds its `liveness`: no other process can have the number
    of a group that has a member.
    """
    if leader > 1:
        with suppress(ProcessLookupError):
            os.killpg(leader, number)


def completions(data: bytes) -> list[Completion]:
    """Parse what the notifier has written."""
    records = [data[at : at + RECORD] for at in range(0, len(data), RECORD)]
    return [Completion(record[:1], int(record[1:], 16)) for record in records]


def _run(
    mountpoint: str, orders: int, out: int, liveness: int, prepare: Callable[[], None]
) -> None:
    """Be the notifier until the daemon closes its end; never returns."""
    status = 1
    try:
        descriptors.close_all_but({orders, out, liveness})
        # The kernel sends SIGHUP to a group that has lost its leader, and has stopped members.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        prepare()
        _carry_out_orders(mountpoint, orders, out)
        status = 0
    finally:
        os._exit(status)


def _carry_out_orders(mountpoint: str, orders: int, out: int) -> None:
    fifos: set[str] = set()
    while record := os.read(orders, RECORD):
        kind, serial = record[:1], record[1:].strip().decode("ascii")
        path = f"{mountpoint}/{_PATHS[kind].format(serial)}"
        if kind == LEARN:
            fifos.add(path)
        _try(_OPERATIONS[kind], path)
        with suppress(BrokenPipeError):
            os.write(out, record)
    if fifos and _is_dead(mountpoint):
        for path in fifos:
            _try(_kick, path)


def _is_dead(mountpoint: str) -> bool:
    """True if no daemon serves the mount, nor will: while another may come, this call waits."""
    try:
        os.statvfs(mountpoint)
    except OSError:
        return True
    return False


def _try(operation: Callable[[str], None], path: str) -> None:
    """A FIFO may have no reader (ENXIO), or the file may be removed."""
    with suppress(OSError):
        operation(path)


def _kick(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))


def _learn(path: str) -> None:
    os.stat(path)


def _touch(path: str) -> None:
    os.chmod(path, 0o600)


_OPERATIONS = {KICK: _kick, LEARN: _learn, TOUCH: _touch}
