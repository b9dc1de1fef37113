# SPDX-License-Identifier: MIT
"""When the next daemon starts after one has died, and when to give up.

A daemon that was ready is replaced at once.  Starts that fail are repeated with pauses, each twice
as long as the one before, until PATIENCE seconds have passed since the first of them.

Knows times, in seconds of any clock that only goes forward; never the clock, nor processes.
"""

from __future__ import annotations

FIRST_PAUSE = 0.05
"""Seconds before the second start in a row; the pause before each further start is doubled."""
PATIENCE = 30.0
"""Seconds for which starts are repeated.  Clients wait meanwhile, and get an error afterwards."""
LONGEST_PAUSE = 1 / 10
"""The longest pause, as a fraction of the patience."""


class RestartPolicy:
    """Decides on the starts of one mount's daemons."""

    def __init__(self, now: float, patience: float = PATIENCE) -> None:
        """`now`: when the first daemon starts.  `patience`: seconds."""
        self._patience = patience
        self._first_start = now
        self._starts = 0

    def note_ready(self) -> None:
        """Note that the present daemon serves: when it dies, the next one starts at once."""
        self._starts = 0

    def pause(self, now: float) -> float | None:
        """Return the seconds until the next start, None where it is time to give up."""
        if not self._starts:
            self._first_start = now
        elif self.is_overdue(now):
            return None
        self._starts += 1
        if self._starts == 1:
            return 0.0
        return min(FIRST_PAUSE * 2.0 ** (self._starts - 2), self._patience * LONGEST_PAUSE)

    def is_overdue(self, now: float) -> bool:
        """True if no daemon has become ready for `patience` seconds since the first start.

        Only meaningful while the present daemon is not ready.
        """
        return now - self._first_start >= self._patience
