# SPDX-License-Identifier: MIT
"""One ccache in FILE format, and where its records are.

An image is bytes that only ever hold a ccache, or the beginning of one: a header and a principal,
complete records, then perhaps an incomplete record.  A change that would make anything else is
refused with the bytes as they were.  An append costs the same however many records there are; a
change in place costs what it touches.  Knows bytes, never names of files nor clients.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple, Protocol

from ccfs.format.ccache import Prefix
from ccfs.format.dialect import DIALECT_V4, Dialect
from ccfs.format.outline import Outline, outline_credential
from ccfs.format.removed_record import placeholder_record
from ccfs.store.ccache_scan import scan_prefix, scan_record
from ccfs.store.errors import BadContentError, StoreError
from ccfs.store.values import Stored


class Span(NamedTuple):
    """Where a record is: bytes [start, end).

    `stored` is None for the placeholder of a removed record.
    """

    start: int
    end: int
    stored: Stored | None


Placeholders = tuple[tuple[int, bytes], ...]
"""Serial numbers of removed records, and the bytes of the placeholders written over them."""
OutlinedSpan = tuple[int, int, Outline | None]
"""Start and end of a record, and its outline; None for a placeholder."""


@dataclass(frozen=True, slots=True)
class RecordChanges:
    """What a change of the bytes did to the records, and to header and principal.

    `prefix`: whether header or principal changed.  For the journal: `appended`: the records that
    came at the end, in their order, placeholders as their bytes; `placeholders`: those written over
    `removed`; `rescanned`: whether complete records changed in another way than by these three.
    """

    added: tuple[Stored, ...] = ()
    removed: tuple[Stored, ...] = ()
    prefix: bool = False
    appended: tuple[Stored | bytes, ...] = field(default=(), compare=False)
    placeholders: Placeholders = field(default=(), compare=False)
    rescanned: bool = field(default=False, compare=False)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.prefix)


class Registrar(Protocol):
    """Gives records their serial numbers and names (`CredentialIndex`)."""

    def check_room(self, more: int) -> None:
        """Raise TotalLimitError where `more` records are too many; placeholders count too."""

    def add(self, outline: Outline) -> Stored:
        """Give a new record its serial number and its name."""

    def remove(self, stored: Stored) -> None:
        """Free the name of a removed record."""


class Image:
    """The bytes, and an index over them.

    `limit`: the most bytes of a ccache: a length field that leads beyond is refused at once.
    `records_start`, `records_end`: where the complete records are.  `removed_bytes`: bytes of
    placeholders.
    """

    __slots__ = (
        "_by_serial",
        "_registrar",
        "data",
        "limit",
        "prefix",
        "records_end",
        "records_start",
        "removed_bytes",
        "spans",
    )

    def __init__(self, limit: int, registrar: Registrar, data: bytearray) -> None:
        """Index `data`; BadContentError where it is no beginning of a ccache.

        CcacheLimitError, here and for every change, where it is one of more bytes than `limit`.
        """
        self.limit = limit
        self._registrar = registrar
        self._by_serial: dict[int, Span] = {}
        self.data = data
        self.prefix: Prefix | None = None
        self.spans: list[Span] = []
        self.records_start = 0
        self.records_end = 0
        self.removed_bytes = 0
        self._index_appended()

    def restore_prefix(self, data: bytearray) -> None:
        """Restore bytes from a journal; call `restore_records` afterwards.

        BadContentError: there is no complete header and principal.
        """
        scanned = scan_prefix(data, self.limit)
        if scanned is None:
            raise BadContentError("an incomplete header")
        self.data, (self.prefix, self.records_start) = data, scanned

    def restore_records(self, spans: Iterable[Span]) -> None:
        """Take the records of restored bytes.  BadContentError where they don't fill these."""
        self._splice(0, 0, list(spans))
        self.records_end = self.spans[-1].end if self.spans else self.records_start
        if self.records_end != len(self.data):
            raise BadContentError("records that don't fill the ccache")

    @property
    def incomplete_bytes(self) -> int:
        """How many bytes at the end are no complete record yet."""
        return len(self.data) - self.records_end

    @property
    def dialect(self) -> Dialect:
        """The version of the FILE format in which the records are written."""
        return self.prefix.header.dialect if self.prefix else DIALECT_V4

    @property
    def mostly_removed(self) -> bool:
        """Whether placeholders take more bytes than live records."""
        return self.removed_bytes > self.records_end - self.records_start - self.removed_bytes

    def stored(self) -> list[Stored]:
        """The live records in their order."""
        return [span.stored for span in self.spans if span.stored]

    def find(self, serial: int) -> Stored | None:
        """The live record of a serial number."""
        span = self._by_serial.get(serial)
        return span.stored if span else None

    def record(self, serial: int) -> bytes | None:
        """The bytes of a live record, as written."""
        span = self._by_serial.get(serial)
        return self._bytes(span) if span else None

    def span_at(self, offset: int) -> Span | None:
        """The record that holds the byte at `offset`."""
        position = bisect_right(self.spans, offset, key=_start) - 1
        inside = position >= 0 and offset < self.spans[position].end
        return self.spans[position] if inside else None

    def append(self, data: bytes, *, whole: bool = False) -> RecordChanges:
        """Add bytes at the end; records count as soon as they are complete.

        `whole`: the caller knows that `data` is one record, and that none is incomplete before it.
        """
        size = len(self.data)
        self.data += data
        try:
            return self._index_appended([len(self.data)] if whole else None)
        except StoreError:
            del self.data[size:]
            raise

    def overwrite(self, offset: int, data: bytes) -> RecordChanges:
        """Replace bytes in place, and append what goes past the end.

        Complete records stay complete; where they would not, BadContentError and no change.
        """
        if offset >= self.records_end:
            return self._overwrite_incomplete(offset, data)
        size, old = len(self.data), bytes(self.data[offset : offset + len(data)])
        if old == data:
            return RecordChanges()
        self.data[offset : offset + len(data)] = data
        try:
            return self._index_overwritten(offset, offset + len(data), old)
        except StoreError:
            self.data[offset : offset + len(data)] = old
            del self.data[size:]
            raise

    def truncate(self, size: int) -> RecordChanges:
        """Cut the bytes to `size`; records that are cut are removed."""
        del self.data[size:]
        remaining = bisect_right(self.spans, size, key=lambda span: span.end)
        removed = [span.stored for span in self.spans[remaining:] if span.stored]
        placeholders_cut = len(removed) < len(self.spans) - remaining
        prefix = self.prefix is not None and size < self.records_start
        self._splice(remaining, len(self.spans), [])
        if prefix:
            self.prefix, self.records_start = None, 0
        self.records_end = self.spans[-1].end if self.spans else self.records_start
        self._free_names(removed)
        return RecordChanges((), tuple(removed), prefix, rescanned=placeholders_cut or prefix)

    def cut_incomplete(self) -> bytes:
        """Cut the incomplete record off and return it."""
        incomplete = bytes(self.data[self.records_end :])
        del self.data[self.records_end :]
        return incomplete

    def remove(self, serial: int) -> RecordChanges:
        """Write a placeholder of the same length over a live record."""
        span = self._by_serial.get(serial)
        if span is None:
            return RecordChanges()
        position = bisect_left(self.spans, span.start, key=_start)
        placeholder = placeholder_record(self._bytes(span), self.dialect)
        self.data[span.start : span.end] = placeholder
        self._splice(position, position + 1, [Span(span.start, span.end, None)])
        removed = self._free_names([s for s in (span.stored,) if s])
        return RecordChanges((), removed, placeholders=((serial, placeholder),))

    def rebuild(self, prefix: bytes, records: Iterable[tuple[bytes, Stored | None]]) -> None:
        """Replace header, principal and all records; an incomplete record stays at the end.

        `records`: the bytes of each, and its identity (None: a placeholder).
        """
        incomplete = bytes(self.data[self.records_end :])
        scanned = scan_prefix(prefix, self.limit)
        if scanned is None:
            raise BadContentError("an incomplete header")
        self.prefix, self.records_start = scanned
        spans, parts, start = [], [prefix], self.records_start
        for record, stored in records:
            spans.append(Span(start, start + len(record), stored))
            parts.append(record)
            start += len(record)
        self.data[:] = bytes(len(self.data))  # this is the only copy of what was removed
        self.data = bytearray(b"".join([*parts, incomplete]))
        self._splice(0, len(self.spans), spans)
        self.records_end = start

    def records(self) -> list[tuple[bytes, Stored | None]]:
        """The bytes of all records, and their identities (None: a placeholder)."""
        return [(self._bytes(span), span.stored) for span in self.spans]

    def compact(self) -> None:
        """Leave the placeholders out."""
        prefix = bytes(self.data[: self.records_start])
        self.rebuild(prefix, [record for record in self.records() if record[1]])

    def _index_appended(self, ends: list[int] | None = None) -> RecordChanges:
        """Index the records that are complete now.  `ends`: where they end, if that is known."""
        prefix, start = self.prefix, self.records_start
        if prefix is None:
            scanned = scan_prefix(self.data, self.limit) if self.data else None
            if scanned is None:
                return RecordChanges()
            prefix, start = scanned
        at = max(self.records_end, start)
        ends = self._record_ends(at, prefix.header.dialect) if ends is None else ends
        self._registrar.check_room(len(ends))
        new_prefix, self.prefix, self.records_start = self.prefix is None, prefix, start
        self.records_end = ends[-1] if ends else at
        dialect, spans = prefix.header.dialect, []
        for end in ends:  # one at a time: all outlines at once take more memory than the records
            spans.append(Span(at, end, self._register(self._outline(at, dialect))))
            at = end
        self._splice(len(self.spans), len(self.spans), spans)
        added = tuple([s.stored for s in spans if s.stored])
        only_live = len(added) == len(spans)
        appended = added if only_live else tuple([s.stored or self._bytes(s) for s in spans])
        return RecordChanges(added, (), new_prefix, appended)

    def _register(self, outline: Outline | None) -> Stored | None:
        return self._registrar.add(outline) if outline else None

    def _overwrite_incomplete(self, offset: int, data: bytes) -> RecordChanges:
        incomplete = bytes(self.data[self.records_end :])
        at = offset - self.records_end
        changed = incomplete[:at] + data + incomplete[at + len(data) :]
        del self.data[self.records_end :]
        try:
            return self.append(changed)
        except StoreError:
            self.data += incomplete
            raise

    def _index_overwritten(self, start: int, stop: int, old: bytes) -> RecordChanges:
        """Index what a write over [start, stop) has touched, where the bytes `old` were before."""
        prefix, records_start = self._prefix_after_write(start)
        same_layout = prefix.header.dialect == self.dialect and records_start == self.records_start
        first = max(bisect_right(self.spans, start, key=_start) - 1, 0) if same_layout else 0
        at = self.spans[first].start if start >= records_start and self.spans else records_start
        outlined, rest = self._rescan(at, prefix.header.dialect, stop if same_layout else None)
        touched = self.spans[first:rest]
        self._registrar.check_room(len(outlined) - len(touched))
        outlined = _without_end_time_is_removed(touched, outlined)
        unchanged = self._unchanged(touched, outlined, (start, stop, old)) if same_layout else {}
        prefix_changed = prefix != self.prefix
        self.prefix, self.records_start = prefix, records_start
        removed = self._free_names(
            [s.stored for s in touched if s.stored and s.start not in unchanged]
        )
        spans = [unchanged.get(a) or Span(a, b, self._register(o)) for a, b, o in outlined]
        self._splice(first, rest, spans)
        self.records_end = self.spans[-1].end if self.spans else records_start
        added = tuple(s.stored for s in spans if s.stored and s.start not in unchanged)
        only_records = same_layout and start >= records_start
        placeholders = self._new_placeholders(touched, spans) if only_records else None
        return RecordChanges(
            added,
            removed,
            prefix_changed,
            placeholders=placeholders or (),
            rescanned=placeholders is None,
        )

    def _new_placeholders(self, touched: list[Span], spans: list[Span]) -> Placeholders | None:
        """Records that a write in place has marked as removed; None where it did more than that."""
        if [s[:2] for s in touched] != [s[:2] for s in spans]:
            return None
        placeholders = []
        for old, new in zip(touched, spans, strict=True):
            if old.stored and not new.stored:
                placeholders.append((old.stored.serial, self._bytes(new)))
            elif old is not new:
                return None
        return tuple(placeholders)

    def _rescan(
        self, at: int, dialect: Dialect, stop: int | None
    ) -> tuple[list[OutlinedSpan], int]:
        """The records from `at` on, up to where a known record behind `stop` begins.

        Returns them, and the position in `spans` of the first one that stays as it is.
        """
        ends = self._record_ends(at, dialect, stop)
        reached = ends[-1] if ends else at
        rest = self._known_position(reached, stop)
        if rest is None and reached < self.records_end:
            raise BadContentError("a write in place that breaks the records behind it")
        outlined = [(a, b, self._outline(a, dialect)) for a, b in pairwise([at, *ends])]
        return outlined, len(self.spans) if rest is None else rest

    def _known_position(self, at: int, stop: int | None) -> int | None:
        """The position in `spans` of the record that starts at `at`, if that is behind `stop`."""
        if stop is None or at < stop:
            return None
        position = bisect_left(self.spans, at, key=_start)
        known = position < len(self.spans) and self.spans[position].start == at
        return position if known else None

    def _prefix_after_write(self, start: int) -> tuple[Prefix, int]:
        """Header and principal, and their end, after a write at `start`."""
        if self.prefix is not None and start >= self.records_start:
            return self.prefix, self.records_start
        scanned = scan_prefix(self.data, self.limit)
        if scanned is None:
            raise BadContentError("a header cut short")
        return scanned

    def _unchanged(
        self,
        touched: list[Span],
        outlined: list[OutlinedSpan],
        write: tuple[int, int, bytes],
    ) -> dict[int, Span]:
        """Records of the same extent whose bytes a write left as they were, by their start."""
        start, stop, old = write
        extents = {(a, b) for a, b, _ in outlined}

        def same(span: Span) -> bool:
            a, b = max(span.start, start), min(span.end, stop, start + len(old))
            return a >= b or self.data[a:b] == old[a - start : b - start]

        return {s.start: s for s in touched if (s.start, s.end) in extents and same(s)}

    def _record_ends(self, at: int, dialect: Dialect, stop: int | None = None) -> list[int]:
        """Where the complete records from `at` on end.

        Stops where a known record behind `stop` begins.  BadContentError where the bytes can't
        become records.
        """
        ends: list[int] = []
        while at < len(self.data) and (stop is None or self._known_position(at, stop) is None):
            end = scan_record(self.data, at, dialect, self.limit)
            if end is None:
                break
            ends.append(end)
            at = end
        return ends

    def _outline(self, start: int, dialect: Dialect) -> Outline | None:
        outline = outline_credential(self.data, start, dialect)
        return None if outline.removed else outline

    def _splice(self, first: int, rest: int, spans: list[Span]) -> None:
        """Replace the spans at positions [first, rest) by `spans`."""
        for span in self.spans[first:rest]:
            if span.stored is None:
                self.removed_bytes -= span.end - span.start
            else:
                self._by_serial.pop(span.stored.serial, None)
        self.spans[first:rest] = spans
        for span in spans:
            if span.stored is None:
                self.removed_bytes += span.end - span.start
            else:
                self._by_serial[span.stored.serial] = span

    def _free_names(self, removed: list[Stored]) -> tuple[Stored, ...]:
        for stored in removed:
            self._registrar.remove(stored)
        return tuple(removed)

    def _bytes(self, span: Span) -> bytes:
        return bytes(memoryview(self.data)[span.start : span.end])


def _start(span: Span) -> int:
    return span.start


def _without_end_time_is_removed(
    touched: list[Span], outlined: list[OutlinedSpan]
) -> list[OutlinedSpan]:
    """Take records for placeholders whose end time a write in place has set to 0.

    Heimdal removes a credential so.  The bytes alone don't say it: an end time of 0 also means that
    a credential never expires.
    """
    end_times = {(s.start, s.end): s.stored.endtime for s in touched if s.stored}
    return [
        (a, b, None if outline and end_times.get((a, b)) and not outline.endtime else outline)
        for a, b, outline in outlined
    ]
