"""The log of changes: what `events` shows.

A text that only grows, read by position.  It keeps the newest lines; when it has dropped some it
becomes a new edition, whose first line says how many events are lost.  Positions belong to one
edition, so a reader that began in an older one reads on where it was.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from ccfs.format.names import encode_name
from ccfs.format.text import timestamp
from ccfs.store.values import Stamp, What

REMEMBERED = 8
"""How many editions can be found by their number."""


@dataclass(frozen=True, slots=True)
class Edition:
    """One numbering of positions: position 0 of this edition is `base` of the whole log."""

    number: int
    base: int
    header: bytes


class EventLog:
    """A bounded log of lines.  `limit`: how many events are kept (at least half of it always)."""

    def __init__(self, limit: int, number: Callable[[], int]) -> None:
        self._limit = max(limit, 2)
        self._number = number
        self._lines: list[bytes] = []
        self._starts: list[int] = []
        self._dropped = 0
        self.end = 0
        self.sequence = 0
        self.mtime = 0.0
        self.edition = Edition(number(), 0, b"")
        self._editions = {self.edition.number: self.edition}

    def append(self, at: Stamp, what: What, ccache: bytes, credential: str = "-") -> None:
        """Add one line; `ccache` is a raw name, `credential` a file name in its directory."""
        self.sequence += 1
        self.mtime = at.now
        who = at.who
        line = "\t".join(
            (
                str(self.sequence),
                timestamp(int(at.now)),
                what.value,
                encode_name(ccache),
                credential,
                f"uid={who.uid}",
                f"pid={who.pid}",
                encode_name(who.command.encode("utf-8", "surrogateescape")),
            )
        )
        data = line.encode("utf-8", "surrogateescape") + b"\n"
        self._lines.append(data)
        self._starts.append(self.end)
        self.end += len(data)
        if len(self._lines) > self._limit:
            self._rotate()

    def _rotate(self) -> None:
        keep = self._limit // 2
        self._dropped += len(self._lines) - keep
        del self._lines[:-keep]
        del self._starts[:-keep]
        self.edition = Edition(self._number(), self._starts[0], _lost(self._dropped))
        self._editions[self.edition.number] = self.edition
        if len(self._editions) > REMEMBERED:
            del self._editions[next(iter(self._editions))]

    def find(self, number: int) -> Edition | None:
        """The edition of a number, if it is not too old."""
        return self._editions.get(number)

    def size(self, edition: Edition) -> int:
        """How many bytes an edition has, those that it can't give any more included."""
        return len(edition.header) + self.end - edition.base

    def read(self, edition: Edition, offset: int, size: int) -> bytes:
        """`size` bytes at `offset` of an edition, less only at its end.

        Where lines asked for are dropped, a line stands for them that says so, padded to the length
        that they had, so that positions stay true.
        """
        head = edition.header[offset : offset + size]
        position = max(offset - len(edition.header), 0) + edition.base
        first = self._starts[0] if self._starts else self.end
        lost = min(first - position, size - len(head))
        gap = _gap(lost, self.sequence - len(self._lines) + 1) if lost > 0 else b""
        have = len(head) + len(gap)
        return head + gap + self._from(position + len(gap), size - have)

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


def _lost(count: int) -> bytes:
    return f"# lost {count} events\n".encode("ascii")


def _gap(length: int, following: int) -> bytes:
    """A stand-in for `length` dropped bytes that says where the log goes on."""
    note = b"# lost all events before %d" % following
    return note.ljust(length - 1)[: length - 1] + b"\n"
