"""One ccache in FILE format, and where its records are.

An image is bytes that only ever hold a ccache, or the beginning of one: a header and a principal,
complete records, then perhaps an incomplete tail.  A change that would make anything else is
refused with the bytes as they were.  An append costs the same however many records there are; a
change in place costs what it touches.  Nothing here knows names of files or who is asking.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple, Protocol

from ccfs.format.ccache import Prefix, scan_prefix
from ccfs.format.credential import scan_credential
from ccfs.format.dialect import DIALECT_V4, Dialect
from ccfs.format.errors import FormatError
from ccfs.format.outline import Outline, outline_credential
from ccfs.format.removed_record import placeholder_record
from ccfs.store.errors import BadContentError, CcacheLimitError, StoreError
from ccfs.store.values import Stored


class Span(NamedTuple):
    """Where a record is: bytes [start, end).  `stored` is None for one marked as removed."""

    start: int
    end: int
    stored: Stored | None


@dataclass(frozen=True, slots=True)
class Delta:
    """What a change of the bytes did to the records and to header and principal.

    `ends`: the records that came at the end, in their order, removed ones as their bytes;
    `buried`: serial numbers of removed ones, and the bytes in their places.  `mixed`: whether the
    complete part changed in another way than by these and by `removed`.
    """

    added: tuple[Stored, ...] = ()
    removed: tuple[Stored, ...] = ()
    prefix: bool = False
    ends: tuple[Stored | bytes, ...] = field(default=(), compare=False)
    buried: tuple[tuple[int, bytes], ...] = field(default=(), compare=False)
    mixed: bool = field(default=False, compare=False)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.prefix)


Buried = tuple[tuple[int, bytes], ...]
"""Serial numbers of records that are marked as removed, and the bytes in their places."""
Outlined = tuple[int, int, Outline | None]


class Registrar(Protocol):
    """Gives a record its identity, and takes it back."""

    def room(self, more: int) -> None:
        """Raise TotalLimitError where `more` records are too many; removed ones count, too."""

    def admit(self, outline: Outline) -> Stored:
        """Give a new live record its serial number and its name."""

    def forget(self, stored: Stored) -> None:
        """The record is gone; its name is free."""


class Image:
    """The bytes and the index over them.

    `limit`: the most bytes that a ccache may have, so that a length beyond it is known to be wrong
    at once.
    """

    __slots__ = (
        "_registrar",
        "_where",
        "body",
        "complete",
        "data",
        "dead",
        "limit",
        "prefix",
        "spans",
    )

    def __init__(self, limit: int, registrar: Registrar, data: bytearray) -> None:
        """Index `data`; BadContentError where it is no beginning of a ccache.

        CcacheLimitError, here and for every change, where it is one of more bytes than `limit`.
        """
        self.limit = limit
        self._registrar = registrar
        self._where: dict[int, Span] = {}
        self.data = data
        self.prefix: Prefix | None = None
        self.spans: list[Span] = []
        self.body = 0
        self.complete = 0
        self.dead = 0
        self._index_more()

    def restore(self, data: bytearray) -> None:
        """Have bytes whose records are known and follow.  BadContentError: there is no header."""
        found = _scan_prefix(data, self.limit)
        if found is None:
            raise BadContentError("an incomplete header")
        self.data, (self.prefix, self.body) = data, found

    def fill(self, spans: Iterable[Span]) -> None:
        """Have the records of restored bytes.  BadContentError where they don't fill those."""
        self._splice(0, 0, list(spans))
        self.complete = self.spans[-1].end if self.spans else self.body
        if self.complete != len(self.data):
            raise BadContentError("records that don't fill it")

    def serve(self, registrar: Registrar) -> None:
        """Have another registrar name new records from now on."""
        self._registrar = registrar

    @property
    def tail(self) -> int:
        """How many bytes at the end are no complete record yet."""
        return len(self.data) - self.complete

    @property
    def dialect(self) -> Dialect:
        """How the records are written."""
        return self.prefix.header.dialect if self.prefix else DIALECT_V4

    @property
    def wasteful(self) -> bool:
        """Whether removed records take more room than live ones."""
        return self.dead > self.complete - self.body - self.dead

    def stored(self) -> list[Stored]:
        """The live records in their order."""
        return [span.stored for span in self.spans if span.stored]

    def find(self, serial: int) -> Stored | None:
        """The live record of a serial number."""
        span = self._where.get(serial)
        return span.stored if span else None

    def record(self, serial: int) -> bytes | None:
        """The bytes of a live record, as written."""
        span = self._where.get(serial)
        return self._bytes(span) if span else None

    def at(self, offset: int) -> Span | None:
        """The record that holds the byte at `offset`."""
        found = bisect_right(self.spans, offset, key=_start) - 1
        return self.spans[found] if found >= 0 and offset < self.spans[found].end else None

    def append(self, data: bytes, *, whole: bool = False) -> Delta:
        """Add bytes at the end; complete records count at once.

        `whole`: they are known to be one record, behind which there is no tail.
        """
        before = len(self.data)
        self.data += data
        try:
            return self._index_more([len(self.data)] if whole else None)
        except StoreError:
            del self.data[before:]
            raise

    def overwrite(self, offset: int, data: bytes) -> Delta:
        """Replace bytes in place, and go on past the end.

        What was complete stays complete; where it would not, BadContentError and no change.
        """
        if offset >= self.complete:
            return self._overwrite_tail(offset, data)
        size, old = len(self.data), bytes(self.data[offset : offset + len(data)])
        if old == data:
            return Delta()
        self.data[offset : offset + len(data)] = data
        try:
            return self._index_again(offset, offset + len(data), old)
        except StoreError:
            self.data[offset : offset + len(data)] = old
            del self.data[size:]
            raise

    def truncate(self, size: int) -> Delta:
        """Cut the bytes to `size`; a record that is cut is gone."""
        del self.data[size:]
        kept = bisect_right(self.spans, size, key=lambda span: span.end)
        removed = [span.stored for span in self.spans[kept:] if span.stored]
        mixed = len(removed) < len(self.spans) - kept
        prefix = self.prefix is not None and size < self.body
        self._splice(kept, len(self.spans), [])
        if prefix:
            self.prefix, self.body = None, 0
        self.complete = self.spans[-1].end if self.spans else self.body
        self._forget(removed)
        return Delta((), tuple(removed), prefix, mixed=mixed or prefix)

    def cut_tail(self) -> bytes:
        """Take the incomplete tail off and return it."""
        tail = bytes(self.data[self.complete :])
        del self.data[self.complete :]
        return tail

    def bury(self, serial: int) -> Delta:
        """Mark a live record as removed, in its place and length."""
        span = self._where.get(serial)
        if span is None:
            return Delta()
        at = bisect_left(self.spans, span.start, key=_start)
        blank = placeholder_record(self._bytes(span), self.dialect)
        self.data[span.start : span.end] = blank
        self._splice(at, at + 1, [Span(span.start, span.end, None)])
        gone = self._forget([s for s in (span.stored,) if s])
        return Delta((), gone, buried=((serial, blank),))

    def rebuild(self, prefix: bytes, records: Iterable[tuple[bytes, Stored | None]]) -> None:
        """Put the image together anew from a header with principal and records."""
        tail = bytes(self.data[self.complete :])
        found = _scan_prefix(prefix, self.limit)
        if found is None:
            raise BadContentError("an incomplete header")
        self.prefix, self.body = found
        spans, parts, at = [], [prefix], self.body
        for record, stored in records:
            spans.append(Span(at, at + len(record), stored))
            parts.append(record)
            at += len(record)
        self.data[:] = bytes(len(self.data))  # what was removed is nowhere else
        self.data = bytearray(b"".join([*parts, tail]))
        self._splice(0, len(self.spans), spans)
        self.complete = at

    def records(self) -> list[tuple[bytes, Stored | None]]:
        """All records, removed ones too, with their identities."""
        return [(self._bytes(span), span.stored) for span in self.spans]

    def compact(self) -> None:
        """Leave the removed records out."""
        prefix = bytes(self.data[: self.body])
        self.rebuild(prefix, [pair for pair in self.records() if pair[1]])

    def _index_more(self, ends: list[int] | None = None) -> Delta:
        """Index what has become complete at the end.  `ends`: of the records, where known."""
        prefix, body = self.prefix, self.body
        if prefix is None:
            found = _scan_prefix(self.data, self.limit) if self.data else None
            if found is None:
                return Delta()
            prefix, body = found
        at = max(self.complete, body)
        ends = self._ends(at, prefix.header.dialect) if ends is None else ends
        self._registrar.room(len(ends))
        fresh, self.prefix, self.body = self.prefix is None, prefix, body
        self.complete = ends[-1] if ends else at
        dialect, spans = prefix.header.dialect, []
        for end in ends:  # one at a time: all outlines at once take more room than their bytes
            spans.append(Span(at, end, self._admit(self._outline(at, dialect))))
            at = end
        self._splice(len(self.spans), len(self.spans), spans)
        added = tuple([s.stored for s in spans if s.stored])
        last = added if len(added) == len(spans) else [s.stored or self._bytes(s) for s in spans]
        return Delta(added, (), fresh, tuple(last))

    def _admit(self, what: Outline | None) -> Stored | None:
        return self._registrar.admit(what) if what else None

    def _overwrite_tail(self, offset: int, data: bytes) -> Delta:
        tail = bytes(self.data[self.complete :])
        at = offset - self.complete
        changed = tail[:at] + data + tail[at + len(data) :]
        del self.data[self.complete :]
        try:
            return self.append(changed)
        except StoreError:
            self.data += tail
            raise

    def _index_again(self, start: int, stop: int, old: bytes) -> Delta:
        """Index anew what a write over [start, stop), where `old` stood, has touched."""
        prefix, body = self._prefix_again(start)
        same = prefix.header.dialect == self.dialect and body == self.body
        first = max(bisect_right(self.spans, start, key=_start) - 1, 0) if same else 0
        at = self.spans[first].start if start >= body and self.spans else body
        outlined, rest = self._rescan(at, prefix.header.dialect, stop if same else None)
        touched = self.spans[first:rest]
        self._registrar.room(len(outlined) - len(touched))
        outlined = _without_ended(touched, outlined)
        kept = self._unchanged(touched, outlined, (start, stop, old)) if same else {}
        delta_prefix, self.prefix, self.body = prefix != self.prefix, prefix, body
        removed = self._forget([s.stored for s in touched if s.stored and s.start not in kept])
        spans = [kept.get(a) or Span(a, b, self._admit(what)) for a, b, what in outlined]
        self._splice(first, rest, spans)
        self.complete = self.spans[-1].end if self.spans else body
        added = tuple(s.stored for s in spans if s.stored and s.start not in kept)
        buried = self._buried(touched, spans) if same and start >= body else None
        mixed = buried is None
        return Delta(added, removed, delta_prefix, buried=buried or (), mixed=mixed)

    def _buried(self, touched: list[Span], spans: list[Span]) -> Buried | None:
        """Records that a write in place has marked as removed; None where it did more than that."""
        if [s[:2] for s in touched] != [s[:2] for s in spans]:
            return None
        buried = []
        for old, new in zip(touched, spans, strict=True):
            if old.stored and not new.stored:
                buried.append((old.stored.serial, self._bytes(new)))
            elif old is not new:
                return None
        return tuple(buried)

    def _rescan(self, at: int, dialect: Dialect, stop: int | None) -> tuple[list[Outlined], int]:
        """The records from `at` on, up to where old ones behind `stop` are in step again.

        Returns them and the position of the first old one that stays as it is.
        """
        ends = self._ends(at, dialect, stop)
        reached = ends[-1] if ends else at
        rest = self._in_step(reached, stop)
        if rest is None and reached < self.complete:
            raise BadContentError("a write in place that breaks the records behind it")
        outlined = [(a, b, self._outline(a, dialect)) for a, b in pairwise([at, *ends])]
        return outlined, len(self.spans) if rest is None else rest

    def _in_step(self, at: int, stop: int | None) -> int | None:
        """The position of the old record that starts at `at`, where that is behind `stop`."""
        if stop is None or at < stop:
            return None
        found = bisect_left(self.spans, at, key=_start)
        return found if found < len(self.spans) and self.spans[found].start == at else None

    def _prefix_again(self, start: int) -> tuple[Prefix, int]:
        if self.prefix is not None and start >= self.body:
            return self.prefix, self.body
        found = _scan_prefix(self.data, self.limit)
        if found is None:
            raise BadContentError("a header cut short")
        return found

    def _unchanged(
        self,
        touched: list[Span],
        outlined: list[Outlined],
        write: tuple[int, int, bytes],
    ) -> dict[int, Span]:
        """Records of the same extent whose bytes a write left as they were, by their start."""
        start, stop, old = write
        extents = {(a, b) for a, b, _ in outlined}

        def same(span: Span) -> bool:
            a, b = max(span.start, start), min(span.end, stop, start + len(old))
            return a >= b or self.data[a:b] == old[a - start : b - start]

        return {s.start: s for s in touched if (s.start, s.end) in extents and same(s)}

    def _ends(self, at: int, dialect: Dialect, stop: int | None = None) -> list[int]:
        """Where the records from `at` on end, as far as they are complete.

        Ends early where the old records behind `stop` are in step.  Raises BadContentError where
        the bytes can't become records.
        """
        ends: list[int] = []
        while at < len(self.data) and (stop is None or self._in_step(at, stop) is None):
            end = _scan_credential(self.data, at, dialect, self.limit)
            if end is None:
                break
            ends.append(end)
            at = end
        return ends

    def _outline(self, start: int, dialect: Dialect) -> Outline | None:
        outline = outline_credential(self.data, start, dialect)
        return None if outline.removed else outline

    def _splice(self, first: int, rest: int, spans: list[Span]) -> None:
        """Put `spans` in the place of those at [first, rest)."""
        for span in self.spans[first:rest]:
            if span.stored is None:
                self.dead -= span.end - span.start
            else:
                self._where.pop(span.stored.serial, None)
        self.spans[first:rest] = spans
        for span in spans:
            if span.stored is None:
                self.dead += span.end - span.start
            else:
                self._where[span.stored.serial] = span

    def _forget(self, gone: list[Stored]) -> tuple[Stored, ...]:
        for stored in gone:
            self._registrar.forget(stored)
        return tuple(gone)

    def _bytes(self, span: Span) -> bytes:
        return bytes(memoryview(self.data)[span.start : span.end])


def _start(span: Span) -> int:
    return span.start


def _without_ended(touched: list[Span], outlined: list[Outlined]) -> list[Outlined]:
    """Take for removed what a write in place has left no end time.

    Heimdal removes a credential so; the bytes alone don't tell it from one that never ends.
    """
    ends = {(s.start, s.end): s.stored.endtime for s in touched if s.stored}
    return [
        (a, b, None if what and ends.get((a, b)) and not what.endtime else what)
        for a, b, what in outlined
    ]


def _scan_prefix(data: bytes | bytearray, limit: int) -> tuple[Prefix, int] | None:
    try:
        return scan_prefix(data, limit)
    except FormatError as error:
        raise BadContentError(str(error)) from None


def _scan_credential(data: bytearray, at: int, dialect: Dialect, limit: int) -> int | None:
    """The end of a record; CcacheLimitError where it would be one if there were room for it."""
    try:
        end = scan_credential(data, at, dialect, at + limit)
    except FormatError as error:
        raise BadContentError(str(error)) from None
    try:
        return end if end is not None else scan_credential(data, at, dialect, limit)
    except FormatError:
        raise CcacheLimitError(f"over {limit} bytes in one ccache") from None


def whole(data: bytes | bytearray, limit: int) -> bool:
    """True if `data` is a ccache, from its header to the end of its last record."""
    return count_records(data, limit) is not None


def count_records(data: bytes | bytearray, limit: int) -> int | None:
    """The number of records of a whole ccache, removed ones included; None if it isn't one."""
    try:
        found = scan_prefix(data, limit)
        if found is None:
            return None
        prefix, at = found
        end: int | None = at
        count = 0
        while end is not None and end < len(data):
            end = scan_credential(data, end, prefix.header.dialect, limit)
            count += 1
    except FormatError:
        return None
    return count if end is not None else None
