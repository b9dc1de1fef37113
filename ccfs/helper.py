"""The small child that makes file operations on the mount for the daemon, which must not.

It opens a `changed` FIFO for writing and closes it: whoever waits there goes on.  It knows two
pipes and a path; it holds nothing open in the mount, and no descriptor of the FUSE device.
"""

from __future__ import annotations

import errno
import os
import signal
from contextlib import suppress
from dataclasses import dataclass

KICK = ".kick."
"""The name behind which the mount shows the helper, and nobody else, the FIFO of a serial."""

_WOKEN = b"w"
_NOBODY = b"n"
ORDER = 24
"""Bytes of an order: a serial number in decimal, padded with spaces, and a newline."""
ANSWER = ORDER + 1
"""Bytes of an answer: whether somebody waited, and the order."""


@dataclass(frozen=True, slots=True)
class Helper:
    """The daemon's side of it: orders go out, an answer for each comes back."""

    pid: int
    orders: int
    answers: int

    def end(self) -> None:
        """Let the child end, and wait for it."""
        os.close(self.orders)
        os.close(self.answers)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def start(mountpoint: str) -> Helper:
    """Fork the child.  Call it before anything opens the FUSE device or starts a thread."""
    order_read, order_write = os.pipe2(os.O_CLOEXEC)
    answer_read, answer_write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _run(mountpoint, order_read, answer_write)
    os.close(order_read)
    os.close(answer_write)
    return Helper(pid, order_write, answer_read)


def order(serial: int) -> bytes:
    """The order to wake those who wait at the FIFO of a serial number."""
    return str(serial).encode("ascii").ljust(ORDER - 1) + b"\n"


def answers(data: bytes) -> list[tuple[int, bool]]:
    """Which serial numbers were kicked, and whether somebody waited there."""
    records = [data[at : at + ANSWER] for at in range(0, len(data), ANSWER)]
    return [(int(record[1:]), record[:1] == _WOKEN) for record in records]


def _run(mountpoint: str, orders: int, out: int) -> None:
    """Be the child until the daemon closes its end; never returns."""
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        _keep_only({orders, out})
        _serve(mountpoint, orders, out)
        status = 0
    finally:
        os._exit(status)


def _keep_only(kept: set[int]) -> None:
    """Close all other descriptors but the standard ones: the daemon's are not ours to hold."""
    low = 3
    for descriptor in sorted(kept):
        os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def _serve(mountpoint: str, orders: int, out: int) -> None:
    while record := os.read(orders, ORDER):
        os.write(out, _kick(f"{mountpoint}/{KICK}{int(record)}") + record)


def _kick(path: str) -> bytes:
    """Open and close the FIFO.  ENXIO: nobody waits; so it is when there is no FIFO any more."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return _NOBODY if error.errno in (errno.ENXIO, errno.ENOENT, errno.ESTALE) else _WOKEN
    return _WOKEN
