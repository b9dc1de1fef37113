# SPDX-License-Identifier: MIT
"""Steps of the store as frames of a log.

What a step removes is overwritten in the log in the same step.  Knows the store, and what the log
has of it; never where the log is kept, nor how it is read back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING
from zlib import crc32

from ccfs.journal import effects_codec, entries
from ccfs.journal.entries import ENCODE
from ccfs.journal.log import Extent, extent_of, size_of
from ccfs.journal.log_index import FileRow, LoggedCcache, LoggedFile, LogIndex
from ccfs.store.effects import Effects

if TYPE_CHECKING:
    from ccfs.journal.log import Log
    from ccfs.store.ccache import Ccache
    from ccfs.store.event_log import EventLog
    from ccfs.store.generation import Generation
    from ccfs.store.image import Image
    from ccfs.store.open_files import IncompleteRecord
    from ccfs.store.store import Store
    from ccfs.store.values import Stored

_NO_EFFECTS = Effects()
_Record = tuple[bytes, "Stored | None"]
"""The bytes of a record, and its identity; None: a placeholder."""


class _Frame:
    """A frame that is being put together.

    `meta`: its entries as bytes; `data`: what belongs to some of them.  `on_extent`: for each part
    of `data` what is called with its extent in the log; `on_written`: what is called once the frame
    is in the log.
    """

    __slots__ = ("data", "meta", "on_extent", "on_written")

    def __init__(self) -> None:
        self.meta: list[bytes] = []
        self.data: list[bytes] = []
        self.on_extent: list[Callable[[Extent], object]] = []
        self.on_written: list[Callable[[], object]] = []

    def add(self, meta: bytes, data: bytes, on_extent: Callable[[Extent], object]) -> None:
        """Add an entry that has data."""
        self.meta.append(meta)
        self.data.append(data)
        self.on_extent.append(on_extent)


class Writer:
    """Writes steps to a log, with an index of what the log has.

    A step that could not be written is not taken back in the index.  Everything that it changed is
    written again with the next step: `_unwritten` are its effects, `_dead` the extents that are to
    be overwritten then.
    """

    def __init__(self, log: Log, index: LogIndex) -> None:
        """`index`: what the log has already."""
        self.log = log
        self._index = index
        self._dead: list[Extent] = []
        self._unwritten = _NO_EFFECTS

    def add(
        self,
        store: Store,
        effects: Effects,
        *,
        stale: Effects | None = None,
        superseded: bool = False,
    ) -> None:
        """Write what is named in `effects`, as it is now, and what earlier steps could not write.

        `stale`: the effects of the step for which clients may need another notification.
        `superseded`: also write the superseded numbers by which files are open.  OSError where
        there is no room.
        """
        frame = _Frame()
        try:
            todo = effects
            if self._unwritten is not _NO_EFFECTS:
                todo = _merged(self._unwritten, effects)
            self._put_all(frame, store, todo)
            if superseded:
                generations = store.generations.rewritten_open()
                frame.meta += [_superseded(g) for g in generations if _same_dialect(store, g)]
            if stale is not None:
                text = effects_codec.encode(stale)
                frame.meta += (ENCODE[entries.STALE](len(text)), text)
            self._append(frame, store)
        except BaseException:
            self._unwritten = _merged(self._unwritten, effects)
            raise

    def _put_all(self, frame: _Frame, store: Store, effects: Effects) -> None:
        unlogged = self._unlogged(store, effects.superseded) if effects.superseded else ()
        self._put_ccaches(frame, store, effects)
        for number, unchanged in effects.scratch_files.items():
            self._put_file(frame, number, store.generations.find(number), unchanged)
        for name in effects.scratch_links:
            frame.meta += _link(store, name)
        for key in effects.notes:
            self._put_note(frame, key, store.notes.get(key, b""))
        self._put_incomplete(frame, store)
        self._put_events(frame, store)
        frame.meta += unlogged

    def _unlogged(self, store: Store, superseded: list[int]) -> list[bytes]:
        """Entries for open generations that were made and superseded in the same step.

        The log hasn't had their numbers as the current ones of their ccaches.
        """
        unlogged = []
        for number in superseded:
            generation = store.generations.find(number)
            if generation is None or not generation.open_count or generation.owner is None:
                continue
            if store.generations.is_rewritten(generation) and _same_dialect(store, generation):
                logged = self._index.ccaches.get(generation.owner)
                if logged is None or logged.number != number:
                    unlogged.append(_superseded(generation))
        return unlogged

    def _put_ccaches(self, frame: _Frame, store: Store, effects: Effects) -> None:
        rewritten, placeholders = effects.rewritten, effects.placeholders
        if effects.destroyed or rewritten:
            self._put_destroyed(frame, store, {*effects.destroyed, *rewritten})
        for ccache, serials in effects.removed_records.items():
            if ccache not in rewritten:
                self._put_removed(frame, ccache, serials, placeholders.get(ccache, {}))
        for ccache in effects.compacted:
            if ccache not in rewritten:
                self._put_compacted(frame, ccache)
        for ccache, records in placeholders.items():
            if ccache not in rewritten:
                self._put_placeholders(frame, ccache, records)
        for ccache in effects.metadata | effects.changed | rewritten:
            changed = store.collection.by_serial(ccache)
            if changed is not None:
                self._put_ccache(frame, changed, effects)

    def _put_destroyed(self, frame: _Frame, store: Store, serials: set[int]) -> None:
        """Those of some ccaches that were destroyed, with all that the log has of them."""
        for serial in serials:
            if store.collection.by_serial(serial) is None:
                frame.meta.append(ENCODE[entries.DESTROYED](serial))
                logged = self._index.ccaches.pop(serial, None)
                self._dead += logged.records.values() if logged else ()

    def _put_removed(
        self, frame: _Frame, ccache: int, serials: list[int], placeholders: dict[int, bytes]
    ) -> None:
        """Records that were removed without a placeholder."""
        logged = self._index.ccaches.get(ccache)
        for serial in serials:
            if logged and serial in logged.records and serial not in placeholders:
                frame.meta.append(ENCODE[entries.REMOVED](ccache, serial))
                self._dead.append(logged.records.pop(serial))

    def _put_compacted(self, frame: _Frame, ccache: int) -> None:
        logged = self._index.ccaches.get(ccache)
        if logged is not None:
            frame.meta.append(ENCODE[entries.COMPACTED](ccache))
            self._dead += [logged.records.pop(key) for key in logged.placeholders]
            logged.placeholders = set()

    def _put_placeholders(self, frame: _Frame, ccache: int, placeholders: dict[int, bytes]) -> None:
        """Placeholders that were written over records."""
        logged = self._index.ccaches.get(ccache)
        for serial, data in placeholders.items():
            if logged and serial in logged.records:
                self._dead.append(logged.records[serial])
                logged.placeholders.add(serial)
                meta = ENCODE[entries.OVERWRITTEN](ccache, serial, len(data), crc32(data))
                frame.add(meta, data, partial(logged.records.__setitem__, serial))

    def _put_ccache(self, frame: _Frame, ccache: Ccache, effects: Effects) -> None:
        """A ccache's row or metadata, and the records that it got or has instead."""
        serial, current = ccache.serial, ccache.current
        image = current.image if current is not None else None
        number, mtime = (current.number, current.mtime) if current is not None else (0, 0.0)
        logged = self._index.ccaches.get(serial)
        records: Iterable[_Record]
        if logged is None or serial in effects.rewritten:
            logged = self._index.ccaches[serial] = logged or LoggedCcache()
            frame.meta.append(ENCODE[entries.EMPTIED](serial))
            self._dead += logged.records.values()
            logged.records, logged.placeholders, logged.row = {}, set(), None
            records = image.records() if image else ()
        else:
            appended = serial in effects.appended and image
            records = _appended(image, effects, serial) if image and appended else ()
        row = (
            ccache.name,
            ccache.rank,
            ccache.last_default_time,
            ccache.lineage,
            ccache.reserved,
            image.prefix if image is not None else None,
        )
        if logged.row != row:
            frame.meta += _ccache_entry(ccache)
            logged.row = row
        else:
            times = (ccache.change_time, ccache.mtime, mtime)
            frame.meta.append(ENCODE[entries.METADATA](serial, number, *times))
        logged.number = number
        for data, stored in records:
            if stored is not None:
                name = stored.name.encode("utf-8", "surrogateescape")
                sizes = (len(name), len(data), crc32(data))
                frame.meta.append(ENCODE[entries.RECORD](serial, stored.serial, *sizes))
                frame.add(name, data, partial(logged.records.__setitem__, stored.serial))
            else:
                meta = ENCODE[entries.PLACEHOLDER](serial, len(data), crc32(data))
                frame.add(meta, data, partial(_placeholder_written, logged))

    def _put_file(
        self, frame: _Frame, number: int, generation: Generation | None, unchanged: int
    ) -> None:
        """A scratch file or an orphan, of which `unchanged` bytes are as the log has them."""
        files, logged = self._index.files, self._index.files.get(number)
        row = None if generation is None else _file_row(generation)
        if generation is None or row is None:
            frame.meta.append(ENCODE[entries.UNLINKED](number))
            frame.on_written.append(partial(self._file_unlinked, number))
            return
        now = LoggedFile(row, logged.size, [*logged.extents]) if logged else LoggedFile(row)
        if logged is None or logged.row != row:
            directory, name, expires = row
            frame.meta += (
                ENCODE[entries.FILE](number, directory, not expires, len(name)),
                name,
            )
        if unchanged < now.size:
            frame.meta.append(ENCODE[entries.TRUNCATED](number))
            frame.on_written.append(partial(self._dead.extend, now.extents))
            now.size, now.extents = 0, []
        data = bytes(memoryview(generation.data)[now.size :])
        meta = ENCODE[entries.APPENDED](number, generation.mtime, len(data), crc32(data))
        if data:
            frame.add(meta, data, now.extents.append)
        else:
            frame.meta.append(meta)
        now.size += len(data)
        frame.on_written.append(partial(files.__setitem__, number, now))

    def _file_unlinked(self, number: int) -> None:
        logged = self._index.files.pop(number, None)
        self._dead += logged.extents if logged else ()

    def _put_note(self, frame: _Frame, key: bytes, value: bytes) -> None:
        frame.meta.append(ENCODE[entries.NOTE](len(key), len(value), crc32(value)))
        frame.add(key, value, partial(self._note_written, key))

    def _note_written(self, key: bytes, extent: Extent) -> None:
        old = self._index.notes.pop(key, None)
        self._dead += [old] if old is not None else ()
        if size_of(extent):
            self._index.notes[key] = extent

    def _put_incomplete(self, frame: _Frame, store: Store) -> None:
        """Incomplete records of open files, where the log has others."""
        records, logged = store.open_files.incomplete_records(), self._index.incomplete
        if not records and not logged:
            return
        for handle in {*records, *logged}:
            record = records.get(handle)
            if record is not None and handle in logged and logged[handle][0] == record:
                continue
            ccache, data = record or (0, b"")
            meta = ENCODE[entries.INCOMPLETE](handle, ccache, len(data), crc32(data))
            frame.add(meta, data, partial(self._incomplete_written, handle, record))

    def _incomplete_written(
        self, handle: int, record: IncompleteRecord | None, extent: Extent
    ) -> None:
        old = self._index.incomplete.pop(handle, None)
        self._dead += [old[1]] if old is not None else ()
        if record is not None:
            self._index.incomplete[handle] = (record, extent)

    def _put_events(self, frame: _Frame, store: Store) -> None:
        """The lines of the event log that are new."""
        events, index = store.events, self._index
        if events.sequence == index.sequence:
            return
        lines = events.since(index.sequence) if index.sequence is not None else None
        if lines is None:  # the log has no lines, or the event log has dropped the next one
            lines, index.edition = events.since(events.oldest - 1) or b"", 0
            frame.meta.append(ENCODE[entries.EVENTS_BEGIN](store.start_time, events.start))
        frame.meta += (ENCODE[entries.EVENTS](events.sequence, events.mtime, len(lines)), lines)
        if events.edition.number != index.edition:
            frame.meta += _editions(events, index.edition)

    def _append(self, frame: _Frame, store: Store) -> None:
        """Append the frame to the log, and overwrite what the step has removed."""
        collection, events = store.collection, store.events
        frame.meta.append(
            ENCODE[entries.WHOLE](
                store.change_time,
                store.last_serial,
                collection.mtime,
                collection.next_number,
                collection.default_chosen,
                store.announced_until,
            )
        )
        at = self.log.append(b"".join(frame.meta), frame.data)
        for on_extent, data in zip(frame.on_extent, frame.data, strict=True):
            size = len(data)
            on_extent(extent_of(at, size))
            at += size
        for on_written in frame.on_written:
            on_written()
        self._index.sequence, self._index.edition = events.sequence, events.edition.number
        self._unwritten = _NO_EFFECTS
        if self._dead:
            dead, self._dead = self._dead, []
            self.log.erase(dead)


def _merged(unwritten: Effects, effects: Effects) -> Effects:
    """Effects that write anew all that two steps changed."""
    return Effects(
        superseded=unwritten.superseded + effects.superseded,
        rewritten=_changed_ccaches(unwritten) | _changed_ccaches(effects) | effects.compacted,
        scratch_files=dict.fromkeys((*unwritten.scratch_files, *effects.scratch_files), 0),
        scratch_links=unwritten.scratch_links | effects.scratch_links,
        notes={**unwritten.notes, **effects.notes},
    )


def _changed_ccaches(e: Effects) -> set[int]:
    return {
        *e.changed,
        *e.metadata,
        *e.removed_records,
        *e.destroyed,
        *e.appended,
        *e.rewritten,
    }


def _appended(image: Image, effects: Effects, serial: int) -> list[_Record]:
    """The records that came at the end of a ccache, as they are now."""
    records: list[_Record] = []
    for record in effects.appended[serial]:
        if isinstance(record, bytes):
            records.append((record, None))
        elif (data := image.record(record.serial)) is not None:
            records.append((data, record))
        elif record.serial in effects.placeholders.get(serial, ()):
            records.append((effects.placeholders[serial][record.serial], None))
    return records


def _placeholder_written(logged: LoggedCcache, extent: Extent) -> None:
    logged.records[-extent] = extent
    logged.placeholders.add(-extent)


def _ccache_entry(ccache: Ccache) -> tuple[bytes, ...]:
    image, name, current = ccache.image, ccache.name, ccache.current
    prefix = bytes(memoryview(image.data)[: image.records_start]) if image and image.prefix else b""
    entry = ENCODE[entries.CCACHE](
        ccache.serial,
        ccache.rank,
        ccache.change_time,
        ccache.last_default_time,
        ccache.mtime,
        current.number if current else 0,
        current.mtime if current else 0.0,
        ccache.lineage,
        ccache.reserved,
        len(name),
        len(prefix),
    )
    return entry, name, prefix


def _link(store: Store, name: bytes) -> tuple[bytes, ...]:
    link = store.scratch.links.get(name)
    if link is None:
        return ENCODE[entries.LINK](0, 0.0, len(name), 0), name
    values = (link.number, link.made, len(name), len(link.target))
    return ENCODE[entries.LINK](*values), name, link.target


def _file_row(generation: Generation) -> FileRow | None:
    """Directory and name of a scratch file or an orphan; None for what the log doesn't keep."""
    if generation.orphan:
        name = entries.ORPHAN_NAME.pack(generation.owner or 0, generation.lineage or 0)
        return entries.ORPHAN_NUMBER, name, generation.expires
    if generation.scratch_name is None:
        return None
    directory, name = generation.scratch_name
    return entries.DIR_NUMBER if directory is None else directory, name, generation.expires


def _same_dialect(store: Store, generation: Generation) -> bool:
    """Whether what writers of a superseded number append is in the version of its ccache."""
    ccache = store.generations.owner(generation)
    return bool(ccache and ccache.image and ccache.image.dialect == generation.dialect)


def _superseded(generation: Generation) -> bytes:
    return ENCODE[entries.SUPERSEDED](generation.number, generation.owner)


def _editions(events: EventLog, known: int) -> list[bytes]:
    """The editions of the event log after the one of number `known`."""
    parts = []
    for e in events.editions:
        if e.number > known:
            values = (e.number, e.base, events.dropped, len(e.header))
            parts += [ENCODE[entries.EDITION](*values), e.header]
    return parts
