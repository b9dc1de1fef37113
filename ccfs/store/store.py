# SPDX-License-Identifier: MIT
"""The store: all of a user's ccaches, and the steps that change more than one part of it."""

from collections.abc import Sequence
from contextlib import suppress

from ccfs.format.principal import Principal
from ccfs.store.ccache import Ccache
from ccfs.store.ccache_scan import count_records, is_whole
from ccfs.store.changes import Changes
from ccfs.store.collection import Collection
from ccfs.store.contents import Contents
from ccfs.store.dir_names import ccache_name
from ccfs.store.edits import Edits
from ccfs.store.effects import Effects
from ccfs.store.errors import (
    BadContentError,
    BadNameError,
    CcacheLimitError,
    NameTooLongError,
    NotFoundError,
    TotalLimitError,
)
from ccfs.store.event_log import EventLog
from ccfs.store.expiry import ExpiryQueue
from ccfs.store.generation import Generation, OpenFile
from ccfs.store.generations import Generations
from ccfs.store.ids import Ids
from ccfs.store.open_files import IncompleteRecord, OpenFiles
from ccfs.store.restore import restore_content
from ccfs.store.scratch import DIR, Link, Scratch
from ccfs.store.snapshot import Saved, SavedCcache
from ccfs.store.usage import Usage
from ccfs.store.values import DEFAULT_NAME, Client, EventKind, Limits, Stamp, ident


class Store:
    """One user's credentials.

    `collection`, `generations`, `contents`, `open_files`, `edits` and `scratch` are its parts: each
    of their public methods is one step, as are those here.
    """

    def __init__(self, limits: Limits, at: Stamp, saved: Saved | None = None) -> None:
        """Make a store with an empty default ccache, or (`saved`) with what a journal has.

        BadContentError: the bytes of a saved ccache aren't one.
        """
        self.limits = limits
        self.start_time = at.now
        self._ids = ids = Ids(at.now)
        self._usage = usage = Usage(limits)
        self._expiry = expiry = ExpiryQueue()
        self._changes = changes = Changes(limits, ids, at.now)
        ccaches: dict[int, Ccache] = {}
        self.generations = Generations(ccaches, ids, usage, changes)
        self.contents = Contents(self.generations, ids, usage, expiry, changes)
        self.open_files = OpenFiles(self.generations, self.contents, usage, changes)
        self.edits = Edits(self.contents, usage, changes)
        self.collection = Collection(ccaches, self.contents, ids, changes, limits.ccaches)
        self.scratch = Scratch(self.generations, self.collection, ids, changes, limits)
        if saved is not None:
            self._restore(saved, at.now)
        else:
            self.collection.begin(at)

    def _restore(self, saved: Saved, now: float) -> None:
        """Take what a journal has: the same numbers, names, times and bytes."""
        whole = saved.whole
        self.start_time = now if whole.start_time is None else whole.start_time
        self._ids.skip_to(whole.last)
        self._changes.change_time = whole.change_time
        self._changes.notes.update(saved.notes)
        if saved.events:
            self.events.restore(saved.events)
        self.collection.restore(
            [self._restored_ccache(ccache) for ccache in saved.ccaches],
            whole.mtime or now,
            next_number=whole.next_number,
            default_chosen=whole.default_chosen,
        )
        self._expiry.skip_announced(whole.announced_until)
        for file in saved.files:
            generation = self.generations.restore(file.number, file.mtime)
            generation.data.extend(file.data)
            generation.last_used, generation.expires = now, file.expires
            self.scratch.add(file.directory, file.name, generation)
            self._usage.recount(generation)
        for orphan in saved.orphans:
            if orphan.owner is None or self.generations.ccache(orphan.owner):
                self.generations.restore_orphan(
                    orphan.number, orphan.data, orphan.owner, orphan.lineage, now
                )
        for link in saved.links:
            self.scratch.restore_link(link.name, Link(link.number, link.target, link.made))
        self.open_files.restore_incomplete(
            {handle: IncompleteRecord(*record) for handle, record in saved.incomplete.items()}
        )

    def _restored_ccache(self, saved: SavedCcache) -> Ccache:
        ccache = Ccache(saved.serial, saved.name, saved.mtime, self.contents.new_index())
        ccache.rank, ccache.lineage, ccache.reserved = saved.rank, saved.lineage, saved.reserved
        ccache.change_time, ccache.last_default_time = saved.change_time, saved.last_default_time
        if saved.has_file:
            mtime = saved.mtime if saved.data_mtime is None else saved.data_mtime
            generation = self.generations.restore(saved.number, mtime)
            image = self.contents.new_image(bytearray(), ccache.index)
            if saved.data:
                restore_content(image, ccache.index, saved)
            self.contents.attach(ccache, generation, image, ccache.index)
            for number, lineage in saved.older:
                self.generations.restore_superseded(ccache, number, lineage)
        return ccache

    # What steps note, for the layers above and the journal

    @property
    def effects(self) -> Effects:
        """What steps have changed since the effects were last taken."""
        return self._changes.effects

    def take_effects(self) -> Effects | None:
        """Return what steps have changed since the last call; None for nothing."""
        effects = self._changes.take()
        if effects is not None and self._expiry.needs_pruning:
            ccaches = self.collection.all()
            self._expiry.prune({s.serial for c in ccaches for s in c.credentials.values()})
        return effects

    def mark_changed_outside_fuse(self) -> None:
        """Note that no operation on a file has shown what the last steps changed."""
        self.effects.changed_outside_fuse |= self.effects.changed

    @property
    def events(self) -> EventLog:
        """The event log."""
        return self._changes.events

    @property
    def notes(self) -> dict[bytes, bytes]:
        """The notes of the layer above, by key."""
        return self._changes.notes

    def set_note(self, key: bytes, value: bytes) -> None:
        """Keep a value of the layer above in the journal, in place of one of the same key.

        b"" removes it.  The journal overwrites values that are replaced or removed.
        """
        self._changes.set_note(key, value)

    def log_event(self, at: Stamp, kind: EventKind, ccache: Ccache, credential: str) -> None:
        """Add an event that changes no ccache."""
        self._changes.log(at, kind, ccache.name, credential)

    def log_refusal(self, at: Stamp, reason: str) -> None:
        """Add an event that a limit was reached, at most one a second."""
        self._changes.log_refusal(at, reason)

    def announce_expiry(self, now: float, client: Client) -> None:
        """Add events for the credentials that expire soon or have expired."""
        due = dict(self._expiry.due(now))
        if not due:
            return
        self._expiry.announced_until = now
        live = {
            stored.serial: (ccache, stored)
            for ccache in self.collection.all()
            for stored in ccache.credentials.values()
            if stored.serial in due
        }
        for serial in filter(live.__contains__, due):
            ccache, stored = live[serial]
            kind = EventKind.EXPIRED if due[serial] else EventKind.EXPIRING
            self._changes.log(Stamp(now, client), kind, ccache.name, stored.name)
            self.effects.changed_outside_fuse.add(ccache.serial)

    def next_deadline(self) -> int | None:
        """When `announce_expiry` has something to do next, in seconds since the epoch."""
        return self._expiry.next_deadline()

    @property
    def announced_until(self) -> float:
        """Until when expiry was announced, in seconds since the epoch."""
        return self._expiry.announced_until

    @property
    def change_time(self) -> int:
        """When a ccache last changed, in whole seconds since the epoch; never the same twice."""
        return self._changes.change_time

    @property
    def used_bytes(self) -> int:
        """Bytes of all ccaches, scratch files and incomplete records."""
        return self._usage.used_bytes

    @property
    def record_count(self) -> int:
        """How many records there are, placeholders of removed ones included."""
        return self._usage.records

    @property
    def last_serial(self) -> int:
        """The highest serial number that was given."""
        return self._ids.last

    def new_serial(self) -> int:
        """Return a serial number that was never given before."""
        return self._ids.new()

    # Steps on ccaches

    def reset(self, ccache: Ccache, principal: Principal, at: Stamp) -> None:
        """Initialise a ccache without credentials, in place of its content."""
        self.contents.initialise(ccache, self.edits.empty_ccache(principal), at)

    def reset_named(self, name: bytes, principal: Principal, at: Stamp) -> Ccache:
        """Make or reset the ccache of a name: the CCAPI's create, KCM's INITIALIZE."""
        data = self.edits.empty_ccache(principal)
        ccache = self._get_or_create(name, at)
        self.contents.initialise(ccache, data, at)
        return ccache

    def put(self, name: bytes, data: bytes | bytearray, at: Stamp) -> Ccache:
        """Make the bytes of a whole ccache the content of the one of a name, made if need be.

        BadContentError, BadNameError, NameTooLongError, CcacheLimitError, TotalLimitError: nothing
        changed.
        """
        self._check_put(data)
        ccache = self.collection.find(name) or self.collection.create(name, at)
        return self._overwrite(ccache, data, at)

    def replace_named(
        self,
        name: bytes,
        principal: Principal,
        offset: int | None,
        records: Sequence[bytes],
        at: Stamp,
    ) -> Ccache:
        """Make or replace the ccache of a name with all of its content: KCM's REPLACE.

        `offset`: seconds by which the KDC's clock is ahead of the host's, None for unknown.
        `records`: marshalled credentials (FILE version 4).  Raises as `put` does.
        """
        data = b"".join([self.edits.empty_ccache(principal, offset), *records])
        self._check_put(data)
        return self._overwrite(self._get_or_create(name, at), data, at)

    def destroy_or_reserve(self, ccache: Ccache, at: Stamp) -> None:
        """KCM's DESTROY.  Of the default the name is reserved, as long as it is the default."""
        if ccache is self.collection.default:
            self.uninitialise(ccache, at)
            ccache.reserved = True
        else:
            self.destroy(ccache, at)

    def set_default_name(self, name: bytes, at: Stamp) -> None:
        """KCM's SET_DEFAULT: make the ccache of a name the default, made if need be."""
        old, new = self.collection.default, self.collection.find(name)
        if new is None:
            new = self.collection.create(name, at)
            new.reserved = True
        self.collection.set_default(new, at)
        if old is not new and old.reserved:
            self._drop_reservation(old, at)

    def _overwrite(self, ccache: Ccache, data: bytes | bytearray, at: Stamp) -> Ccache:
        self.contents.overwrite(ccache, data, at)
        self.effects.changed_outside_fuse.add(ccache.serial)
        return ccache

    def _get_or_create(self, name: bytes, at: Stamp) -> Ccache:
        """The ccache of a name that a client without paths (CCAPI, KCM) is about to initialise.

        It becomes the default where none is initialised yet and no client has chosen one, as the
        CCAPI's header says.
        """
        collection = self.collection
        ccache = collection.find(name) or collection.create(name, at)
        default = collection.default
        others = collection.default_chosen or any(c.initialised for c in collection.all())
        if others or ccache is default:
            return ccache
        collection.move_to_front(ccache, at)
        if default.reserved or default.name == DEFAULT_NAME:
            self._drop_reservation(default, at)
        return ccache

    def _drop_reservation(self, ccache: Ccache, at: Stamp) -> None:
        """Destroy a reserved ccache, unless a client has put a file there."""
        ccache.reserved = False
        self.effects.metadata.add(ccache.serial)
        if ccache.current is None and not self.scratch.names(ccache.serial):
            self.destroy(ccache, at)

    def move_outside_fuse(self, source: Ccache, name: bytes, at: Stamp) -> None:
        """Move a ccache to a name by a copy: KCM's MOVE.

        The kernel goes on with the dentries that it has.  So the ccache of the new name gets a copy
        of the content under a new number, and the old one is destroyed with all its numbers.
        """
        target = self.collection.find(name)
        if target is source:
            return
        image = source.image
        if image is None or image.prefix is None:
            raise NotFoundError("nothing to move")
        data = bytes(memoryview(image.data)[: image.records_end])
        if target is None:
            target = self.collection.create(name, at)
            if source is self.collection.default:
                self.collection.set_default(target, at)
        target.change_time = max(target.change_time, source.change_time)
        self.contents.overwrite(target, data, at, EventKind.MOVED)
        self.destroy(source, at)

    def unused_name(self) -> bytes:
        """A name in the form of DIR: ccaches that no ccache has; never returned twice."""
        name = b""
        while not name or self.collection.find(name):
            name = b"tkt" + ident(self._ids.new()).encode("ascii")
        return name

    def uninitialise(self, ccache: Ccache, at: Stamp) -> None:
        """Unlink the file `ccache`; the ccache stays, uninitialised."""
        if ccache.current is None:
            raise NotFoundError("no ccache file")
        self.contents.detach(ccache, at)

    def unlink_listed(self, ccache: Ccache, at: Stamp) -> None:
        """Unlink a ccache's name in `dir/`: all but the default are destroyed."""
        if ccache is self.collection.default:
            self.uninitialise(ccache, at)
        else:
            self.destroy(ccache, at)

    def destroy(self, ccache: Ccache, at: Stamp) -> None:
        """Remove a ccache, and the scratch files in its directory, with an event each."""
        self.scratch.unlink_all(ccache.serial, at)
        self.collection.destroy(ccache, at)

    def move(self, source: Ccache, target: Ccache, at: Stamp) -> None:
        """Move the content of `source` to `target`; `source` and its scratch files are removed."""
        if source is not target and source.current is not None:
            self.scratch.unlink_all(source.serial, at)
        self.collection.move(source, target, at)

    def move_file(self, source: Ccache, target: Ccache, at: Stamp) -> None:
        """Rename a file `ccache` over another.

        `source` is removed, or stays uninitialised where scratch files are in its directory.
        """
        if self.scratch.names(source.serial):
            self.collection.move_content(source, target, at)
        else:
            self.collection.move(source, target, at)

    def move_to_name(self, source: Ccache, name: bytes, at: Stamp) -> None:
        """Rename a ccache, or move it over the one that has the name."""
        target = self.collection.find(name)
        if target is None:
            self.collection.rename(source, name, at)
        elif source.current is None and source is not target:
            if target.current:
                self.uninitialise(target, at)
            self.destroy(source, at)
        else:
            self.move(source, target, at)

    # Steps between scratch files and ccaches

    def replace(self, source: tuple[int | None, bytes], ccache: Ccache, at: Stamp) -> None:
        """Rename a scratch file over the file of a ccache.

        BadContentError where its bytes are no ccache: nothing changed.
        """
        generation = self.scratch.get(*source)
        self._check(generation.data)
        self.contents.adopt(ccache, generation, at, EventKind.REPLACED)
        self.scratch.pop(*source)
        self._changes.scratch_file(generation.number, 0)
        self.collection.note_entry_changed(source[0], at)

    def replace_named_by_scratch(
        self, source: tuple[int | None, bytes], name: bytes, at: Stamp
    ) -> None:
        """Rename a scratch file over the file of the ccache of a name, made if need be."""
        generation = self.scratch.get(*source)
        self._check(generation.data)
        ccache = self.collection.find(name) or self.collection.create(name, at)
        self.replace(source, ccache, at)

    def rename_to_scratch(
        self, ccache: Ccache, target: tuple[int | None, bytes], at: Stamp
    ) -> None:
        """Rename the file of a ccache to a scratch file; the ccache stays, uninitialised."""
        if ccache.current is None:
            raise NotFoundError("no ccache file")
        if self.scratch.find(*target):
            self.scratch.unlink(*target)
        self.scratch.check_room()
        generation = self.contents.detach_as_scratch(ccache, at)
        self.scratch.add(*target, generation)
        self._changes.scratch_file(generation.number, 0)
        self.collection.note_entry_changed(target[0], at)

    def close(self, file: OpenFile, now: float) -> None:
        """Close an open file; a scratch file in `dir/` becomes a ccache if it is a whole one.

        libkrb5 makes a new ccache of DIR: as such a file (`fcc_initialize`).
        """
        generation = file.generation
        self.open_files.close(file, now)
        if file.writes and generation.scratch_name and not generation.writer_count:
            self._make_ccache_of_scratch(generation, Stamp(now, file.client))

    def _make_ccache_of_scratch(self, generation: Generation, at: Stamp) -> None:
        scratch = generation.scratch_name
        if scratch is None or scratch.directory is not DIR:
            return
        name = ccache_name(scratch.name)
        if name is None or not is_whole(generation.data, self.limits.ccache_bytes):
            return
        with suppress(CcacheLimitError, TotalLimitError, BadNameError, NameTooLongError):
            self.replace_named_by_scratch(scratch, name, at)

    def _check_put(self, data: bytes | bytearray) -> None:
        """Refuse what is no whole ccache, or too large."""
        self._usage.check(0, len(data))
        self._check(data)

    def _check(self, data: bytes | bytearray) -> None:
        """Refuse what is no whole ccache, or has too many records."""
        records = count_records(data, self.limits.ccache_bytes)
        if records is None:
            raise BadContentError("no ccache")
        self._usage.check_records(records)
