"""Change times as a whole process sees them: they go up at each change, and never back.

It knows numbers and which server said them, never a file.  A new server may count from less than
the one before it had reached, since change times run ahead of the wall clock under many changes;
what a caller sees goes on from there.
"""

import threading
import time


class Clock:
    """The change time of one place.  Its methods may be called from any thread."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._server: str | None = None
        self._ahead = 0
        self._last = 0

    @property
    def last(self) -> int:
        """The last time that was seen, in seconds since the epoch; 0 for none."""
        with self._mutex:
            return self._last

    def saw(self, server: str, now: int) -> int:
        """What to call the time `now` of a server."""
        with self._mutex:
            if server != self._server:
                self._server = server
                self._ahead = max(self._last + 1 - now, 0) if self._last else 0
            self._last = max(self._last, now + self._ahead)
            return self._last

    def vanished(self) -> None:
        """A server is gone: that is a change, too."""
        with self._mutex:
            self._server = None
            self._last = max(self._last + 1, int(time.time()))


_clocks: dict[str, Clock] = {}
_mutex = threading.Lock()


def of(path: str) -> Clock:
    """The clock of a mount's path."""
    with _mutex:
        return _clocks.setdefault(path, Clock())
