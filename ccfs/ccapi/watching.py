"""Waiting for changes: the log of changes, followed from where it ends.

It knows that something was logged, never what.
"""

import errno
import os
import select
from types import TracebackType

from ccfs.ccapi.server import CHUNK, Server


class Watch:
    """What a server logs from now on.  Methods raise OSError, ENOTCONN where the server is dead."""

    def __init__(self, server: Server) -> None:
        self._events = server.open("events", os.O_RDONLY)
        self._poll = select.poll()
        self._poll.register(self._events, select.POLLIN)
        self._position = 0
        try:
            self._position = os.fstat(self._events).st_size
            self._read_on()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Watch no longer."""
        os.close(self._events)

    def __enter__(self) -> "Watch":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def wait(self, other: int | None = None) -> None:
        """Return once something was logged since the last call, or `other` is readable."""
        if other is not None:
            self._poll.register(other, select.POLLIN)
        for descriptor, events in self._poll.poll():
            if descriptor == self._events:
                self._take(events)

    def _take(self, events: int) -> None:
        if events & ~select.POLLIN:
            raise OSError(errno.ENOTCONN, "the server is gone")
        self._read_on()

    def _read_on(self) -> None:
        """Be at the end of the log: from there on the server tells of news."""
        size = CHUNK
        while size == CHUNK:
            size = len(os.pread(self._events, CHUNK, self._position))
            self._position += size
