"""Open files: what a read or a write of a handle does.

Every handle can do everything; what makes no sense for it is refused.
"""

from collections.abc import Callable

from ccfs.ops.errnos import BadDescriptorError
from ccfs.ops.inodes import Ref, Slot
from ccfs.store import Client, Store
from ccfs.store.errors import BadContentError
from ccfs.store.event_log import Edition, Reader
from ccfs.store.open_files import OpenFile


class Handle:
    """One open file.  `direct`: whether reads go past the page cache; `who`: who opened it."""

    direct = True
    who = Client(0, 0, "-")
    instead: Ref | None = None
    """What it is of, where that is another inode than the one that was opened."""
    grows = False
    """Whether it becomes readable without its reader's doing."""

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes at `offset`."""
        return b""

    def write(self, offset: int, data: bytes, now: float) -> int:
        """Write; returns how many bytes were taken."""
        raise BadDescriptorError

    def known_as(self, number: int) -> None:
        """The number that the kernel knows it by."""

    def sync(self, now: float) -> None:
        """Have all that was written be kept, or refuse it."""

    def readable(self) -> bool:
        """Whether a read would give something that was not there before."""
        return True

    def release(self, now: float) -> None:
        """Closed for the last time."""


class BytesHandle(Handle):
    """An open generation: the bytes of a ccache, or a scratch file."""

    def __init__(self, store: Store, file: OpenFile, *, direct: bool) -> None:
        self.direct = direct
        self._store = store
        self._file = file
        if file.number != file.generation.number:
            self.instead = Ref(file.generation.number, Slot.BYTES)

    def known_as(self, number: int) -> None:
        self._file.ident = number

    def read(self, offset: int, size: int) -> bytes:
        return self._store.open_files.read(self._file, offset, size)

    def write(self, offset: int, data: bytes, now: float) -> int:
        return self._store.open_files.write(self._file, offset, data, now)

    def sync(self, now: float) -> None:
        self._store.sync(self._file)

    def release(self, now: float) -> None:
        self._store.close(self._file, now)


class TextHandle(Handle):
    """A text as it was when it was opened."""

    def __init__(self, text: bytes, *, direct: bool = True) -> None:
        self.direct = direct
        self._text = text

    def read(self, offset: int, size: int) -> bytes:
        return self._text[offset : offset + size]


Commit = Callable[[bytes, float], None]
Complete = Callable[[bytes, float], bool]


class CommitHandle(TextHandle):
    """A small file that is taken as a whole at each write.

    `commit(content, now)` gets all that was written through this handle so far, and refuses it at
    once: nothing can be refused at close.
    """

    def __init__(self, text: bytes, commit: Commit) -> None:
        super().__init__(text)
        self._commit = commit
        self._written = b""

    @property
    def size(self) -> int:
        """How many bytes were written."""
        return len(self._written)

    def write(self, offset: int, data: bytes, now: float) -> int:
        at = offset if offset <= len(self._written) else len(self._written)
        content = self._written[:at] + data + self._written[at + len(data) :]
        self._commit(content, now)
        self._written = content
        return len(data)


class PendingHandle(CommitHandle):
    """A new file that is nothing until what is written to it is complete.

    `commit` returns False where that is not complete; `dropped(now)`: what was written is lost,
    since the file is closed; `done()`: it is closed.  `written`: what was written to it before.
    """

    def __init__(
        self,
        commit: Complete,
        dropped: Callable[[float], None],
        done: Callable[[], None],
        written: bytes = b"",
        *,
        complete: bool = True,
    ) -> None:
        super().__init__(b"", self._take)
        self._written = written
        self._complete = complete or not written
        self._try = commit
        self._dropped = dropped
        self._done = done

    def _take(self, content: bytes, now: float) -> None:
        self._complete = self._try(content, now)

    def sync(self, now: float) -> None:
        if not self._complete:
            raise BadContentError("cut short")

    def release(self, now: float) -> None:
        if not self._complete:
            self._dropped(now)
        self._done()


Note = Callable[[bytes, bytes], None]
"""Note a value down under a key, for the next daemon; b"": it is wanted no more."""
_LENGTH = 8


def transaction_key(number: int) -> bytes:
    """What the transaction of an open file is noted under."""
    return b"transaction %x" % number


class TransactionHandle(Handle):
    """One question, one answer: what is written first is carried out, then the answer is read.

    It is read from offset 0, or from where the question ended: a shell can't seek.
    """

    def __init__(
        self, transact: Callable[[bytes, float], bytes], note: Note, said: bytes = b""
    ) -> None:
        """`said`: what was noted of an earlier transaction of this open file."""
        self._transact = transact
        self._note = note
        self._answer: bytes | None = said[_LENGTH:] if said else None
        self._asked = int.from_bytes(said[:_LENGTH], "big")
        self._start: int | None = None
        self._key = b""

    def known_as(self, number: int) -> None:
        self._key = transaction_key(number)

    def read(self, offset: int, size: int) -> bytes:
        if self._answer is None:
            return b""
        if self._start is None:
            self._start = self._asked if offset == self._asked else 0
        at = max(offset - self._start, 0)
        return self._answer[at : at + size]

    def write(self, offset: int, data: bytes, now: float) -> int:
        if self._answer is not None:
            raise BadContentError("one open is one transaction")
        self._answer = self._transact(data, now)
        self._asked = offset + len(data)
        self._note(self._key, self._asked.to_bytes(_LENGTH, "big") + self._answer)
        return len(data)

    def release(self, now: float) -> None:
        self._note(self._key, b"")


class LogHandle(Handle):
    """The log of changes, read by position; b"" at its end."""

    grows = True

    def __init__(self, store: Store, edition: Edition) -> None:
        self.edition = edition
        self._reader = Reader(store.events, edition)

    def read(self, offset: int, size: int) -> bytes:
        return self._reader.read(offset, size)

    def readable(self) -> bool:
        return self._reader.behind


class LockHandle(Handle):
    """A file that is only there to be locked: it stays empty."""

    def write(self, offset: int, data: bytes, now: float) -> int:
        raise BadContentError("a lock file stays empty")


class ListHandle(Handle):
    """A directory as it was when it was opened: names and inodes in their order."""

    def __init__(self, entries: list[tuple[bytes, Ref]]) -> None:
        self.entries = entries
