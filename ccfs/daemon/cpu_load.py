"""What the loop goes by besides requests: how busy the machine is, and a timer.

Knows /proc/loadavg and a signal; never a request.
"""

from __future__ import annotations

import os
import signal
from typing import Any

SAMPLE = 0.010
"""Seconds for which one look at the machine's load holds."""
TICK = 0.020
"""Seconds after which a read that found its request withdrawn is given up."""


class Load:
    """Whether a core is idle: how many threads run on the machine, looked at now and then."""

    def __init__(self, path: str = "/proc/loadavg") -> None:
        self._cores = len(os.sched_getaffinity(0))
        self._until = 0.0
        self._idle = False
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._file = -1

    def leaves_a_core(self, now: float) -> bool:
        """Whether whoever we answer has a core although we don't let ours go."""
        if now >= self._until:
            self._until = now + SAMPLE
            self._idle = self._running() <= self._cores and self._cores > 1
        return self._idle

    def _running(self) -> int:
        """The runnable threads of the machine, this one included (proc(5), /proc/loadavg)."""
        if self._file < 0:
            return self._cores + 1
        return int(os.pread(self._file, 64, 0).split()[3].partition(b"/")[0])

    def close(self) -> None:
        """Let the file go."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class Tick:
    """A timer that gets a read going again that waits for nothing.

    A client that is killed takes its request back, perhaps between our poll(2) and libfuse's
    read(2), which then waits for the next one while timers and connections wait for us.  A signal
    ends that read, and pyfuse3 asks again.  The timer runs while there are requests, and a little
    longer: it is never set for each of them.
    """

    def __init__(self) -> None:
        self._armed = False
        self._unused = False
        self._before: Any = None

    def start(self) -> None:
        """Take the signal."""
        self._before = signal.signal(signal.SIGALRM, self._fire)

    def stop(self) -> None:
        """Give it back."""
        self._disarm()
        signal.signal(signal.SIGALRM, self._before)

    def guard(self) -> None:
        """There is going to be a read, and nothing but that before `rest`."""
        self._unused = False
        if not self._armed:
            self._armed = True
            signal.setitimer(signal.ITIMER_REAL, TICK, TICK)

    def rest(self, *, long: bool) -> None:
        """There is nothing to read.  `long`: its signal is not going to wake who rests."""
        if self._armed and (self._unused or long):
            self._disarm()

    def _disarm(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._armed = False

    def _fire(self, number: int, frame: object) -> None:
        self._unused = True
