"""Waiting for changes: the log of changes, followed from where one has got to.

It knows lines of the log and positions in it, never what the changes are about.
"""

import errno
import os
import select
from dataclasses import dataclass
from types import TracebackType

from ccfs.ccapi.mount_client import CHUNK, Server


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a server's log.  `edition`: the log's inode, another one once it was shortened."""

    server: str
    edition: int
    offset: int


class Watch:
    """What a server logs from a position on, or from now on.

    Methods raise OSError, ENOTCONN where the server is dead.
    """

    def __init__(self, server: Server, since: Position | None = None) -> None:
        self._events = server.open("events", os.O_RDONLY)
        self._poll = select.poll()
        self._poll.register(self._events, select.POLLIN)
        try:
            status = os.fstat(self._events)
        except BaseException:
            self.close()
            raise
        self._place = (server.identity, status.st_ino)
        known = since is not None and (since.server, since.edition) == self._place
        self._offset = since.offset if since and known else status.st_size

    @property
    def position(self) -> Position:
        """How far the log was read."""
        return Position(*self._place, self._offset)

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

    def news(self) -> bytes:
        """The lines that were logged since the last call.

        Only who has read up to the end is told of more.
        """
        chunks = [self._chunk()]
        while len(chunks[-1]) == CHUNK:
            chunks.append(self._chunk())
        return b"".join(chunks)

    def wait(self, other: int | None = None, seconds: float | None = None) -> bytes:
        """Wait until something is logged, and return it.

        b"" once `other` is readable, and after `seconds`.
        """
        if other is not None:
            self._poll.register(other, select.POLLIN)
        ready = dict(self._poll.poll(None if seconds is None else seconds * 1000))
        if ready.get(self._events, 0) & ~select.POLLIN:
            raise OSError(errno.ENOTCONN, "the server is gone")
        return self.news() if self._events in ready else b""

    def _chunk(self) -> bytes:
        chunk = os.pread(self._events, CHUNK, self._offset)
        self._offset += len(chunk)
        return chunk
