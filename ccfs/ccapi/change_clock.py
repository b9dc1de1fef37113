# SPDX-License-Identifier: MIT
"""Change times over restarts of a mount: they grow with each change within a process.

Knows numbers and which mount they come from, never a file.  A mount's change times run ahead of the
wall clock under many changes, so that those of the next mount may begin below them; the clock adds
the difference.
"""

import threading
import time


class ChangeClock:
    """The change time of one mountpoint.  Its methods may be called from any thread."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._mount: str | None = None
        self._offset = 0
        self._last = 0

    @property
    def last(self) -> int:
        """The last change time, in seconds since the epoch; 0 for none."""
        with self._mutex:
            return self._last

    def convert(self, mount: str, change_time: int) -> int:
        """Convert the change time of the mount with identity `mount`; return what callers get."""
        with self._mutex:
            if mount != self._mount:
                self._mount = mount
                self._offset = max(self._last + 1 - change_time, 0) if self._last else 0
            self._last = max(self._last, change_time + self._offset)
            return self._last

    def count_lost_mount(self) -> None:
        """Count the loss of the mount as a change."""
        with self._mutex:
            self._mount = None
            self._last = max(self._last + 1, int(time.time()))


_clocks: dict[str, ChangeClock] = {}
_mutex = threading.Lock()


def of(path: str) -> ChangeClock:
    """Return the clock of a mountpoint."""
    with _mutex:
        return _clocks.setdefault(path, ChangeClock())
