# SPDX-License-Identifier: MIT
"""The frames of a log, read back and checked: a store as values, and an index of the log.

Knows entries and extents; never how steps are written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from zlib import crc32

from ccfs.journal import entries
from ccfs.journal.log import Extent, Log, extent_of, size_of
from ccfs.journal.log_index import LoggedCcache, LoggedFile, LogIndex
from ccfs.store.errors import DamagedError
from ccfs.store.event_log import MAX_EDITIONS
from ccfs.store.generations import SUPERSEDED_NUMBERS
from ccfs.store.open_files import IncompleteRecord
from ccfs.store.snapshot import (
    Saved,
    SavedCcache,
    SavedEvents,
    SavedFile,
    SavedLink,
    SavedOrphan,
    SavedRecord,
    SavedWhole,
)

ENTRY = 60
"""About how many bytes an entry has besides its data."""

Checked = tuple[Extent, int]
"""Where data is, and its checksum."""
Fields = tuple[float, ...]
Texts = tuple[bytes, ...]


@dataclass(slots=True)
class Replayed:
    """The store, and the index of the log it was read from.

    `live_bytes`: about how many bytes a log would have that is written anew.  `stale`: what the
    last step made stale (`effects_codec.py`), None where its frame doesn't say.
    """

    saved: Saved
    live_bytes: int
    index: LogIndex
    stale: bytes | None


@dataclass(slots=True)
class _Ccache:
    """Fields and texts as in the entry CCACHE, but for the serial number."""

    fields: Fields = (0,) * 8
    texts: Texts = (b"", b"")
    records: dict[int, tuple[Checked, bytes | None]] = field(default_factory=dict)


@dataclass(slots=True)
class _File:
    directory: int
    name: bytes
    expires: bool
    mtime: float = 0.0
    parts: list[Checked] = field(default_factory=list)


_NUMBER, _LINEAGE = 4, 6  # positions in `_Ccache.fields`


class _Replay:
    """What the frames read so far say.  Each method takes one kind of entry.

    The arguments of a method: the entry's fields and texts, and the offset of its data.
    """

    def __init__(self) -> None:
        self.whole: Fields | None = None
        self.ccaches: dict[int, _Ccache] = {}
        self.superseded: dict[int, tuple[int, int | None]] = {}
        self.files: dict[int, _File] = {}
        self.links: dict[bytes, SavedLink] = {}
        self.incomplete: dict[int, tuple[int, Checked]] = {}
        self.notes: dict[bytes, Checked] = {}
        self.begun: tuple[float, int] | None = None
        self.lines, self.start = bytearray(), 0
        self.sequence, self.dropped, self.mtime = 0, 0, 0.0
        self.editions: dict[int, tuple[int, bytes]] = {}
        self.stale: bytes | None = None
        self.dead: list[Extent] = []

    def frame(self, meta: bytes, at: int) -> None:
        """Take all entries of a frame; its data begins at `at`."""
        self.stale = None
        for kind, fields, texts in entries.decode(meta):
            _METHODS[kind](self, fields, texts, at)
            if kind in _WITH_DATA:
                at += int(fields[-2])

    def _whole(self, fields: Fields, texts: Texts, at: int) -> None:
        self.whole = fields

    def _ccache(self, fields: Fields, texts: Texts, at: int) -> None:
        serial = int(fields[0])
        ccache = self.ccaches.setdefault(serial, _Ccache())
        same_version = ccache.texts[1][:2] in (b"", texts[1][:2])
        ccache.texts = texts
        self._set_fields(serial, fields[1:])
        if not same_version:
            # Writers that opened a superseded number append records in another version.
            for number, known in self.superseded.items():
                if known[0] == serial:
                    self.superseded[number] = (serial, None)

    def _metadata(self, fields: Fields, texts: Texts, at: int) -> None:
        serial, number, change_time, mtime, data_mtime = fields
        rank, _, default_time, _, _, _, *rest = self.ccaches[int(serial)].fields
        changed = (rank, change_time, default_time, mtime, number, data_mtime, *rest)
        self._set_fields(int(serial), changed)

    def _set_fields(self, serial: int, fields: Fields) -> None:
        ccache = self.ccaches[serial]
        old, number = int(ccache.fields[_NUMBER]), int(fields[_NUMBER])
        lineage, ccache.fields = int(ccache.fields[_LINEAGE]), fields
        if old and number != old:
            self._add_superseded(old, serial, lineage)

    def _superseded(self, fields: Fields, texts: Texts, at: int) -> None:
        number, serial = map(int, fields)
        self._add_superseded(number, serial, int(self.ccaches[serial].fields[_LINEAGE]))

    def _add_superseded(self, number: int, serial: int, lineage: int) -> None:
        self.superseded[number] = (serial, lineage)
        if len(self.superseded) > SUPERSEDED_NUMBERS:
            del self.superseded[next(iter(self.superseded))]

    def _destroyed(self, fields: Fields, texts: Texts, at: int) -> None:
        self._emptied(fields, texts, at)
        self.ccaches.pop(int(fields[0]), None)

    def _emptied(self, fields: Fields, texts: Texts, at: int) -> None:
        ccache = self.ccaches.get(int(fields[0]), _Ccache())
        self.dead += [extent for (extent, _), _ in ccache.records.values()]
        ccache.records = {}

    def _record(self, fields: Fields, texts: Texts, at: int) -> None:
        ccache, serial, size, checksum = map(int, fields)
        self.ccaches[ccache].records[serial] = ((extent_of(at, size), checksum), texts[0])

    def _placeholder(self, fields: Fields, texts: Texts, at: int) -> None:
        ccache, size, checksum = map(int, fields)
        extent = extent_of(at, size)
        self.ccaches[ccache].records[-extent] = ((extent, checksum), None)

    def _removed(self, fields: Fields, texts: Texts, at: int) -> None:
        (extent, _), _ = self.ccaches[int(fields[0])].records.pop(int(fields[1]))
        self.dead.append(extent)

    def _compacted(self, fields: Fields, texts: Texts, at: int) -> None:
        ccache = self.ccaches[int(fields[0])]
        self.dead += [extent for (extent, _), name in ccache.records.values() if name is None]
        ccache.records = {n: r for n, r in ccache.records.items() if r[1] is not None}

    def _overwritten(self, fields: Fields, texts: Texts, at: int) -> None:
        ccache, serial, size, checksum = map(int, fields)
        records = self.ccaches[ccache].records
        self.dead.append(records[serial][0][0])
        records[serial] = ((extent_of(at, size), checksum), None)

    def _file(self, fields: Fields, texts: Texts, at: int) -> None:
        number, directory, stays = map(int, fields)
        file = self.files.setdefault(number, _File(0, b"", expires=True))
        file.directory, file.name, file.expires = directory, texts[0], not stays

    def _appended(self, fields: Fields, texts: Texts, at: int) -> None:
        number, mtime, size, checksum = fields
        file = self.files[int(number)]
        file.mtime = mtime
        if size:
            file.parts.append((extent_of(at, int(size)), int(checksum)))

    def _truncated(self, fields: Fields, texts: Texts, at: int) -> None:
        file = self.files[int(fields[0])]
        self.dead += [extent for extent, _ in file.parts]
        file.parts = []

    def _unlinked(self, fields: Fields, texts: Texts, at: int) -> None:
        if int(fields[0]) in self.files:
            self._truncated(fields, texts, at)
            del self.files[int(fields[0])]

    def _link(self, fields: Fields, texts: Texts, at: int) -> None:
        (number, made), (name, target) = fields, texts
        self.links.pop(name, None)
        if number:
            self.links[name] = SavedLink(name, int(number), target, made)

    def _incomplete(self, fields: Fields, texts: Texts, at: int) -> None:
        handle, ccache, size, checksum = map(int, fields)
        if handle in self.incomplete:
            self.dead.append(self.incomplete.pop(handle)[1][0])
        if size:
            self.incomplete[handle] = (ccache, (extent_of(at, size), checksum))

    def _note(self, fields: Fields, texts: Texts, at: int) -> None:
        size, checksum = map(int, fields)
        if texts[0] in self.notes:
            self.dead.append(self.notes.pop(texts[0])[0])
        if size:
            self.notes[texts[0]] = (extent_of(at, size), checksum)

    def _events_begin(self, fields: Fields, texts: Texts, at: int) -> None:
        self.begun = fields[0], int(fields[1])
        self.start, self.lines, self.editions = int(fields[1]), bytearray(), {}

    def _edition(self, fields: Fields, texts: Texts, at: int) -> None:
        number, base, self.dropped = map(int, fields)
        self.editions[number] = (base, texts[0])
        if len(self.editions) > MAX_EDITIONS:
            del self.editions[next(iter(self.editions))]
        if base > self.start:
            del self.lines[: base - self.start]
            self.start = base

    def _events(self, fields: Fields, texts: Texts, at: int) -> None:
        self.sequence, self.mtime = int(fields[0]), fields[1]
        self.lines += texts[0]

    def _stale(self, fields: Fields, texts: Texts, at: int) -> None:
        self.stale = texts[0]


_WITH_DATA = {
    entries.RECORD,
    entries.PLACEHOLDER,
    entries.OVERWRITTEN,
    entries.APPENDED,
    entries.INCOMPLETE,
    entries.NOTE,
}
_METHODS: dict[int, Callable[[_Replay, Fields, Texts, int], None]] = {
    entries.WHOLE: _Replay._whole,
    entries.CCACHE: _Replay._ccache,
    entries.METADATA: _Replay._metadata,
    entries.SUPERSEDED: _Replay._superseded,
    entries.DESTROYED: _Replay._destroyed,
    entries.EMPTIED: _Replay._emptied,
    entries.RECORD: _Replay._record,
    entries.PLACEHOLDER: _Replay._placeholder,
    entries.REMOVED: _Replay._removed,
    entries.COMPACTED: _Replay._compacted,
    entries.OVERWRITTEN: _Replay._overwritten,
    entries.FILE: _Replay._file,
    entries.APPENDED: _Replay._appended,
    entries.TRUNCATED: _Replay._truncated,
    entries.UNLINKED: _Replay._unlinked,
    entries.LINK: _Replay._link,
    entries.INCOMPLETE: _Replay._incomplete,
    entries.NOTE: _Replay._note,
    entries.EVENTS_BEGIN: _Replay._events_begin,
    entries.EDITION: _Replay._edition,
    entries.EVENTS: _Replay._events,
    entries.STALE: _Replay._stale,
}


def replay(log: Log) -> Replayed:
    """Read all frames that count.

    Raises DamagedError, or struct.error, KeyError, IndexError, ValueError for entries that no
    writer makes.  Dead data is overwritten, in case a killed process had no time to.
    """
    state = _Replay()
    for frame in log.frames():
        state.frame(frame.meta, frame.data)
    if not (state.whole and state.ccaches and state.begun and state.editions):
        raise DamagedError("it is damaged")
    log.erase(state.dead)
    saved = _saved(log, state, state.whole, state.begun[0])
    return Replayed(saved, _live_bytes(saved), _index(state, saved), state.stale)


def _saved(log: Log, state: _Replay, whole: Fields, start_time: float) -> Saved:
    superseded: dict[int, list[tuple[int, int | None]]] = {}
    for number, (serial, lineage) in state.superseded.items():
        superseded.setdefault(serial, []).append((number, lineage))
    ccaches = [
        _saved_ccache(log, serial, ccache, superseded.get(serial, []))
        for serial, ccache in state.ccaches.items()
    ]
    change_time, last, mtime, next_number, default_chosen, announced_until = whole
    files, orphans = _saved_files(log, state)
    return Saved(
        SavedWhole(
            int(change_time),
            int(last),
            start_time,
            mtime,
            int(next_number),
            bool(default_chosen),
            announced_until,
        ),
        tuple(sorted(ccaches, key=lambda ccache: ccache.rank)),
        files,
        orphans,
        tuple(state.links.values()),
        {
            handle: (ccache, _read(log, *data))
            for handle, (ccache, data) in state.incomplete.items()
        },
        {key: _read(log, *data) for key, data in state.notes.items()},
        _saved_events(state),
    )


def _saved_events(state: _Replay) -> SavedEvents:
    editions = tuple((number, *rest) for number, rest in state.editions.items())
    return SavedEvents(
        bytes(state.lines), state.start, state.sequence, state.dropped, state.mtime, editions
    )


def _saved_ccache(
    log: Log, serial: int, ccache: _Ccache, superseded: list[tuple[int, int | None]]
) -> SavedCcache:
    rank, change_time, default_time, mtime, number, data_mtime, lineage, reserved = ccache.fields
    name, prefix = ccache.texts
    data, records = bytearray(prefix), []
    for key, ((extent, checksum), text) in ccache.records.items():
        record = _read(log, extent, checksum)
        data += record
        if text is None:
            records.append(SavedRecord(None, "", len(record)))
        else:
            file_name = text.decode("utf-8", "surrogateescape")
            records.append(SavedRecord(key, file_name, len(record)))
    return SavedCcache(
        serial,
        name,
        int(rank),
        int(change_time),
        int(default_time),
        mtime,
        data,
        records,
        bool(number),
        int(number),
        data_mtime,
        int(lineage),
        bool(reserved),
        superseded,
    )


def _saved_files(log: Log, state: _Replay) -> tuple[tuple[SavedFile, ...], tuple[SavedOrphan, ...]]:
    files, orphans = [], []
    for number, file in state.files.items():
        data = b"".join([_read(log, *part) for part in file.parts])
        if file.directory == entries.ORPHAN_NUMBER:
            ccache, lineage = entries.ORPHAN_NAME.unpack(file.name)
            orphans.append(SavedOrphan(number, data, ccache or None, lineage))
        else:
            directory = _directory(file)
            saved = SavedFile(directory, file.name, file.mtime, data, number, file.expires)
            files.append(saved)
    return tuple(files), tuple(orphans)


def _directory(file: _File) -> int | None:
    return None if file.directory == entries.DIR_NUMBER else file.directory


def _live_bytes(saved: Saved) -> int:
    ccaches = sum(len(c.data) + ENTRY * (len(c.records) + 2) for c in saved.ccaches)
    files = sum(len(file.data) + ENTRY for file in saved.files)
    orphans = sum(len(orphan.data) + ENTRY for orphan in saved.orphans)
    incomplete = sum(len(data) + ENTRY for _, data in saved.incomplete.values())
    notes = sum(len(key) + len(value) + ENTRY for key, value in saved.notes.items())
    events = len(saved.events.lines) if saved.events else 0
    return ccaches + files + orphans + incomplete + notes + events


def _index(state: _Replay, saved: Saved) -> LogIndex:
    return LogIndex(
        {serial: _logged_ccache(ccache) for serial, ccache in state.ccaches.items()},
        {number: _logged_file(file) for number, file in state.files.items()},
        {
            handle: (IncompleteRecord(*saved.incomplete[handle]), extent)
            for handle, (_, (extent, _)) in state.incomplete.items()
        },
        {key: extent for key, (extent, _) in state.notes.items()},
        state.sequence,
        next(reversed(state.editions)),
    )


def _logged_ccache(ccache: _Ccache) -> LoggedCcache:
    records = {key: extent for key, ((extent, _), _) in ccache.records.items()}
    placeholders = {key for key, (_, name) in ccache.records.items() if name is None}
    return LoggedCcache(None, records, placeholders, int(ccache.fields[_NUMBER]))


def _logged_file(file: _File) -> LoggedFile:
    extents = [extent for extent, _ in file.parts]
    return LoggedFile(
        (file.directory, file.name, file.expires), sum(map(size_of, extents)), extents
    )


def _read(log: Log, extent: Extent, checksum: int) -> bytes:
    data = log.read(extent)
    if crc32(data) != checksum:
        raise DamagedError("it is damaged")
    return data
