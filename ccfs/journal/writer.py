"""Steps of the store as frames of a log.

What a step removes is overwritten in the log in the same step.  Knows the store, and what the log
has of it; never where the log is kept, nor how it is read back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING
from zlib import crc32

from ccfs.journal import entries, step
from ccfs.journal.entries import encode
from ccfs.journal.log import Place, place
from ccfs.journal.replay import Held, Logged, LoggedFile
from ccfs.store.ledger import Effects
from ccfs.store.scratch import KEPT

if TYPE_CHECKING:
    from ccfs.journal.log import Log
    from ccfs.store.ccache import Ccache
    from ccfs.store.events import EventLog
    from ccfs.store.generation import Generation
    from ccfs.store.image import Image
    from ccfs.store.store import Store
    from ccfs.store.values import Stored

_Record = tuple[bytes, "Stored | None"]
"""A record, None for one that is marked as removed."""


@dataclass(slots=True)
class _Batch:
    """A frame that is being put together.

    `placed`: what is told where its data is in the log; `done`: what is called once it is there.
    """

    meta: list[bytes] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    placed: list[Callable[[Place], object]] = field(default_factory=list)
    done: list[Callable[[], object]] = field(default_factory=list)

    def add(self, meta: bytes, data: bytes, placed: Callable[[Place], object]) -> None:
        """Add an entry that has data."""
        self.meta.append(meta)
        self.data.append(data)
        self.placed.append(placed)


class Writer:
    """A log, and where it has what of the store.

    What a step that failed has changed is written anew with the next one: `_missed` has what that
    is, `_dead` what is to be overwritten then.
    """

    def __init__(self, log: Log, held: Held) -> None:
        """`held`: what the log has already."""
        self.log = log
        self._held = held
        self._dead: list[Place] = []
        self._missed = Effects()

    def commit(self, store: Store, effects: Effects) -> None:
        """Have one step in the log, and all that could not be before.

        OSError where there is no room, and whatever else may go wrong: the step is missed.
        """
        self.add(store, effects, made=effects)

    def add(
        self, store: Store, effects: Effects, *, made: Effects | None = None, older: bool = False
    ) -> None:
        """Have in the log what is named in `effects`, as it is now.

        `made`: what the step was; `older`: also the numbers before the current ones by which files
        are open.
        """
        batch, missed = _Batch(), self._missed
        missed.rewritten |= effects.rewritten
        unlogged = self._unlogged(store, effects)
        try:
            self._put_ccaches(batch, store, effects)
            if effects.files or missed.files:
                for number, kept in {**effects.files, **missed.files}.items():
                    self._put_file(batch, number, store.contents.find(number), kept)
            if effects.links or missed.links:
                batch.meta += [_link(store, name) for name in effects.links | missed.links]
            if effects.notes or missed.notes:
                for key in {**effects.notes, **missed.notes}:
                    self._put_note(batch, key, store.notes.get(key, b""))
            self._put_tails(batch, store)
            self._put_events(batch, store)
            batch.meta += unlogged
            if older:
                batch.meta += [_older(g) for g in store.contents.older() if _same_dialect(g)]
            if made is not None:
                text = step.encode(made)
                batch.meta.append(encode(entries.MADE, len(text), texts=(text,)))
            self._append(batch, store)
        except BaseException:
            self._miss(effects)
            raise

    def _unlogged(self, store: Store, effects: Effects) -> list[bytes]:
        """Numbers that ccaches had for a moment, which the log hasn't had as their current ones."""
        found = []
        for number in self._missed.superseded + effects.superseded:
            generation = store.contents.find(number)
            if generation and generation.ccache and generation.handles and generation.rewritten:
                held = self._held.ccaches.get(generation.ccache.serial)
                if (held is None or held.number != number) and _same_dialect(generation):
                    found.append(_older(generation))
        return found

    def _miss(self, effects: Effects) -> None:
        missed = self._missed
        missed.superseded += effects.superseded
        missed.rewritten |= {*effects.changed, *effects.touched, *effects.compacted}
        missed.rewritten |= {*effects.records, *effects.ccaches, *effects.added}
        missed.files.update(dict.fromkeys(effects.files, 0))
        missed.links |= effects.links
        missed.notes.update(effects.notes)

    def _put_ccaches(self, batch: _Batch, store: Store, effects: Effects) -> None:
        missed = self._missed.rewritten
        if effects.ccaches or missed:
            self._drop(batch, store, {*effects.ccaches, *missed})
        for owner in effects.records.keys() - missed:
            self._remove(batch, owner, effects.records[owner], effects.buried.get(owner, {}))
        for owner in effects.compacted - missed:
            self._compact(batch, owner)
        for owner in effects.buried.keys() - missed:
            self._bury(batch, owner, effects.buried[owner])
        for serial in effects.changed | effects.touched | missed:
            ccache = store.collection.by_serial(serial)
            if ccache is not None:
                self._put(batch, ccache, effects)

    def _drop(self, batch: _Batch, store: Store, serials: set[int]) -> None:
        """Ccaches that are gone, with all that they had."""
        for serial in serials:
            if store.collection.by_serial(serial) is None:
                batch.meta.append(encode(entries.DROPPED, serial))
                held = self._held.ccaches.pop(serial, None)
                self._dead += held.records.values() if held else ()

    def _remove(
        self, batch: _Batch, owner: int, serials: list[int], buried: dict[int, bytes]
    ) -> None:
        """Records that are gone altogether."""
        held = self._held.ccaches.get(owner)
        for serial in serials:
            if held and serial in held.records and serial not in buried:
                batch.meta.append(encode(entries.REMOVED, owner, serial))
                self._dead.append(held.records.pop(serial))

    def _compact(self, batch: _Batch, owner: int) -> None:
        held = self._held.ccaches.get(owner)
        if held is not None:
            batch.meta.append(encode(entries.COMPACTED, owner))
            self._dead += [held.records.pop(key) for key in held.blank]
            held.blank = set()

    def _bury(self, batch: _Batch, owner: int, buried: dict[int, bytes]) -> None:
        """Records that are marked as removed in their places."""
        held = self._held.ccaches.get(owner)
        for serial, data in buried.items():
            if held and serial in held.records:
                self._dead.append(held.records[serial])
                held.blank.add(serial)
                meta = encode(entries.BURIED, owner, serial, len(data), crc32(data))
                batch.add(meta, data, partial(held.records.__setitem__, serial))

    def _put(self, batch: _Batch, ccache: Ccache, effects: Effects) -> None:
        """What a ccache has got, or has instead of what it had."""
        serial, image = ccache.serial, ccache.image
        held = self._held.ccaches.get(serial)
        records: Iterable[_Record]
        if held is None or serial in self._missed.rewritten:
            held = self._held.ccaches[serial] = held or Logged()
            batch.meta.append(encode(entries.EMPTIED, serial))
            self._dead += held.records.values()
            held.records, held.blank, held.fixed = {}, set(), None
            records = image.records() if image else ()
        else:
            records = _added(image, effects, serial) if serial in effects.added and image else ()
        fixed = (
            ccache.name,
            ccache.rank,
            ccache.last_default_time,
            ccache.lineage,
            ccache.nominal,
            ccache.prefix,
        )
        if held.fixed != fixed:
            batch.meta.append(_row(ccache))
            held.fixed = fixed
        else:
            batch.meta.append(_touched(ccache))
        held.number = ccache.current.number if ccache.current else 0
        for data, stored in records:
            if stored is not None:
                meta, key = _record(serial, stored, data), stored.serial
                batch.add(meta, data, partial(held.records.__setitem__, key))
            else:
                meta = encode(entries.BLANK, serial, len(data), crc32(data))
                batch.add(meta, data, partial(_put_blank, held))

    def _put_file(
        self, batch: _Batch, number: int, generation: Generation | None, kept: int
    ) -> None:
        """A scratch file of whose beginning the log has `kept` bytes as they are."""
        files, held = self._held.files, self._held.files.get(number)
        if generation is None or generation.place is None:
            batch.meta.append(encode(entries.UNLINKED, number))
            batch.done.append(partial(self._forget_file, number))
            return
        where, name = generation.place
        head = generation.place, generation.used == KEPT
        now = LoggedFile(head, held.size, [*held.pieces]) if held else LoggedFile(head)
        if held is None or held.head != head:
            values = (number, where, head[1], len(name))
            batch.meta.append(encode(entries.FILE, *values, texts=(name,)))
        if kept < now.size:
            batch.meta.append(encode(entries.CLEARED, number))
            batch.done.append(partial(self._dead.extend, now.pieces))
            now.size, now.pieces = 0, []
        data = bytes(memoryview(generation.data)[now.size :])
        meta = encode(entries.APPENDED, number, generation.mtime, len(data), crc32(data))
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
        meta = encode(entries.NOTE, len(key), len(value), crc32(value), texts=(key,))
        batch.add(meta, value, partial(self._noted, key))

    def _noted(self, key: bytes, where: Place) -> None:
        old = self._held.notes.pop(key, None)
        self._dead += [old] if old is not None else ()
        if where & 0xFFFF_FFFF:
            self._held.notes[key] = where

    def _put_tails(self, batch: _Batch, store: Store) -> None:
        """What open files have left incomplete, where the log has something else."""
        tails, held = store.files.tails(), self._held.tails
        if not tails and not held:
            return
        for ident in {*tails, *held}:
            serial, data = tail = tails.get(ident, (0, b""))
            if ident not in held or held[ident][0] != tail:
                meta = encode(entries.TAIL, ident, serial, len(data), crc32(data))
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
            batch.meta.append(encode(entries.BEGUN, store.start_time, events.start))
        values = (events.sequence, events.mtime, len(lines))
        batch.meta.append(encode(entries.LINES, *values, texts=(lines,)))
        if events.edition.number != held.edition:
            batch.meta += _editions(events, held.edition)

    def _append(self, batch: _Batch, store: Store) -> None:
        """Acknowledge the step, and overwrite what it has removed."""
        ledger, collection, events = store.ledger, store.collection, store.events
        register = ledger.register
        batch.meta.append(
            encode(
                entries.WHOLE,
                ledger.change_time,
                register.last,
                collection.mtime,
                collection.unique,
                collection.chosen,
                register.announced,
            )
        )
        at = self.log.append(b"".join(batch.meta), b"".join(batch.data))
        for placed, data in zip(batch.placed, batch.data, strict=True):
            placed(place(at, len(data)))
            at += len(data)
        for done in batch.done:
            done()
        self._held.sequence, self._held.edition = events.sequence, events.edition.number
        if self._missed:
            self._missed = Effects()
        if self._dead:
            dead, self._dead = self._dead, []
            self.log.erase(dead)


def _added(image: Image, effects: Effects, serial: int) -> list[_Record]:
    """The records that came at the end of a ccache, as they are now."""
    records: list[_Record] = []
    for one in effects.added[serial]:
        if isinstance(one, bytes):
            records.append((one, None))
        elif (data := image.record(one.serial)) is not None:
            records.append((data, one))
        elif one.serial in effects.buried.get(serial, ()):
            records.append((effects.buried[serial][one.serial], None))
    return records


def _put_blank(held: Logged, where: Place) -> None:
    held.records[-where] = where
    held.blank.add(-where)


def _row(ccache: Ccache) -> bytes:
    image, name, current = ccache.image, ccache.name, ccache.current
    prefix = bytes(memoryview(image.data)[: image.body]) if image and image.prefix else b""
    return encode(
        entries.CCACHE,
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
        texts=(name, prefix),
    )


def _touched(ccache: Ccache) -> bytes:
    current = ccache.current
    number, mtime = (current.number, current.mtime) if current else (0, 0.0)
    values = (ccache.serial, number, ccache.change_time, ccache.mtime, mtime)
    return encode(entries.TOUCHED, *values)


def _record(owner: int, stored: Stored, data: bytes) -> bytes:
    name = stored.name.encode("utf-8", "surrogateescape")
    sizes = (len(name), len(data), crc32(data))
    return encode(entries.RECORD, owner, stored.serial, *sizes, texts=(name,))


def _link(store: Store, name: bytes) -> bytes:
    link = store.scratch.links.get(name)
    if link is None:
        return encode(entries.LINK, 0, 0.0, len(name), 0, texts=(name,))
    values = (link.number, link.made, len(name), len(link.target))
    return encode(entries.LINK, *values, texts=(name, link.target))


def _same_dialect(generation: Generation) -> bool:
    """Whether what its writers append fits into what the ccache is now."""
    ccache = generation.ccache
    return bool(ccache and ccache.image and ccache.image.dialect == generation.dialect)


def _older(generation: Generation) -> bytes:
    """The number of one whose ccache goes on under another number."""
    assert generation.ccache is not None
    return encode(entries.OLDER, generation.number, generation.ccache.serial)


def _editions(events: EventLog, known: int) -> list[bytes]:
    """The editions that came after the one of a number."""
    return [
        encode(entries.EDITION, e.number, e.base, events.dropped, len(e.header), texts=(e.header,))
        for e in events.editions
        if e.number > known
    ]
