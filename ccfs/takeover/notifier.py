"""The small child that makes file operations on the mount for the daemon, which must not.

It opens a `changed` FIFO for writing and closes it: whoever waits there goes on.  It sets the mode
of a `ccache` to what it is: whoever watches the file with inotify hears of it.  It knows two pipes
and a path; it holds nothing open in the mount, and no descriptor of the FUSE device.

It outlives the daemon by a moment: where the mount is dead then, because no other daemon takes it
over, those who still wait at a FIFO there wait in the kernel, and go on only when somebody opens
it.  The kernel finds a name of a dead mount only if it was looked up before, so the helper learns
the way to each FIFO in time.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from ccfs.linux import descriptors

KICK = b"k"
"""The order to wake those who wait at the FIFO of a serial number; 0: the collection's."""
LEARN = b"l"
"""The order to know the way to the FIFO of a serial number."""
TOUCH = b"t"
"""The order to touch the `ccache` of an identifier."""

_PATHS = {KICK: ".kick.{}", LEARN: ".kick.{}", TOUCH: "by-id/{}/ccache"}
RECORD = 24
"""Bytes of an order: the kind, a serial number in hexadecimal, spaces, a newline.
The answer is the order, when it was carried out."""
FAREWELL = 1.0
"""Seconds that the child has to wake those who wait at a FIFO, and to end."""


@dataclass(frozen=True, slots=True)
class Notifier:
    """The daemon's side of it: orders go out, an answer for each comes back."""

    pid: int
    orders: int
    answers: int

    def send(self, kind: bytes, serial: str) -> None:
        """Give an order.  Raises OSError where the child is gone, or has stood still for long."""
        record = (kind + serial.encode("ascii")).ljust(RECORD - 1) + b"\n"
        os.write(self.orders, record)

    def end(self) -> None:
        """Have the child end, and wait for it; its user may have stopped it."""
        os.close(self.orders)
        os.close(self.answers)
        with suppress(ChildProcessError, ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)
            if not self._ends_in_time():
                os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)

    def _ends_in_time(self) -> bool:
        poll = select.poll()
        descriptor = os.pidfd_open(self.pid)
        poll.register(descriptor, select.POLLIN)
        try:
            return bool(poll.poll(FAREWELL * 1000))
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Answer:
    """An order that was carried out."""

    kind: bytes
    serial: int


def start(mountpoint: str, held: int = -1, first: Callable[[], None] = lambda: None) -> Notifier:
    """Fork the child.  It closes what it inherits, a descriptor of the FUSE device first of all.

    `held`: a descriptor that it keeps, so that somebody else can see when it ends; -1 for none.
    `first`: what it does then, where it was forked from a process that has secrets.
    """
    order_read, order_write = os.pipe2(os.O_CLOEXEC)
    answer_read, answer_write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _run(mountpoint, order_read, answer_write, held, first)
    os.close(order_read)
    os.close(answer_write)
    os.set_blocking(order_write, False)
    return Notifier(pid, order_write, answer_read)


def signal_left(leader: int, number: signal.Signals) -> None:
    """Signal the child of a daemon that is dead and has led a process group; 0: nobody.

    Only while the child holds its descriptor (`held`): the number is nobody else's as long as
    somebody is in the group.
    """
    if leader > 1:
        with suppress(ProcessLookupError):
            os.killpg(leader, number)


def answers(data: bytes) -> list[Answer]:
    """What the child has written."""
    records = [data[at : at + RECORD] for at in range(0, len(data), RECORD)]
    return [Answer(r[:1], int(r[1:], 16)) for r in records]


def _run(mountpoint: str, orders: int, out: int, held: int, first: Callable[[], None]) -> None:
    """Be the child until the daemon closes its end; never returns."""
    status = 1
    try:
        descriptors.close_all_but({orders, out, held})
        # The kernel sends SIGHUP to a group that has lost its leader, and has stopped members.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        first()
        _serve(mountpoint, orders, out)
        status = 0
    finally:
        os._exit(status)


def _serve(mountpoint: str, orders: int, out: int) -> None:
    known: set[str] = set()
    while record := os.read(orders, RECORD):
        kind, serial = record[:1], record[1:].strip().decode("ascii")
        path = f"{mountpoint}/{_PATHS[kind].format(serial)}"
        if kind == LEARN:
            known.add(path)
        _try(_ACTS[kind], path)
        with suppress(BrokenPipeError):
            os.write(out, record)
    if known and _is_dead(mountpoint):
        for path in known:
            _try(_kick, path)


def _is_dead(mountpoint: str) -> bool:
    """Whether nobody answers there, nor will: while another daemon may come, this waits for it."""
    try:
        os.statvfs(mountpoint)
    except OSError:
        return True
    return False


def _try(act: Callable[[str], None], path: str) -> None:
    """It may be that nobody waits at the FIFO (ENXIO), or that there is no such file any more."""
    with suppress(OSError):
        act(path)


def _kick(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))


def _learn(path: str) -> None:
    os.stat(path)


def _touch(path: str) -> None:
    os.chmod(path, 0o600)


_ACTS = {KICK: _kick, LEARN: _learn, TOUCH: _touch}
