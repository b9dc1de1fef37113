# SPDX-License-Identifier: MIT
"""How busy the machine is, from /proc/loadavg.  Never what it is busy with."""

from __future__ import annotations

import os

SAMPLE = 0.010
"""Seconds for which one look at the machine's load holds."""


class CpuLoad:
    """Tells if a core is idle, by the number of threads that run on the machine."""

    def __init__(self, path: str = "/proc/loadavg") -> None:
        self._cores = len(os.sched_getaffinity(0))
        self._expires = 0.0
        self._idle = False
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._file = -1

    def has_idle_core(self, now: float) -> bool:
        """True if spinning would not take a core from the client: at most one thread a core runs.

        `now`: seconds of a monotonic clock.
        """
        if now >= self._expires:
            self._expires = now + SAMPLE
            self._idle = self._running() <= self._cores and self._cores > 1
        return self._idle

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _running(self) -> int:
        """The runnable threads of the machine, this one included (proc(5), /proc/loadavg)."""
        if self._file < 0:
            return self._cores + 1
        return int(os.pread(self._file, 64, 0).split()[3].partition(b"/")[0])
