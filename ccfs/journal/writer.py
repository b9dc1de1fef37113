"""Steps of the store as frames of a log.

What a step removes is overwritten in the log in the same step.  Knows the store, and what the log
has of it; never where the log is kept, nor how it is read back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING
from zlib import crc32

from ccfs.journal import entries
from ccfs.journal.entries import encode
from ccfs.journal.log import Place, place
from ccfs.journal.replay import File, Logged
from ccfs.store.ledger import Effects

if TYPE_CHECKING:
    from ccfs.journal.log import Log
    from ccfs.store.ccache import Ccache
    from ccfs.store.store import Store
    from ccfs.store.values import Stored


@dataclass(slots=True)
class _Batch:
    """A frame that is being put together.  `notes`: what is told where its data is in the log."""

    meta: list[bytes] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    notes: list[Callable[[Place], object]] = field(default_factory=list)

    def add(self, data: bytes, note: Callable[[Place], object]) -> None:
        """Add the data of an entry."""
        self.data.append(data)
        self.notes.append(note)


class Writer:
    """A log, and where it has what of the store.

    What a step that failed has changed is written anew with the next one: `_missed` has the serials
    of its ccaches, `_missed_files` its scratch files, `_dead` what is to be overwritten then.
    """

    def __init__(self, log: Log, ccaches: dict[int, Logged], files: dict[File, Place]) -> None:
        """`ccaches` and `files`: what the log has already."""
        self.log = log
        self._ccaches = ccaches
        self._files = files
        self._dead: list[Place] = []
        self._missed: set[int] = set()
        self._missed_files: set[File] = set()

    def knows(self, ccache: Ccache) -> bool:
        """Whether the log has a ccache."""
        return ccache.serial in self._ccaches

    def write_all(self, store: Store) -> None:
        """Have all of a store in an empty log, as one step.  Raises OSError."""
        changed = {ccache.serial for ccache in store.collection.all()}
        self.commit(store, Effects(changed=changed, files={key for key, _ in store.scratch.kept()}))

    def commit(self, store: Store, effects: Effects) -> None:
        """Have one step in the log, and all that could not be before.

        OSError where there is no room, and whatever else may go wrong: the step is missed.
        """
        batch = _Batch()
        self._missed |= effects.rewritten
        try:
            if effects.ccaches or effects.records or self._missed:
                self._remove(batch, store, effects)
            for serial in effects.changed | self._missed:
                ccache = store.collection.by_serial(serial)
                if ccache is not None:
                    self._put(batch, ccache, effects.added.get(serial, ()))
            for file in effects.files | self._missed_files:
                self._put_file(batch, store, file)
            self._append(batch, store)
        except BaseException:
            self._missed |= {*effects.changed, *effects.records, *effects.ccaches}
            self._missed_files |= effects.files
            raise

    def _remove(self, batch: _Batch, store: Store, effects: Effects) -> None:
        """Ccaches that are gone with all that they had, and single records."""
        for serial in {*effects.ccaches, *self._missed}:
            if store.collection.by_serial(serial) is None:
                batch.meta.append(encode(entries.DROPPED, serial))
                kept = self._ccaches.pop(serial, None)
                self._dead += kept.records.values() if kept else ()
        for owner in effects.records.keys() & self._ccaches.keys() - self._missed:
            records = self._ccaches[owner].records
            for serial in effects.records[owner]:
                if serial in records:
                    batch.meta.append(encode(entries.REMOVED, owner, serial))
                    self._dead.append(records.pop(serial))

    def _put(self, batch: _Batch, ccache: Ccache, added: Sequence[Stored]) -> None:
        """What a ccache has got, or has instead of what it had."""
        serial, image = ccache.serial, ccache.image
        kept = self._ccaches.get(serial)
        if kept is None or serial in self._missed:
            kept = self._ccaches[serial] = kept or Logged()
            batch.meta.append(encode(entries.EMPTIED, serial))
            self._dead += kept.records.values()
            kept.records, kept.fixed = {}, None
            added = image.stored() if image and image.prefix else ()
        fixed = ccache.name, ccache.rank, ccache.last_default_time, ccache.prefix
        if kept.fixed != fixed:
            batch.meta.append(_row(ccache))
            kept.fixed = fixed
        else:
            batch.meta.append(encode(entries.TOUCHED, serial, ccache.change_time, ccache.mtime))
        for stored in added:
            data = image.record(stored.serial) if image else None
            if data is not None:
                batch.meta.append(_record(serial, stored, data))
                batch.add(data, partial(kept.records.__setitem__, stored.serial))

    def _put_file(self, batch: _Batch, store: Store, file: File) -> None:
        """A scratch file as it is; it is gone where it is no whole ccache any more."""
        if file in self._files:
            self._dead.append(self._files.pop(file))
        generation, (owner, name) = store.scratch.find(*file), file
        if generation is None or not generation.kept:
            batch.meta.append(encode(entries.UNLINKED, owner, len(name), texts=(name,)))
            return
        data = bytes(generation.data)
        sizes = (len(name), len(data), crc32(data))
        batch.meta.append(encode(entries.FILE, owner, generation.mtime, *sizes, texts=(name,)))
        batch.add(data, partial(self._files.__setitem__, file))

    def _append(self, batch: _Batch, store: Store) -> None:
        """Acknowledge the step, and overwrite what it has removed."""
        ledger = store.ledger
        whole = encode(entries.WHOLE, ledger.change_time, ledger.register.last)
        at = self.log.append(b"".join((*batch.meta, whole)), b"".join(batch.data))
        for note, data in zip(batch.notes, batch.data, strict=True):
            note(place(at, len(data)))
            at += len(data)
        self._missed, self._missed_files = set(), set()
        dead, self._dead = self._dead, []
        self.log.erase(dead)


def _row(ccache: Ccache) -> bytes:
    image, name = ccache.image, ccache.name
    prefix = bytes(memoryview(image.data)[: image.body]) if image and image.prefix else b""
    times = (ccache.change_time, ccache.last_default_time, ccache.mtime)
    values = (ccache.serial, ccache.rank, *times, len(name), len(prefix))
    return encode(entries.CCACHE, *values, texts=(name, prefix))


def _record(owner: int, stored: Stored, data: bytes) -> bytes:
    name = stored.name.encode("utf-8", "surrogateescape")
    sizes = (len(name), len(data), crc32(data))
    return encode(entries.RECORD, owner, stored.serial, *sizes, texts=(name,))
