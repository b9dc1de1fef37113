"""The small child that makes file operations on the mount for the daemon, which must not.

It opens a `changed` FIFO for writing and closes it: whoever waits there goes on.  It sets the mode
of a `ccache` to what it is: whoever watches the file with inotify hears of it.  It knows two pipes
and a path; it holds nothing open in the mount, and no descriptor of the FUSE device.
"""

from __future__ import annotations

import errno
import os
import signal
from contextlib import suppress
from dataclasses import dataclass

KICK = b"k"
"""The order to wake those who wait at the FIFO of a serial number; 0: the collection's."""
TOUCH = b"t"
"""The order to touch the `ccache` of an identifier."""

_PATHS = {KICK: ".kick.{}", TOUCH: "by-id/{}/ccache"}
_WOKEN = b"w"
_NOBODY = b"n"
RECORD = 24
"""Bytes of an order: the kind, a serial number in hexadecimal, spaces, a newline."""
ANSWER = RECORD + 1
"""Bytes of an answer: whether somebody waited, and the order."""


@dataclass(frozen=True, slots=True)
class Helper:
    """The daemon's side of it: orders go out, an answer for each comes back."""

    pid: int
    orders: int
    answers: int

    def send(self, kind: bytes, serial: str) -> None:
        """Give an order.  Raises OSError where the child is gone."""
        record = (kind + serial.encode("ascii")).ljust(RECORD - 1) + b"\n"
        os.write(self.orders, record)

    def end(self) -> None:
        """Let the child end, and wait for it."""
        os.close(self.orders)
        os.close(self.answers)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an order."""

    kind: bytes
    serial: int
    woke: bool


def start(mountpoint: str) -> Helper:
    """Fork the child.  It closes what it inherits, a descriptor of the FUSE device first of all."""
    order_read, order_write = os.pipe2(os.O_CLOEXEC)
    answer_read, answer_write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _run(mountpoint, order_read, answer_write)
    os.close(order_read)
    os.close(answer_write)
    return Helper(pid, order_write, answer_read)


def answers(data: bytes) -> list[Answer]:
    """What the child has written."""
    records = [data[at : at + ANSWER] for at in range(0, len(data), ANSWER)]
    return [Answer(r[1:2], int(r[2:], 16), r[:1] == _WOKEN) for r in records]


def _run(mountpoint: str, orders: int, out: int) -> None:
    """Be the child until the daemon closes its end; never returns."""
    status = 1
    try:
        _keep_only({orders, out})
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
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
    act = {KICK: _kick, TOUCH: _touch}
    while record := os.read(orders, RECORD):
        kind, serial = record[:1], record[1:].strip().decode("ascii")
        path = f"{mountpoint}/{_PATHS[kind].format(serial)}"
        try:
            act[kind](path)
            answer = _WOKEN
        except OSError as error:
            # ENXIO: nobody waits; so it is when there is no such file any more.
            gone = error.errno in (errno.ENXIO, errno.ENOENT, errno.ESTALE)
            answer = _NOBODY if gone else _WOKEN
        os.write(out, answer + record)


def _kick(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))


def _touch(path: str) -> None:
    os.chmod(path, 0o600)
