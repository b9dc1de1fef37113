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
from ccfs.journal.log import Place, place
from ccfs.journal.replay import Held, Logged, LoggedFile
from ccfs.store.effects import Effects
from ccfs.store.scratch import KEPT
from ccfs.store.snapshot import LEFT, left_name

if TYPE_CHECKING:
    from ccfs.journal.log import Log
    from ccfs.store.ccache import Ccache
    from ccfs.store.event_log import EventLog
    from ccfs.store.generation import Generation
    from ccfs.store.image import Image
    from ccfs.store.store import Store
    from ccfs.store.values import Stored

_NOTHING = Effects()
_Record = tuple[bytes, "Stored | None"]
"""A record, None for one that is marked as removed."""


class _Batch:
    """A frame that is being put together.

    `placed`: what is told where its data is in the log; `done`: what is called once it is there.
    """

    __slots__ = ("data", "done", "meta", "placed")

    def __init__(self) -> None:
        self.meta: list[bytes] = []
        self.data: list[bytes] = []
        self.placed: list[Callable[[Place], object]] = []
        self.done: list[Callable[[], object]] = []

    def add(self, meta: bytes, data: bytes, placed: Callable[[Place], object]) -> None:
        """Add an entry that has data."""
        self.meta.append(meta)
        self.data.append(data)
        self.placed.append(placed)


class Writer:
    """A log, and where it has what of the store.

    What a step that failed has changed is written anew with the next one: `_missed` has what that
    is, if any, `_dead` what is to be overwritten then.
    """

    def __init__(self, log: Log, held: Held) -> None:
        """`held`: what the log has already."""
        self.log = log
        self._held = held
        self._dead: list[Place] = []
        self._missed = _NOTHING

    def add(
        self, store: Store, effects: Effects, *, made: Effects | None = None, older: bool = False
    ) -> None:
        """Have in the log what is named in `effects`, as it is now, and all that was missed.

        `made`: what the step was; `older`: also the numbers before the current ones by which files
        are open.  OSError where there is no room, and whatever else may go wrong: it is missed.
        """
        batch = _Batch()
        try:
            todo = _merged(self._missed, effects) if self._missed is not _NOTHING else effects
            self._put_all(batch, store, todo)
            if older:
                batch.meta += [_older(g) for g in store.generations.older() if _same_dialect(g)]
            if made is not None:
                text = effects_codec.encode(made)
                batch.meta += (ENCODE[entries.MADE](len(text)), text)
            self._append(batch, store)
        except BaseException:
            self._missed = _merged(self._missed, effects)
            raise

    def _put_all(self, batch: _Batch, store: Store, effects: Effects) -> None:
        unlogged = self._unlogged(store, effects.superseded) if effects.superseded else ()
        self._put_ccaches(batch, store, effects)
        for number, kept in effects.scratch_files.items():
            self._put_file(batch, number, store.generations.find(number), kept)
        for name in effects.scratch_links:
            batch.meta += _link(store, name)
        for key in effects.notes:
            self._put_note(batch, key, store.notes.get(key, b""))
        self._put_tails(batch, store)
        self._put_events(batch, store)
        batch.meta += unlogged

    def _unlogged(self, store: Store, superseded: list[int]) -> list[bytes]:
        """Numbers that ccaches had for a moment, which the log hasn't had as their current ones."""
        found = []
        for number in superseded:
            generation = store.generations.find(number)
            if generation and generation.handles and generation.ccache and generation.rewritten:
                held = self._held.ccaches.get(generation.ccache.serial)
                if (held is None or held.number != number) and _same_dialect(generation):
                    found.append(_older(generation))
        return found

    def _put_ccaches(self, batch: _Batch, store: Store, effects: Effects) -> None:
        anew, buried = effects.rewritten, effects.placeholders
        if effects.destroyed or anew:
            self._drop(batch, store, {*effects.destroyed, *anew})
        for owner, serials in effects.removed_records.items():
            if owner not in anew:
                self._remove(batch, owner, serials, buried.get(owner, {}))
        for owner in effects.compacted:
            if owner not in anew:
                self._compact(batch, owner)
        for owner, records in buried.items():
            if owner not in anew:
                self._bury(batch, owner, records)
        for serial in effects.metadata | effects.changed | anew:
            ccache = store.collection.by_serial(serial)
            if ccache is not None:
                self._put(batch, ccache, effects)

    def _drop(self, batch: _Batch, store: Store, serials: set[int]) -> None:
        """Ccaches that are gone, with all that they had."""
        for serial in serials:
            if store.collection.by_serial(serial) is None:
                batch.meta.append(ENCODE[entries.DROPPED](serial))
                held = self._held.ccaches.pop(serial, None)
                self._dead += held.records.values() if held else ()

    def _remove(
        self, batch: _Batch, owner: int, serials: list[int], buried: dict[int, bytes]
    ) -> None:
        """Records that are gone altogether."""
        held = self._held.ccaches.get(owner)
        for serial in serials:
            if held and serial in held.records and serial not in buried:
                batch.meta.append(ENCODE[entries.REMOVED](owner, serial))
                self._dead.append(held.records.pop(serial))

    def _compact(self, batch: _Batch, owner: int) -> None:
        held = self._held.ccaches.get(owner)
        if held is not None:
            batch.meta.append(ENCODE[entries.COMPACTED](owner))
            self._dead += [held.records.pop(key) for key in held.blank]
            held.blank = set()

    def _bury(self, batch: _Batch, owner: int, buried: dict[int, bytes]) -> None:
        """Records that are marked as removed in their places."""
        held = self._held.ccaches.get(owner)
        for serial, data in buried.items():
            if held and serial in held.records:
                self._dead.append(held.records[serial])
                held.blank.add(serial)
                meta = ENCODE[entries.BURIED](owner, serial, len(data), crc32(data))
                batch.add(meta, data, partial(held.records.__setitem__, serial))

    def _put(self, batch: _Batch, ccache: Ccache, effects: Effects) -> None:
        """What a ccache has got, or has instead of what it had."""
        serial, current = ccache.serial, ccache.current
        image = current.image if current is not None else None
        number, mtime = (current.number, current.mtime) if current is not None else (0, 0.0)
        held = self._held.ccaches.get(serial)
        records: Iterable[_Record]
        if held is None or serial in effects.rewritten:
            held = self._held.ccaches[serial] = held or Logged()
            batch.meta.append(ENCODE[entries.EMPTIED](serial))
            self._dead += held.records.values()
            held.records, held.blank, held.fixed = {}, set(), None
            records = image.records() if image else ()
        else:
            records = _added(image, effects, serial) if serial in effects.appended and image else ()
        fixed = (
            ccache.name,
            ccache.rank,
            ccache.last_default_time,
            ccache.lineage,
            ccache.nominal,
            image.prefix if image is not None else None,
        )
        if held.fixed != fixed:
            batch.meta += _row(ccache)
            held.fixed = fixed
        else:
            times = (ccache.change_time, ccache.mtime, mtime)
            batch.meta.append(ENCODE[entries.TOUCHED](serial, number, *times))
        held.number = number
        for data, stored in records:
            if stored is not None:
                name = stored.name.encode("utf-8", "surrogateescape")
                sizes = (len(name), len(data), crc32(data))
                batch.meta.append(ENCODE[entries.RECORD](serial, stored.serial, *sizes))
                batch.add(name, data, partial(held.records.__setitem__, stored.serial))
            else:
                meta = ENCODE[entries.BLANK](serial, len(data), crc32(data))
                batch.add(meta, data, partial(_put_blank, held))

    def _put_file(
        self, batch: _Batch, number: int, generation: Generation | None, kept: int
    ) -> None:
        """A scratch file of whose beginning the log has `kept` bytes as they are."""
        files, held = self._held.files, self._held.files.get(number)
        where = None if generation is None else _place(generation)
        if generation is None or where is None:
            batch.meta.append(ENCODE[entries.UNLINKED](number))
            batch.done.append(partial(self._forget_file, number))
            return
        head = where, generation.used == KEPT
        now = LoggedFile(head, held.size, [*held.pieces]) if held else LoggedFile(head)
        if held is None or held.head != head:
            batch.meta += (ENCODE[entries.FILE](number, where[0], head[1], len(where[1])), where[1])
        if kept < now.size:
            batch.meta.append(ENCODE[entries.CLEARED](number))
            batch.done.append(partial(self._dead.extend, now.pieces))
            now.size, now.pieces = 0, []
        data = bytes(memoryview(generation.data)[now.size :])
        meta = ENCODE[entries.APPENDED](number, generation.mtime, len(data), crc32(data))
        if data:
            batch.add(meta, data, now.pieces.append)
        else:
            batch.meta.append(meta)
        now.size += len(data)
        batch.done.append(partial(files.__setitem__, number, now))

    def _forget_file(self, number: int) -> None:
        held = self._held.files.pop(number, None)
        self._dead += held.pieces if held else ()

    def _put_note(self, batch: _Batch, key: bytes, value: bytes) -> None:
        batch.meta.append(ENCODE[entries.NOTE](len(key), len(value), crc32(value)))
        batch.add(key, value, partial(self._noted, key))

    def _noted(self, key: bytes, where: Place) -> None:
        old = self._held.notes.pop(key, None)
        self._dead += [old] if old is not None else ()
        if where & 0xFFFF_FFFF:
            self._held.notes[key] = where

    def _put_tails(self, batch: _Batch, store: Store) -> None:
        """What open files have left incomplete, where the log has something else."""
        tails, held = store.open_files.tails(), self._held.tails
        if not tails and not held:
            return
        for ident in {*tails, *held}:
            serial, data = tail = tails.get(ident, (0, b""))
            if ident not in held or held[ident][0] != tail:
                meta = ENCODE[entries.TAIL](ident, serial, len(data), crc32(data))
                batch.add(meta, data, partial(self._waits, ident, tail))

    def _waits(self, ident: int, tail: tuple[int, bytes], where: Place) -> None:
        old = self._held.tails.pop(ident, None)
        self._dead += [old[1]] if old is not None else ()
        if tail[1]:
            self._held.tails[ident] = (tail, where)

    def _put_events(self, batch: _Batch, store: Store) -> None:
        """The lines of the log of changes that are new."""
        events, held = store.events, self._held
        if events.sequence == held.sequence:
            return
        lines = events.since(held.sequence) if held.sequence >= 0 else None
        if lines is None:  # it is not in the log yet, or the log has missed more than is left
            lines, held.edition = events.since(events.oldest - 1) or b"", 0
            batch.meta.append(ENCODE[entries.BEGUN](store.start_time, events.start))
        batch.meta += (ENCODE[entries.LINES](events.sequence, events.mtime, len(lines)), lines)
        if events.edition.number != held.edition:
            batch.meta += _editions(events, held.edition)

    def _append(self, batch: _Batch, store: Store) -> None:
        """Acknowledge the step, and overwrite what it has removed."""
        ledger, collection, events = store.ledger, store.collection, store.events
        register = ledger.register
        batch.meta.append(
            ENCODE[entries.WHOLE](
                ledger.change_time,
                register.last,
                collection.mtime,
                collection.unique,
                collection.chosen,
                register.announced,
            )
        )
        at = self.log.append(b"".join(batch.meta), batch.data)
        for placed, data in zip(batch.placed, batch.data, strict=True):
            size = len(data)
            placed(place(at, size))
            at += size
        for done in batch.done:
            done()
        self._held.sequence, self._held.edition = events.sequence, events.edition.number
        self._missed = _NOTHING
        if self._dead:
            dead, self._dead = self._dead, []
            self.log.erase(dead)


def _merged(missed: Effects, effects: Effects) -> Effects:
    """What is to be written anew where neither of two steps is in the log as it was made."""
    both = (missed, effects)
    whole = [
        {*e.changed, *e.metadata, *e.removed_records, *e.destroyed, *e.appended, *e.rewritten}
        for e in both
    ]
    return Effects(
        superseded=missed.superseded + effects.superseded,
        rewritten=whole[0] | whole[1] | effects.compacted,
        scratch_files=dict.fromkeys((*missed.scratch_files, *effects.scratch_files), 0),
        scratch_links=missed.scratch_links | effects.scratch_links,
        notes={**missed.notes, **effects.notes},
    )


def _added(image: Image, effects: Effects, serial: int) -> list[_Record]:
    """The records that came at the end of a ccache, as they are now."""
    records: list[_Record] = []
    for one in effects.appended[serial]:
        if isinstance(one, bytes):
            records.append((one, None))
        elif (data := image.record(one.serial)) is not None:
            records.append((data, one))
        elif one.serial in effects.placeholders.get(serial, ()):
            records.append((effects.placeholders[serial][one.serial], None))
    return records


def _put_blank(held: Logged, where: Place) -> None:
    held.records[-where] = where
    held.blank.add(-where)


def _row(ccache: Ccache) -> tuple[bytes, ...]:
    image, name, current = ccache.image, ccache.name, ccache.current
    prefix = bytes(memoryview(image.data)[: image.body]) if image and image.prefix else b""
    row = ENCODE[entries.CCACHE](
        ccache.serial,
        ccache.rank,
        ccache.change_time,
        ccache.last_default_time,
        ccache.mtime,
        current.number if current else 0,
        current.mtime if current else 0.0,
        ccache.lineage,
        ccache.nominal,
        len(name),
        len(prefix),
    )
    return row, name, prefix


def _link(store: Store, name: bytes) -> tuple[bytes, ...]:
    link = store.scratch.links.get(name)
    if link is None:
        return ENCODE[entries.LINK](0, 0.0, len(name), 0), name
    values = (link.number, link.made, len(name), len(link.target))
    return ENCODE[entries.LINK](*values), name, link.target


def _place(generation: Generation) -> tuple[int, bytes] | None:
    """Where the log has it; None for nowhere."""
    if generation.left:
        ccache = generation.ccache
        return LEFT, left_name(ccache.serial if ccache else 0, generation.lineage)
    return generation.place


def _same_dialect(generation: Generation) -> bool:
    """Whether what its writers append fits into what the ccache is now."""
    ccache = generation.ccache
    return bool(ccache and ccache.image and ccache.image.dialect == generation.dialect)


def _older(generation: Generation) -> bytes:
    """The number of one whose ccache goes on under another number."""
    assert generation.ccache is not None
    return ENCODE[entries.OLDER](generation.number, generation.ccache.serial)


def _editions(events: EventLog, known: int) -> list[bytes]:
    """The editions that came after the one of a number."""
    parts = []
    for e in events.editions:
        if e.number > known:
            values = (e.number, e.base, events.dropped, len(e.header))
            parts += [ENCODE[entries.EDITION](*values), e.header]
    return parts
