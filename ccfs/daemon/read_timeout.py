# SPDX-License-Identifier: MIT
"""End a read of the FUSE device that waits for a request although another task has to run.

A client that is killed takes its request back (FUSE_INTERRUPT of a queued request), perhaps between
the loop's poll(2) and libfuse's read(2).  That read then waits for the next request, while timers
and connections wait for the daemon.  A signal ends the read with EINTR, and pyfuse3 calls the loop
again.

Knows one signal and one timer; never a request.
"""

from __future__ import annotations

import signal
from typing import Any

TIMEOUT = 0.020
"""Seconds after which a read that found its request withdrawn is given up."""


class ReadTimeout:
    """A timer that runs while there are requests, and a little longer.

    It is never set for each request: setitimer(2) would cost more than most of them.
    """

    def __init__(self) -> None:
        self._armed = False
        self._idle = False
        self._previous: Any = None

    def start(self) -> None:
        """Take the signal SIGALRM."""
        self._previous = signal.signal(signal.SIGALRM, self._on_alarm)

    def stop(self) -> None:
        """Give the signal back."""
        self._disarm()
        signal.signal(signal.SIGALRM, self._previous)

    def before_read(self) -> None:
        """Have the timer run: libfuse is about to read the device."""
        self._idle = False
        if not self._armed:
            self._armed = True
            signal.setitimer(signal.ITIMER_REAL, TIMEOUT, TIMEOUT)

    def before_sleep(self, *, stop: bool) -> None:
        """Stop the timer if it has fired since the last read; in any case where `stop`.

        `stop`: the signal would not wake the caller from its sleep.
        """
        if self._armed and (self._idle or stop):
            self._disarm()

    def _disarm(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._armed = False

    def _on_alarm(self, number: int, frame: object) -> None:
        self._idle = True
