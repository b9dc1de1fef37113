"""What a log says, read back and checked.

Knows entries and places; never how steps are written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from zlib import crc32

from ccfs.format.ccache import Prefix
from ccfs.journal import entries
from ccfs.journal.log import Place, place
from ccfs.store.errors import DamagedError
from ccfs.store.event_log import REMEMBERED as EDITIONS
from ccfs.store.generations import REMEMBERED
from ccfs.store.open_files import Tail
from ccfs.store.snapshot import (
    Saved,
    SavedCcache,
    SavedEvents,
    SavedFile,
    SavedLink,
    SavedRecord,
    SavedWhole,
)

if TYPE_CHECKING:
    from ccfs.journal.log import Log

Fixed = tuple[bytes, int, int, int, bool, Prefix | None]
"""What few steps change of a ccache: name, rank, last time as the default, lineage, whether it is
nominal, header and principal."""
Head = tuple[tuple[int, bytes], bool]
"""What few steps change of a scratch file: its place, whether it is kept."""
Piece = tuple[Place, int]
"""Where data is, and its checksum."""

ENTRY = 60
"""About how many bytes an entry has beside its data."""


@dataclass(slots=True)
class Logged:
    """What the log has of a ccache: where its records are, and `fixed`, where that is known.

    `number`: that of its current content.

    `records`: by serial number, those of `blank` are marked as removed; the key of one that never
    had a number is its place, negative.
    """

    fixed: Fixed | None = None
    records: dict[int, Place] = field(default_factory=dict)
    blank: set[int] = field(default_factory=set)
    number: int = 0


@dataclass(slots=True)
class LoggedFile:
    """What the log has of a scratch file: `size` bytes in pieces."""

    head: Head
    size: int = 0
    pieces: list[Place] = field(default_factory=list)


@dataclass(slots=True)
class Held:
    """What the log has, and where.

    `sequence`: the number of the last event (-1: it has none), `edition`: of the last edition.
    """

    ccaches: dict[int, Logged] = field(default_factory=dict)
    files: dict[int, LoggedFile] = field(default_factory=dict)
    tails: dict[int, tuple[Tail, Place]] = field(default_factory=dict)
    notes: dict[bytes, Place] = field(default_factory=dict)
    sequence: int = -1
    edition: int = 0


@dataclass(slots=True)
class Replayed:
    """The store, what the log has of it, and how many bytes that is.

    `made`: what the last step made stale (`step.py`), where its frame says so.
    """

    saved: Saved
    alive: int
    held: Held
    made: bytes | None


@dataclass(slots=True)
class _Ccache:
    fields: tuple[float, ...] = (0,) * 8
    texts: tuple[bytes, ...] = (b"", b"")
    records: dict[int, tuple[Piece, bytes | None]] = field(default_factory=dict)


@dataclass(slots=True)
class _File:
    place: int
    name: bytes
    kept: bool
    mtime: float = 0.0
    pieces: list[Piece] = field(default_factory=list)


_NUMBER, _LINEAGE = 4, 6  # among the fields of a ccache
NO_LINEAGE = -1


class _Replay:
    """The steps so far.  A method takes an entry whose data, if it has any, is at `at`."""

    def __init__(self) -> None:
        self.whole: tuple[float, ...] = ()
        self.ccaches: dict[int, _Ccache] = {}
        self.older: dict[int, tuple[int, int]] = {}
        self.files: dict[int, _File] = {}
        self.links: dict[bytes, SavedLink] = {}
        self.tails: dict[int, tuple[int, Piece]] = {}
        self.notes: dict[bytes, Piece] = {}
        self.begun: tuple[float, int] | None = None
        self.lines, self.start = bytearray(), 0
        self.sequence, self.dropped, self.mtime = 0, 0, 0.0
        self.editions: dict[int, tuple[int, bytes]] = {}
        self.made: bytes | None = None
        self.dead: list[Place] = []

    def frame(self, meta: bytes, at: int) -> None:
        """Take all that a frame says; its data begins at `at`."""
        self.made = None
        for kind, fields, texts in entries.decode(meta):
            _TAKE[kind](self, fields, texts, at)
            if kind in _WITH_DATA:
                at += int(fields[-2])

    def _whole(self, fields: tuple[float, ...], texts: tuple[bytes, ...], at: int) -> None:
        self.whole = fields

    def _ccache(self, fields: tuple[float, ...], texts: tuple[bytes, ...], at: int) -> None:
        serial = int(fields[0])
        ccache = self.ccaches.setdefault(serial, _Ccache())
        same = ccache.texts[1][:2] in (b"", texts[1][:2])
        ccache.texts = texts
        self._times(serial, fields[1:])
        if not same:  # what writers append who know an older number is of another version
            self._forget_older(serial)

    def _touched(self, fields: tuple[float, ...], texts: tuple[bytes, ...], at: int) -> None:
        serial, number, change_time, mtime, data_mtime = fields
        rank, _, default, _, _, _, *rest = self.ccaches[int(serial)].fields
        times = (rank, change_time, default, mtime, number, data_mtime, *rest)
        self._times(int(serial), times)

    def _times(self, serial: int, fields: tuple[float, ...]) -> None:
        ccache = self.ccaches[serial]
        old, number = int(ccache.fields[_NUMBER]), int(fields[_NUMBER])
        lineage, ccache.fields = int(ccache.fields[_LINEAGE]), fields
        if old and number != old:
            self._add_older(old, serial, lineage)

    def _older(self, fields: tuple[float, ...], texts: tuple[bytes, ...], at: int) -> None:
        number, serial = map(int, fields)
        self._add_older(number, serial, int(self.ccaches[serial].fields[_LINEAGE]))

    def _add_older(self, number: int, serial: int, lineage: int) -> None:
        self.older[number] = (serial, lineage)
        if len(self.older) > REMEMBERED:
            del self.older[next(iter(self.older))]

    def _forget_older(self, serial: int) -> None:
        for number, known in self.older.items():
            if known[0] == serial:
                self.older[number] = (serial, NO_LINEAGE)

    def _dropped(self, fields: tuple[float, ...], texts: tuple[bytes, ...], at: int) -> None:
        self._emptied(fields, texts, at)
        self.ccaches.pop(int(fields[0]), None)

    def _emptied(self, fields: tuple[float, ...], texts: tuple[bytes, ...], at: int) -> None:
        ccache = self.ccaches.get(int(fields[0]), _Ccache())
        self.dead += [where for (where, _), _ in ccache.records.values()]
        ccache.records = {}

    def _record(self, fields: tuple[float, ...], texts: tuple[bytes, ...], at: int) -> None:
        owner, serial, size, check = map(int, fields)
        self.ccaches[owner].records[serial] = ((place(at, size), check), texts[0])

    def _blank(self, fields: tuple[float, ...], texts: tuple[bytes, ...], at: int) -> None:
        owner, size, check = map(int, fields)
        where = place(at, size)
        self.ccaches[owner].records[-where] = ((where, check), None)

    def _removed(self, fields: tuple[float, ...], texts: tuple[bytes, ...], at: int) -> None:
        (where, _), _ = self.ccaches[int(fields[0])].records.pop(int(fields[1]))
        self.dead.append(where)

    def _compacted(self, fields: tuple[float, ...], texts: tuple[bytes, ...], at: int) -> None:
        ccache = self.ccaches[int(fields[0])]
        self.dead += [where for (where, _), name in ccache.records.values() if name is None]
        ccache.records = {n: one for n, one in ccache.records.items() if one[1] is not None}

    def _buried(self, fields: tuple[float, ...], texts: tuple[bytes, ...], at: int) -> None:
        owner, serial, size, check = map(int, fields)
        records = self.ccaches[owner].records
        self.dead.append(records[serial][0][0])
        records[serial] = ((place(at, size), check), None)

    def _file(self, fields: tuple[float, ...], texts: tuple[bytes, ...], at: int) -> None:
        number, where, kept = map(int, fields)
        file = self.files.setdefault(number, _File(0, b"", kept=False))
        file.place, file.name, file.kept = where, texts[0], bool(kept)

    def _appended(self, fields: tuple[float, ...], texts: tuple[bytes, ...], at: int) -> None:
        number, mtime, size, check = fields
        file = self.files[int(number)]
        file.mtime = mtime
        if size:
            file.pieces.append((place(at, int(size)), int(check)))

    def _cleared(self, fields: tuple[float, ...], texts: tuple[bytes, ...], at: int) -> None:
        file = self.files[int(fields[0])]
        self.dead += [where for where, _ in file.pieces]
        file.pieces = []

    def _unlinked(self, fields: tuple[float, ...], texts: tuple[bytes, ...], at: int) -> None:
        if int(fields[0]) in self.files:
            self._cleared(fields, texts, at)
            del self.files[int(fields[0])]

    def _link(self, fields: tuple[float, ...], texts: tuple[bytes, ...], at: int) -> None:
        (number, made), (name, target) = fields, texts
        self.links.pop(name, None)
        if number:
            self.links[name] = SavedLink(name, int(number), target, made)

    def _tail(self, fields: tuple[float, ...], texts: tuple[bytes, ...], at: int) -> None:
        ident, serial, size, check = map(int, fields)
        if ident in self.tails:
            self.dead.append(self.tails.pop(ident)[1][0])
        if size:
            self.tails[ident] = (serial, (place(at, size), check))

    def _note(self, fields: tuple[float, ...], texts: tuple[bytes, ...], at: int) -> None:
        size, check = map(int, fields)
        if texts[0] in self.notes:
            self.dead.append(self.notes.pop(texts[0])[0])
        if size:
            self.notes[texts[0]] = (place(at, size), check)

    def _begun(self, fields: tuple[float, ...], texts: tuple[bytes, ...], at: int) -> None:
        self.begun = fields[0], int(fields[1])
        self.start, self.lines, self.editions = int(fields[1]), bytearray(), {}

    def _edition(self, fields: tuple[float, ...], texts: tuple[bytes, ...], at: int) -> None:
        number, base, self.dropped = map(int, fields)
        self.editions[number] = (base, texts[0])
        if len(self.editions) > EDITIONS:
            del self.editions[next(iter(self.editions))]
        if base > self.start:
            del self.lines[: base - self.start]
            self.start = base

    def _lines(self, fields: tuple[float, ...], texts: tuple[bytes, ...], at: int) -> None:
        self.sequence, self.mtime = int(fields[0]), fields[1]
        self.lines += texts[0]

    def _made(self, fields: tuple[float, ...], texts: tuple[bytes, ...], at: int) -> None:
        self.made = texts[0]


_WITH_DATA = {
    entries.RECORD,
    entries.BLANK,
    entries.BURIED,
    entries.APPENDED,
    entries.TAIL,
    entries.NOTE,
}
_TAKE: dict[int, Callable[[_Replay, tuple[float, ...], tuple[bytes, ...], int], None]] = {
    entries.WHOLE: _Replay._whole,
    entries.CCACHE: _Replay._ccache,
    entries.TOUCHED: _Replay._touched,
    entries.OLDER: _Replay._older,
    entries.DROPPED: _Replay._dropped,
    entries.EMPTIED: _Replay._emptied,
    entries.RECORD: _Replay._record,
    entries.BLANK: _Replay._blank,
    entries.REMOVED: _Replay._removed,
    entries.COMPACTED: _Replay._compacted,
    entries.BURIED: _Replay._buried,
    entries.FILE: _Replay._file,
    entries.APPENDED: _Replay._appended,
    entries.CLEARED: _Replay._cleared,
    entries.UNLINKED: _Replay._unlinked,
    entries.LINK: _Replay._link,
    entries.TAIL: _Replay._tail,
    entries.NOTE: _Replay._note,
    entries.BEGUN: _Replay._begun,
    entries.EDITION: _Replay._edition,
    entries.LINES: _Replay._lines,
    entries.MADE: _Replay._made,
}


def replay(log: Log) -> Replayed:
    """Read all frames that count.

    Raises DamagedError; struct.error, KeyError, IndexError or ValueError where a frame says what
    none of ours says.  What is dead is overwritten, in case a killed process had no time to.
    """
    steps = _Replay()
    for frame in log.frames():
        steps.frame(frame.meta, frame.data)
    if not (steps.whole and steps.ccaches and steps.begun and steps.editions):
        raise DamagedError("it is damaged")
    log.erase(steps.dead)
    saved = _saved(log, steps, steps.begun[0])
    return Replayed(saved, _alive(saved), _held(steps, saved.tails), steps.made)


def _saved(log: Log, steps: _Replay, start_time: float) -> Saved:
    older: dict[int, list[tuple[int, int]]] = {}
    for number, (serial, lineage) in steps.older.items():
        older.setdefault(serial, []).append((number, lineage))
    ccaches = [
        _saved_ccache(log, serial, ccache, older.get(serial, []))
        for serial, ccache in steps.ccaches.items()
    ]
    change_time, last, mtime, unique, chosen, announced = steps.whole
    editions = tuple((number, *rest) for number, rest in steps.editions.items())
    return Saved(
        SavedWhole(
            int(change_time), int(last), start_time, mtime, int(unique), bool(chosen), announced
        ),
        tuple(sorted(ccaches, key=lambda ccache: ccache.rank)),
        tuple(_saved_file(log, number, file) for number, file in steps.files.items()),
        tuple(steps.links.values()),
        {ident: (serial, _read(log, *piece)) for ident, (serial, piece) in steps.tails.items()},
        {key: _read(log, *piece) for key, piece in steps.notes.items()},
        SavedEvents(
            bytes(steps.lines), steps.start, steps.sequence, steps.dropped, steps.mtime, editions
        ),
    )


def _saved_ccache(
    log: Log, serial: int, ccache: _Ccache, older: list[tuple[int, int]]
) -> SavedCcache:
    rank, change_time, default, mtime, number, data_mtime, lineage, nominal = ccache.fields
    name, prefix = ccache.texts
    data, records = bytearray(prefix), []
    for key, ((where, check), text) in ccache.records.items():
        part = _read(log, where, check)
        data += part
        named = text.decode("utf-8", "surrogateescape") if text is not None else ""
        records.append(SavedRecord(key if text is not None else 0, named, len(part)))
    return SavedCcache(
        serial,
        name,
        int(rank),
        int(change_time),
        int(default),
        mtime,
        data,
        records,
        int(number),
        data_mtime,
        int(lineage),
        bool(nominal),
        older,
    )


def _saved_file(log: Log, number: int, file: _File) -> SavedFile:
    data = b"".join(_read(log, *piece) for piece in file.pieces)
    return SavedFile(file.place, file.name, file.mtime, data, number, file.kept)


def _alive(saved: Saved) -> int:
    """About how many bytes of a log that was just written anew would be this."""
    ccaches = sum(len(c.data) + ENTRY * (len(c.records) + 2) for c in saved.ccaches)
    files = sum(len(file.data) + ENTRY for file in saved.files)
    tails = sum(len(tail) + ENTRY for _, tail in saved.tails.values())
    notes = sum(len(key) + len(value) + ENTRY for key, value in saved.notes.items())
    return ccaches + files + tails + notes + (len(saved.events.lines) if saved.events else 0)


def _held(steps: _Replay, tails: dict[int, Tail]) -> Held:
    return Held(
        {serial: _logged(ccache) for serial, ccache in steps.ccaches.items()},
        {number: _logged_file(file) for number, file in steps.files.items()},
        {ident: (tails[ident], where) for ident, (_, (where, _)) in steps.tails.items()},
        {key: where for key, (where, _) in steps.notes.items()},
        steps.sequence,
        next(reversed(steps.editions)),
    )


def _logged(ccache: _Ccache) -> Logged:
    records = {key: where for key, ((where, _), _) in ccache.records.items()}
    blank = {key for key, (_, name) in ccache.records.items() if name is None}
    return Logged(None, records, blank, int(ccache.fields[_NUMBER]))


def _logged_file(file: _File) -> LoggedFile:
    pieces = [where for where, _ in file.pieces]
    size = sum(where & 0xFFFF_FFFF for where in pieces)
    return LoggedFile(((file.place, file.name), file.kept), size, pieces)


def _read(log: Log, where: Place, check: int) -> bytes:
    data = log.read(where)
    if crc32(data) != check:
        raise DamagedError("it is damaged")
    return data
