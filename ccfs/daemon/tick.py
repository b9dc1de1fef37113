"""The timer under the loop: it ends a read that waits for nothing.

Knows a signal; never a request.
"""

from __future__ import annotations

import signal
from typing import Any

TICK = 0.020
"""Seconds after which a read that found its request withdrawn is given up."""


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
