"""The kernel's side of a server: what its caches hold, and who waits where.

Knows inode numbers and the helper; never what is in the mount.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ccfs.daemon.pollers import Pollers
from ccfs.linux import hardening
from ccfs.takeover import notifier
from ccfs.takeover.handover import KICKS, TOUCHES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ccfs.daemon.options import MountOptions
    from ccfs.ops.notifications import Poll
    from ccfs.ops.waiters import Waiters

log = logging.getLogger(__name__)

TOUCH_PAUSE = 0.1
"""Seconds between two touches of one file."""
ANSWER = 1.0
"""Seconds within which the helper answers an order."""


class KernelNotifier:
    """The kernel's side of a server: invalidation, and the child that wakes waiters.

    A FIFO is kicked at most once at a time; a change meanwhile is one more kick afterwards.  A
    ccache is touched at most ten times a second.  Without a `child` there is one once it is needed.
    """

    def __init__(self, child: notifier.Notifier | None, options: MountOptions) -> None:
        import pyfuse3
        import trio

        self._invalidate = pyfuse3.invalidate_inode
        self._invalidate_entry = pyfuse3.invalidate_entry_async
        self._mountpoint = options.mountpoint
        self._held = options.liveness
        self._handover = options.handover
        self._pollers = Pollers(options.device, options.handover)
        self.child = child
        self._busy: set[int] = set()
        self._asked = trio.Event()
        self._answers = 0
        self._again: set[int] = set()
        self._touched: set[str] = set()
        self._news = trio.Event()
        self._sooner = trio.Event()
        self._due = math.inf
        self._idle = trio.Event()
        self._born = trio.Event()
        self.ending = False
        self.waiters: Waiters | None = None

    def invalidate(self, inode: int) -> None:
        """Have the kernel ask for the attributes again; it may not know the inode at all."""
        with suppress(OSError):
            self._invalidate(inode, attr_only=True)

    def has_inode(self, inode: int) -> bool:
        """Whether the kernel has an inode; it asks for the attributes again."""
        try:
            self._invalidate(inode, attr_only=True)
        except OSError:
            return False
        return True

    def record_polls(self, polls: Iterable[Poll]) -> None:
        """Record all polls in the handover page, for the next daemon to wake."""
        self._pollers.note(polls)

    def wake_pollers(self) -> None:
        """Have those ask again who have polled a file when another daemon served."""
        self._pollers.wake()

    def invalidate_entry(self, directory: int, name: bytes) -> None:
        """Have the kernel look a name up again, once it has our answer to the present request."""
        self._invalidate_entry(directory, name, ignore_enoent=True)

    def wake_fifo(self, serial: int) -> None:
        """Wake those who wait at the FIFO of a serial number."""
        if serial in self._busy:
            self._again.add(serial)
        elif self._send(notifier.KICK, format(serial, "x")):
            self._busy.add(serial)
            self._note_kicks()
            self._asked.set()

    def schedule(self, due: float | None) -> None:
        """There will be something to do at `due`: who rests may have to get up sooner."""
        if due is not None and due < self._due:
            self._due = due
            self._sooner.set()

    async def rest(self, longest: float, due: float | None) -> None:
        """Return when something is due, at `due` or when it is expected sooner meanwhile.

        After `longest` seconds at the latest.  What was expected and is not any more is not taken
        back: it would cost each step more than it costs to get up in vain.
        """
        import trio

        self._due = math.inf if due is None else due
        deadline = trio.current_time() + longest
        while (left := min(deadline - trio.current_time(), self._due - time.time())) > 0:
            self._sooner = trio.Event()
            with trio.move_on_after(left):
                await self._sooner.wait()

    def locate_fifo(self, serial: int) -> None:
        """Somebody may wait at this FIFO: have the helper know the way there."""
        self._send(notifier.LEARN, format(serial, "x"))

    def touch_file(self, ident: str) -> None:
        """Show those who watch the file of a ccache that there is news of it."""
        if ident not in self._touched:
            self._touched.add(ident)
            if self._handover:
                count = len(self._touched)
                self._handover.store_one(TOUCHES, count - 1, int(ident, 16) + 1)
        self._news.set()

    async def show_news(self) -> None:
        """Touch what there is news of, each file at most ten times a second."""
        import trio

        while True:
            await self._news.wait()
            self._news = trio.Event()
            touched, self._touched = self._touched, set()
            for ident in touched:
                self._send(notifier.TOUCH, ident)
            if self._handover:
                self._handover.store(TOUCHES, ())
            await trio.sleep(TOUCH_PAUSE)

    async def hear(self) -> None:
        """Take the helper's answers in; where it has died there is a new one."""
        import trio

        while True:
            if self.child is None:
                await self._born.wait()
            assert self.child is not None
            await trio.lowlevel.wait_readable(self.child.completions)
            data = os.read(self.child.completions, notifier.RECORD * 64)
            if data:
                self._hear(data)
            else:
                self._replace_child()

    async def keep_child_going(self) -> None:
        """Continue a helper that was stopped, and end one that doesn't answer: it is replaced.

        The user's own processes can stop it.
        """
        import trio

        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            for number in (signal.SIGCONT, signal.SIGKILL):
                before = self._answers
                await trio.sleep(ANSWER)
                if self._busy and self._answers == before and self.child is not None:
                    with suppress(ProcessLookupError):
                        os.kill(self.child.pid, number)
            if self._busy:
                self._asked.set()

    def end(self) -> None:
        """Let the child go, which wakes those who still wait."""
        if self.child is not None:
            self.child.end()

    async def say_farewell(self) -> None:
        """Wake everybody who may wait anywhere; returns when that is done."""
        import trio

        self._idle = trio.Event()
        for serial in self.waiters.fifos if self.waiters else ():
            self.wake_fifo(serial)
        if self._busy:
            await self._idle.wait()

    def _hear(self, data: bytes) -> None:
        self._answers += 1
        for answer in notifier.completions(data):
            if answer.kind == notifier.KICK:
                self._kicked(answer.serial)
        self._note_kicks()
        if not self._busy:
            self._idle.set()

    def _kicked(self, serial: int) -> None:
        self._busy.discard(serial)
        if serial in self._again:
            self._again.discard(serial)
            self.wake_fifo(serial)

    def _note_kicks(self) -> None:
        """Have the next daemon know what the helper has not done yet: it could not, after us."""
        if self._handover:
            self._handover.store(KICKS, (serial + 1 for serial in self._busy))

    def _send(self, kind: bytes, serial: str) -> bool:
        try:
            self._some_child().send(kind, serial)
        except OSError as error:
            log.warning("cannot reach the helper: %s", error.strerror)
            return False
        return True

    def _some_child(self) -> notifier.Notifier:
        """The child; the first one, where there was none yet."""
        if self.child is None:
            self.child = self._start_child()
            self._born.set()
        return self.child

    def _start_child(self) -> notifier.Notifier:
        child = notifier.start(self._mountpoint, self._held, hardening.lock_fork)
        if self.waiters:
            self.waiters.notifier_pid = child.pid
        return child

    def _replace_child(self) -> None:
        log.warning("the helper has ended, there is a new one")
        if self.child is not None:
            self.child.end()
        self.child = self._start_child()
        for serial in self.waiters.fifos if self.waiters else ():
            self.locate_fifo(serial)
        lost = self._busy | self._again
        self._busy, self._again = set(), set()
        for serial in lost:
            self.wake_fifo(serial)
