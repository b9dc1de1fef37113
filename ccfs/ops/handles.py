# SPDX-License-Identifier: MIT
"""Open files: what a read or a write of a handle does.

The base class accepts every operation, or refuses it with an errno value.
"""

from collections.abc import Callable

from ccfs.ops.errnos import BadDescriptorError
from ccfs.ops.inodes import Ref, Slot
from ccfs.service.notes import Notes
from ccfs.store import Client, Store
from ccfs.store.errors import BadContentError
from ccfs.store.event_log import Edition, Reader
from ccfs.store.generation import OpenFile


class Handle:
    """One open file."""

    direct = True
    """Whether reads bypass the page cache (FOPEN_DIRECT_IO)."""
    client = Client(0, 0, "-")
    """The process that opened it."""
    redirected_to: Ref | None = None
    """The inode of its bytes, where that is not the inode that was opened."""
    grows = False
    """Whether it can become readable by a change that its reader does not make."""

    def read(self, offset: int, size: int) -> bytes:
        """Return at most `size` bytes at `offset`."""
        return b""

    def write(self, offset: int, data: bytes, now: float) -> int:
        """Write; returns how many bytes were accepted."""
        raise BadDescriptorError

    def set_number(self, number: int) -> None:
        """Take the handle number that the kernel knows the file by."""

    def sync(self, now: float) -> None:
        """fsync(2): make sure that all that was written is durable, or refuse."""

    def readable(self) -> bool:
        """poll(2): whether a read would return data that was not read yet."""
        return True

    def release(self, now: float) -> None:
        """Handle the last close (RELEASE)."""


class BytesHandle(Handle):
    """An open generation: the bytes of a ccache, or a scratch file."""

    def __init__(self, store: Store, file: OpenFile, *, direct: bool) -> None:
        self.direct = direct
        self._store = store
        self._file = file
        if file.number != file.generation.number:
            self.redirected_to = Ref(file.generation.number, Slot.BYTES)

    def set_number(self, number: int) -> None:
        self._file.handle = number

    def read(self, offset: int, size: int) -> bytes:
        return self._store.open_files.read(self._file, offset, size)

    def write(self, offset: int, data: bytes, now: float) -> int:
        return self._store.open_files.write(self._file, offset, data, now)

    def sync(self, now: float) -> None:
        self._store.open_files.sync(self._file)

    def release(self, now: float) -> None:
        self._store.close(self._file, now)


class TextHandle(Handle):
    """A text as it was when it was opened."""

    def __init__(self, text: bytes, *, direct: bool = True) -> None:
        self.direct = direct
        self._text = text

    def read(self, offset: int, size: int) -> bytes:
        return self._text[offset : offset + size]


Apply = Callable[[bytes, float], None]
"""Apply the whole content of a file at a time (seconds)."""


class WholeFileHandle(TextHandle):
    """A small file that is applied as a whole at each write.

    `apply(content, now)` gets all that was written through this handle.  It refuses bad content at
    once: close(2) can't, since the kernel ignores the reply to RELEASE and asks no FLUSH.
    """

    def __init__(self, text: bytes, apply: Apply) -> None:
        super().__init__(text)
        self._apply = apply
        self._written = b""

    @property
    def size(self) -> int:
        """How many bytes were written."""
        return len(self._written)

    def write(self, offset: int, data: bytes, now: float) -> int:
        at = min(offset, len(self._written))
        content = self._written[:at] + data + self._written[at + len(data) :]
        self._apply(content, now)
        self._written = content
        return len(data)


ApplyIfComplete = Callable[[bytes, float], bool]
"""Apply the content of a new file where it is complete; returns whether it is."""


class UnfinishedHandle(WholeFileHandle):
    """A new file that nothing is made of until its content is complete.

    `dropped(now)` is called where it is closed incomplete, `closed()` in any case.  `written`: what
    was written to it through an earlier daemon.
    """

    def __init__(
        self,
        apply: ApplyIfComplete,
        dropped: Callable[[float], None],
        closed: Callable[[], None],
        written: bytes = b"",
        *,
        complete: bool = True,
    ) -> None:
        super().__init__(b"", self._apply_if_complete)
        self._written = written
        self._complete = complete or not written
        self._try = apply
        self._dropped = dropped
        self._closed = closed

    def _apply_if_complete(self, content: bytes, now: float) -> None:
        self._complete = self._try(content, now)

    def sync(self, now: float) -> None:
        if not self._complete:
            raise BadContentError("cut short")

    def release(self, now: float) -> None:
        if not self._complete:
            self._dropped(now)
        self._closed()


_LENGTH = 8


def transaction_key(number: int) -> bytes:
    """Return the key of the note on the transaction of an open file."""
    return b"transaction %x" % number


class TransactionHandle(Handle):
    """One request, one answer: the first write is carried out, then the answer is read.

    The answer is read from offset 0, or from the end of the request: a shell can't seek.
    """

    def __init__(
        self, transact: Callable[[bytes, float], bytes], notes: Notes, earlier: bytes = b""
    ) -> None:
        """`earlier`: the note of a transaction of this open file with an earlier daemon."""
        self._transact = transact
        self._notes = notes
        self._answer: bytes | None = earlier[_LENGTH:] if earlier else None
        self._request_end = int.from_bytes(earlier[:_LENGTH], "big")
        self._start: int | None = None
        self._key = b""

    def set_number(self, number: int) -> None:
        self._key = transaction_key(number)

    def read(self, offset: int, size: int) -> bytes:
        if self._answer is None:
            return b""
        if self._start is None:
            self._start = self._request_end if offset == self._request_end else 0
        at = max(offset - self._start, 0)
        return self._answer[at : at + size]

    def write(self, offset: int, data: bytes, now: float) -> int:
        if self._answer is not None:
            raise BadContentError("one open is one transaction")
        self._answer = self._transact(data, now)
        self._request_end = offset + len(data)
        self._notes.save(self._key, self._request_end.to_bytes(_LENGTH, "big") + self._answer)
        return len(data)

    def release(self, now: float) -> None:
        self._notes.save(self._key, b"")


class LogHandle(Handle):
    """The event log, read by position; b"" at its end."""

    grows = True

    def __init__(self, store: Store, edition: Edition) -> None:
        self.edition = edition
        self._reader = Reader(store.events, edition)

    def read(self, offset: int, size: int) -> bytes:
        return self._reader.read(offset, size)

    def readable(self) -> bool:
        return self._reader.behind


class LockHandle(Handle):
    """A file for locks, which the kernel keeps: it stays empty."""

    def write(self, offset: int, data: bytes, now: float) -> int:
        raise BadContentError("a lock file stays empty")


class ListHandle(Handle):
    """A directory as it was when it was opened: names and inodes in their order."""

    def __init__(self, entries: list[tuple[bytes, Ref]]) -> None:
        self.entries = entries
