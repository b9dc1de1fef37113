# SPDX-License-Identifier: MIT
"""The event log: the text of the file `events`.

The text grows at its end and is read by position.  The newest lines are kept; when older ones are
dropped a new edition begins, whose first line says how many events are lost.  Positions belong to
one edition: a reader of an older one reads on at its position, and a line says what it missed.

Knows lines and positions; never readers' files.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from ccfs.format.names import encode_name
from ccfs.format.text import timestamp
from ccfs.store.snapshot import SavedEvents
from ccfs.store.values import Client, EventKind, Stamp

MAX_EDITIONS = 8
"""How many editions can be found by their number."""


@dataclass(frozen=True, slots=True)
class Edition:
    """One numbering of positions: position 0 of this edition is `base` of the whole log."""

    number: int
    base: int
    header: bytes


class EventLog:
    """A bounded log of lines.  `limit`: how many events are kept (at least half of it always).

    `sequence`: the number of the last event, `end`: the position behind it; `dropped`: how many
    events were dropped.
    """

    def __init__(self, limit: int, number: Callable[[], int]) -> None:
        self._limit = max(limit, 2)
        self._number = number
        self._lines: list[bytes] = []
        self._starts: list[int] = []
        self.dropped = 0
        self.end = 0
        self.sequence = 0
        self.mtime = 0.0
        self.edition = Edition(number(), 0, b"")
        self._editions = {self.edition.number: self.edition}

    def restore(self, saved: SavedEvents) -> None:
        """Restore the lines and editions of an earlier daemon."""
        self._lines = [line + b"\n" for line in saved.lines.split(b"\n")[:-1]]
        self._starts = list(accumulate(map(len, self._lines), initial=saved.start))[:-1]
        self.dropped, self.sequence, self.mtime = saved.dropped, saved.sequence, saved.mtime
        self.end = saved.start + len(saved.lines)
        self._editions = {edition[0]: Edition(*edition) for edition in saved.editions}
        self.edition = list(self._editions.values())[-1]

    @property
    def editions(self) -> list[Edition]:
        """The editions that `find` knows, the newest last."""
        return list(self._editions.values())

    @property
    def start(self) -> int:
        """The position of the first line that is kept."""
        return self._starts[0] if self._starts else self.end

    @property
    def oldest(self) -> int:
        """The sequence number of the first event that is kept."""
        return self.sequence - len(self._lines) + 1

    def since(self, sequence: int) -> bytes | None:
        """The lines of the events after that of a sequence number; None where some are dropped."""
        count = self.sequence - sequence
        if count > len(self._lines):
            return None
        return b"".join(self._lines[-count:]) if count else b""

    def append(self, at: Stamp, kind: EventKind, ccache: bytes, credential: str = "-") -> None:
        """Add one line; `ccache` is a raw name, `credential` a file name in its directory."""
        self.sequence += 1
        self.mtime = at.now
        line = (
            f"{self.sequence}\t{timestamp(int(at.now))}\t{kind.value}\t{encode_name(ccache)}"
            f"\t{credential}\t{_client_fields(at.client)}\n"
        )
        data = line.encode("utf-8", "surrogateescape")
        self._lines.append(data)
        self._starts.append(self.end)
        self.end += len(data)
        if len(self._lines) > self._limit:
            self._rotate()

    def _rotate(self) -> None:
        keep = self._limit // 2
        self.dropped += len(self._lines) - keep
        del self._lines[:-keep]
        del self._starts[:-keep]
        self.edition = Edition(self._number(), self._starts[0], _lost(self.dropped))
        self._editions[self.edition.number] = self.edition
        if len(self._editions) > MAX_EDITIONS:
            del self._editions[next(iter(self._editions))]

    def find(self, number: int) -> Edition | None:
        """The edition of a number, if it is not too old."""
        return self._editions.get(number)

    def size(self, edition: Edition) -> int:
        """How many bytes an edition has, with those that were dropped."""
        return len(edition.header) + self.end - edition.base

    def read(self, edition: Edition, offset: int, size: int) -> bytes:
        """`size` bytes at `offset` of an edition, less only at its end."""
        head = edition.header[offset : offset + size]
        position = max(offset - len(edition.header), 0) + edition.base
        return head + self._from(position, size - len(head))

    def lost(self, edition: Edition, offset: int) -> tuple[int, bytes]:
        """How many bytes from `offset` of an edition on are dropped, and a line that says so."""
        if offset < len(edition.header):
            return 0, b""
        position = offset - len(edition.header) + edition.base
        return max(self.start - position, 0), b"# lost all events before %d\n" % self.oldest

    def _from(self, position: int, size: int) -> bytes:
        at = bisect_right(self._starts, position) - 1
        if at < 0 or position >= self.end or not size:
            return b""
        parts, have = [], self._starts[at] - position
        for line in self._lines[at:]:
            parts.append(line)
            have += len(line)
            if have >= size:
                break
        skip = position - self._starts[at]
        return b"".join(parts)[skip : skip + size]


class Reader:
    """Reads an edition from its beginning on, by positions of its own.

    In place of dropped bytes that it has not read it gets one line; its own positions don't count
    those bytes (`skipped`).
    """

    def __init__(self, log: EventLog, edition: Edition, skipped: int = 0) -> None:
        self._log = log
        self._edition = edition
        self.skipped = skipped
        self._next = 0

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes at `offset`; b"" at the end."""
        position = offset + self.skipped
        lost, note = self._log.lost(self._edition, position)
        if lost:
            data = note if len(note) <= size else b"\n"
            self.skipped += lost - len(data)
        else:
            data = self._log.read(self._edition, position, size)
        self._next = offset + self.skipped + len(data)
        return data

    @property
    def behind(self) -> bool:
        """Whether the edition has bytes after those that were read last."""
        return self._next < self._log.size(self._edition)


@lru_cache(maxsize=1)
def _client_fields(client: Client) -> str:
    """The fields of a line that name its client; cached, as one process makes many changes."""
    command = encode_name(client.command.encode("utf-8", "surrogateescape"))
    return f"uid={client.uid}\tpid={client.pid}\t{command}"


def _lost(count: int) -> bytes:
    return f"# lost {count} events\n".encode("ascii")
