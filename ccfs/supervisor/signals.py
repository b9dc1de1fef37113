# SPDX-License-Identifier: MIT
"""What signals ask of a supervisor: to end (SIGTERM, SIGINT), or to go on with new code (SIGHUP).

Knows signals and one timer; never what is supervised.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

END_SECONDS = 5.0
"""That a daemon has to end after SIGTERM."""
ENDING = (signal.SIGTERM, signal.SIGINT)
REIMPORT = signal.SIGHUP
"""What `ccfs restart` sends."""


class Signals:
    """The signals of one supervisor.

    `ending`: the end was asked for, by a signal or by `end`.  `reimport_wanted`: new code is to go
    on from here.
    """

    def __init__(self, signal_daemon: Callable[[signal.Signals], None]) -> None:
        """`signal_daemon` sends a signal to the daemon, if there is one; called in handlers."""
        self.ending = False
        self.reimport_wanted = False
        self._signal_daemon = signal_daemon
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def install(self) -> None:
        """Handle the signals from now on."""
        for number in ENDING:
            signal.signal(number, self._on_end)
        signal.signal(signal.SIGALRM, self._on_timeout)
        signal.signal(REIMPORT, self._on_reimport)

    def fileno(self) -> int:
        """Return a descriptor that is readable once new code is wanted."""
        return self._wakeup

    def clear(self) -> None:
        """Make `fileno` unreadable; `reimport_wanted` stays."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._wakeup)

    def end(self) -> None:
        """End the daemon with SIGTERM, and with SIGKILL after END_SECONDS."""
        self.ending = True
        self._signal_daemon(signal.SIGTERM)
        signal.setitimer(signal.ITIMER_REAL, END_SECONDS)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Block ENDING meanwhile, so that no daemon starts that is not told of the end."""
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            yield
        finally:
            if self.ending:
                self.end()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)

    def release(self) -> None:
        """Give way to new code, which installs handlers of its own."""
        signal.signal(REIMPORT, signal.SIG_IGN)
        os.close(self._wakeup)

    def _on_end(self, _: int, __: FrameType | None) -> None:
        self.end()

    def _on_timeout(self, _: int, __: FrameType | None) -> None:
        """Kill a daemon that doesn't end: it is stopped, or hangs, and its clients with it."""
        self._signal_daemon(signal.SIGKILL)

    def _on_reimport(self, _: int, __: FrameType | None) -> None:
        self.reimport_wanted = True
        os.eventfd_write(self._wakeup, 1)


def restore_defaults() -> None:
    """In a daemon: undo what the supervisor has done to signals."""
    for number in (*ENDING, REIMPORT, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
