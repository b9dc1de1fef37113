# SPDX-License-Identifier: MIT
"""The daemon's use of its notifier: wake readers of FIFOs, touch ccaches, replace it when it ends.

Knows serial numbers, orders and their completions; never FUSE, nor what is in the mount.
"""

from __future__ import annotations

import logging
import os
import signal
from contextlib import suppress

import trio

from ccfs.daemon.options import MountOptions
from ccfs.linux import hardening
from ccfs.ops.waiters import Waiters
from ccfs.takeover import notifier
from ccfs.takeover.handover import KICKS, TOUCHES
from ccfs.takeover.notifier import Notifier

log = logging.getLogger(__name__)

TOUCH_PAUSE = 0.1
"""Seconds between two touches of one file."""
COMPLETION_SECONDS = 1.0
"""Within which the notifier completes an order."""


class NotifierClient:
    """Sends orders to the notifier.

    One kick of a FIFO is sent at a time; changes meanwhile are one more kick afterwards.  A ccache
    is touched at most once in TOUCH_PAUSE.  Without a `process` the notifier is started with the
    first order.
    """

    def __init__(self, process: Notifier | None, options: MountOptions) -> None:
        self.process = process
        self.waiters: Waiters | None = None
        self._mountpoint = options.mountpoint
        self._liveness = options.liveness
        self._handover = options.handover
        self._kicking: set[int] = set()
        self._kick_again: set[int] = set()
        self._touching: set[str] = set()
        self._completions = 0
        self._kick_sent = trio.Event()
        self._touch_wanted = trio.Event()
        self._all_kicked = trio.Event()
        self._started = trio.Event()

    def wake_fifo(self, serial: int) -> None:
        """Wake the readers of a serial number's FIFO."""
        if serial in self._kicking:
            self._kick_again.add(serial)
        elif self._send(notifier.KICK, format(serial, "x")):
            self._kicking.add(serial)
            self._note_kicks()
            self._kick_sent.set()

    def locate_fifo(self, serial: int) -> None:
        """Have the notifier look up a FIFO that clients may wait at from now on."""
        self._send(notifier.LEARN, format(serial, "x"))

    def touch_file(self, ident: str) -> None:
        """Have inotify watches of a ccache's file report a change."""
        if ident not in self._touching:
            self._touching.add(ident)
            if self._handover:
                count = len(self._touching)
                self._handover.store_one(TOUCHES, count - 1, int(ident, 16) + 1)
        self._touch_wanted.set()

    async def send_touches(self) -> None:
        """Send orders to touch, those for one file at most once in TOUCH_PAUSE; never returns."""
        while True:
            await self._touch_wanted.wait()
            self._touch_wanted = trio.Event()
            idents, self._touching = self._touching, set()
            for ident in idents:
                self._send(notifier.TOUCH, ident)
            if self._handover:
                self._handover.store(TOUCHES, ())
            await trio.sleep(TOUCH_PAUSE)

    async def receive(self) -> None:
        """Receive completions, and replace a notifier that has ended; never returns."""
        while True:
            if self.process is None:
                await self._started.wait()
            assert self.process is not None
            await trio.lowlevel.wait_readable(self.process.completions)
            data = os.read(self.process.completions, notifier.RECORD * 64)
            if data:
                self._complete(data)
            else:
                self._replace()

    async def supervise(self) -> None:
        """Continue a notifier that was stopped, and kill one that doesn't complete; never returns.

        The user's own processes can stop it.  `receive` replaces a killed one.
        """
        while True:
            await self._kick_sent.wait()
            self._kick_sent = trio.Event()
            for number in (signal.SIGCONT, signal.SIGKILL):
                before = self._completions
                await trio.sleep(COMPLETION_SECONDS)
                if self._kicking and self._completions == before and self.process is not None:
                    with suppress(ProcessLookupError):
                        os.kill(self.process.pid, number)
            if self._kicking:
                self._kick_sent.set()

    async def wake_all(self) -> None:
        """Wake the readers of all FIFOs; returns when that is done."""
        self._all_kicked = trio.Event()
        for serial in self.waiters.fifos if self.waiters else ():
            self.wake_fifo(serial)
        if self._kicking:
            await self._all_kicked.wait()

    def end(self) -> None:
        """End the notifier, which wakes the readers that still wait."""
        if self.process is not None:
            self.process.end()

    def _complete(self, data: bytes) -> None:
        self._completions += 1
        for completion in notifier.completions(data):
            if completion.kind == notifier.KICK:
                self._complete_kick(completion.serial)
        self._note_kicks()
        if not self._kicking:
            self._all_kicked.set()

    def _complete_kick(self, serial: int) -> None:
        self._kicking.discard(serial)
        if serial in self._kick_again:
            self._kick_again.discard(serial)
            self.wake_fifo(serial)

    def _note_kicks(self) -> None:
        """Have the next daemon make the kicks that the notifier has not completed.

        A notifier without a daemon kicks only where no daemon takes the mount over.
        """
        if self._handover:
            self._handover.store(KICKS, (serial + 1 for serial in self._kicking))

    def _send(self, kind: bytes, serial: str) -> bool:
        if self.process is None:
            self.process = self._start()
            self._started.set()
        try:
            self.process.send(kind, serial)
        except OSError as error:
            log.warning("cannot reach the notifier: %s", error.strerror)
            return False
        return True

    def _start(self) -> Notifier:
        process = notifier.start(self._mountpoint, self._liveness, hardening.lock_fork)
        if self.waiters:
            self.waiters.notifier_pid = process.pid
        return process

    def _replace(self) -> None:
        log.warning("the notifier has ended, starting another")
        if self.process is not None:
            self.process.end()
        self.process = self._start()
        for serial in self.waiters.fifos if self.waiters else ():
            self.locate_fifo(serial)
        lost = self._kicking | self._kick_again
        self._kicking, self._kick_again = set(), set()
        for serial in lost:
            self.wake_fifo(serial)
