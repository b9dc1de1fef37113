# SPDX-License-Identifier: MIT
"""The process of one daemon: whether it works, and signals to it.

Knows a process, its CPU time and two descriptors; never what the daemon is asked.
"""

from __future__ import annotations

import os
import signal

import trio

from ccfs.linux import processes
from ccfs.linux.processes import Process

BUSY = 12
"""So many pings in a row a daemon that works may leave without a reply."""
LOADING = 120.0
"""Seconds that a daemon may take to load its journal, as long as it uses CPU time."""


class DaemonProcess:
    """One daemon.

    `pidfd`: readable once it has ended.  `liveness`: the FIFO that it and its notifier hold open
    (`Runtime.liveness`), -1 without one.  `is_serving`: it has replied to a ping.  `is_ending`: it
    was sent a signal to end.  `is_successor`: it takes a mount over from another daemon.
    `is_adopted`: another ccfsd has started it.
    `requests`, `quiet_since`: how many requests it has served, and since when these are all.
    """

    def __init__(self, process: Process, pidfd: int, liveness: int) -> None:
        self.process = process
        self.pidfd = pidfd
        self.liveness = liveness
        self.is_serving = False
        self.is_ending = False
        self.is_successor = False
        self.is_adopted = False
        self.requests = -1
        self.quiet_since = 0.0
        self._started = trio.current_time()
        self._work: processes.Work | None = None
        self._busy_pings = 0

    @property
    def is_alive(self) -> bool:
        """False once the process has ended.  Raises OSError where that can't be seen."""
        return processes.find(self.process.pid) == self.process

    def note_ping(self) -> None:
        """Remember what the process has done so far: it is pinged now."""
        self._work = processes.work_done(self.process)

    def note_reply(self) -> None:
        """The process has replied to a ping."""
        self._busy_pings = 0

    def is_busy(self) -> bool:
        """True if the process works, or would if it had a core, and may leave the ping unanswered.

        One that loads a large journal, or is on a machine that is overloaded, does not hang; but
        it is given LOADING seconds while it starts, and BUSY pings later.
        """
        now = processes.work_done(self.process)
        if now is None or self._work is None:
            return False
        if self.is_serving:
            is_overdue = self._busy_pings >= BUSY
        else:
            is_overdue = trio.current_time() - self._started > LOADING
        if is_overdue:
            return False
        self._busy_pings += 1
        return now.runnable or now.ticks > self._work.ticks

    def send(self, number: signal.Signals) -> None:
        """Send a signal, after which the process is expected to end."""
        self.is_ending = True
        processes.send_signal(self.pidfd, number)

    async def wait(self) -> None:
        """Wait until the process has ended."""
        await trio.lowlevel.wait_readable(self.pidfd)

    def close(self) -> None:
        """Close the pidfd; `liveness` stays open."""
        os.close(self.pidfd)
        self.pidfd = -1
