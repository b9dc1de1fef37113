# SPDX-License-Identifier: MIT
"""Follow a mount's log of changes, the file `events`.

Knows lines of the log and positions in it, never what the changes are about.
"""

import errno
import os
import select
from dataclasses import dataclass

from ccfs.ccapi.mount_client import CHUNK, MountClient


@dataclass(frozen=True, slots=True)
class LogPosition:
    """A position in a mount's log.

    `mount`: the mount's identity.  `edition`: the log's inode number, another one once the log was
    shortened.  `offset`: bytes.
    """

    mount: str
    edition: int
    offset: int


class EventLog:
    """The open log of a mount, read from a position, or from its end.

    Methods raise OSError, ENOTCONN if the mount is dead.
    """

    def __init__(self, mount: MountClient, since: LogPosition | None = None) -> None:
        self._events = mount.open("events", os.O_RDONLY)
        self._poll = select.poll()
        self._poll.register(self._events, select.POLLIN)
        try:
            status = os.fstat(self._events)
        except BaseException:
            self.close()
            raise
        self._edition = (mount.identity, status.st_ino)
        known = since is not None and (since.mount, since.edition) == self._edition
        self._offset = since.offset if since and known else status.st_size

    @property
    def position(self) -> LogPosition:
        """The position up to which the log was read."""
        return LogPosition(*self._edition, self._offset)

    def close(self) -> None:
        """Close the log."""
        os.close(self._events)

    def read_new(self) -> bytes:
        """Return the lines that were logged since the last call, up to the end.

        poll(2) reports a longer log only to a client that has read up to its end.
        """
        chunks = [self._read_chunk()]
        while len(chunks[-1]) == CHUNK:
            chunks.append(self._read_chunk())
        return b"".join(chunks)

    def wait(self, other: int | None = None, seconds: float | None = None) -> bytes:
        """Wait until lines are logged, and return them.

        b"" once the descriptor `other` is readable, or after `seconds`.
        """
        if other is not None:
            self._poll.register(other, select.POLLIN)
        ready = dict(self._poll.poll(None if seconds is None else seconds * 1000))
        if ready.get(self._events, 0) & ~select.POLLIN:
            raise OSError(errno.ENOTCONN, "the mount is dead")
        return self.read_new() if self._events in ready else b""

    def _read_chunk(self) -> bytes:
        chunk = os.pread(self._events, CHUNK, self._offset)
        self._offset += len(chunk)
        return chunk
