"""The store: all of a user's ccaches, and the steps that change more than one part of it."""

from collections.abc import Sequence
from contextlib import suppress

from ccfs.format.names import encode_name
from ccfs.format.principal import Principal
from ccfs.store.ccache import Ccache
from ccfs.store.changes import NO_CCACHE, Ledger
from ccfs.store.collection import Collection
from ccfs.store.dir_names import ccache_name
from ccfs.store.edits import Edits
from ccfs.store.effects import Effects, Listing
from ccfs.store.errors import (
    BadContentError,
    BadNameError,
    CcacheLimitError,
    ExistsError,
    NameTooLongError,
    NotFoundError,
    TotalLimitError,
)
from ccfs.store.event_log import EventLog
from ccfs.store.generation import Generation
from ccfs.store.generations import Generations
from ccfs.store.image import count_records, whole
from ccfs.store.open_files import OpenFile, OpenFiles
from ccfs.store.restore import restore
from ccfs.store.scratch import COLLECTION, KEPT, Link, Scratch
from ccfs.store.snapshot import Saved
from ccfs.store.values import DEFAULT_NAME, Client, EventKind, Limits, Stamp, ident

SERVER = Client(0, 0, "ccfs")
"""Asks for steps that no client has asked for."""
MAX_LINKS = 64
"""How many scratch links there may be."""


class Store:
    """One user's credentials.

    `collection`, `generations`, `open_files`, `edits` and `scratch` are its parts; each of their
    public methods is one step, as are those here.
    """

    def __init__(self, limits: Limits, at: Stamp, saved: Saved | None = None) -> None:
        """Begin empty-handed, or with what a journal has saved."""
        self.limits = limits
        self.start_time = (saved and saved.whole.start_time) or at.now
        self.ledger = Ledger(limits, at.now)
        self.generations = Generations(self.ledger)
        self.scratch = Scratch()
        self.open_files = OpenFiles(self.ledger, self.generations)
        self.edits = Edits(self.ledger, self.generations)
        restored = restore(saved, self, at.now) if saved else None
        self.collection = Collection(self.ledger, self.generations, at, restored)

    @property
    def events(self) -> EventLog:
        """The log of changes."""
        return self.ledger.events

    @property
    def effects(self) -> Effects:
        """What steps have changed since the effects were last taken."""
        return self.ledger.effects

    @property
    def change_time(self) -> int:
        """When a ccache last changed, in whole seconds since the epoch; it never goes back."""
        return self.ledger.change_time

    @property
    def used_bytes(self) -> int:
        """Bytes of all ccaches, scratch files and incomplete records."""
        return self.ledger.used

    @property
    def record_count(self) -> int:
        """How many records there are, placeholders of removed ones included."""
        return self.ledger.register.records

    @property
    def last_serial(self) -> int:
        """The highest serial number that was given."""
        return self.ledger.register.last

    def take_effects(self) -> Effects | None:
        """Return what steps have changed since the last call; None for nothing."""
        return self.ledger.take_effects()

    def new_serial(self) -> int:
        """Return a serial number that was never given before."""
        return self.ledger.number()

    def set_note(self, key: bytes, value: bytes) -> None:
        """Keep a value of the layer above across a restart; b"" removes it."""
        self.ledger.note_down(key, value)

    def mark_changed_outside_fuse(self) -> None:
        """Note that no operation on a file has shown what the last steps changed."""
        self.ledger.from_behind()

    def log_event(self, at: Stamp, what: EventKind, ccache: Ccache, credential: str) -> None:
        """Add an event that is no change of a ccache."""
        self.ledger.note(at, what, ccache, credential)

    def log_refusal(self, at: Stamp, reason: str) -> None:
        """Add an event that a limit was reached, at most one a second."""
        self.ledger.refuse(at, reason)

    def announce_expiry(self, now: float, who: Client) -> None:
        """Add events for the credentials whose end is near or has come."""
        self.ledger.announce(now, who)

    @property
    def notes(self) -> dict[bytes, bytes]:
        """What the layer above has noted down (`Ledger.note_down`)."""
        return self.ledger.notes

    def owner(self, serial: int) -> Ccache | None:
        """The ccache that holds the credential of a serial number."""
        return next((c for c in self.ledger.register.ccaches.values() if c.find(serial)), None)

    def reset(self, ccache: Ccache, principal: Principal, at: Stamp) -> None:
        """Initialise a ccache, without credentials, in one step; it keeps its identity."""
        self.generations.initialise(ccache, self.edits.beginning(principal), at)

    def reset_named(self, name: bytes, principal: Principal, at: Stamp) -> Ccache:
        """Make or reset the ccache of a name: the CCAPI's create."""
        data = self.edits.beginning(principal)
        ccache = self._by_name(name, at)
        self.generations.initialise(ccache, data, at)
        return ccache

    def put(self, name: bytes, data: bytes | bytearray, at: Stamp) -> Ccache:
        """Make the bytes of a whole ccache the content of the one of a name, in one step.

        It is made where there is none, and keeps its identity where there is.  BadContentError,
        BadNameError, NameTooLongError, CcacheLimitError, TotalLimitError: nothing changed.
        """
        self._check_room(data)
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
        """Make or replace the ccache of a name with all that it is to hold: KCM's REPLACE.

        `offset`: the KDC's clock minus ours in seconds, None for unknown.  `records`: marshalled
        credentials (FILE version 4).  Raises as `put` does.
        """
        data = b"".join([self.edits.beginning(principal, offset), *records])
        self._check_room(data)
        return self._overwrite(self._by_name(name, at), data, at)

    def vacate(self, ccache: Ccache, at: Stamp) -> None:
        """KCM's DESTROY: the default is kept for its name, until it isn't the default."""
        if ccache is self.collection.default:
            self.uninitialise(ccache, at)
            ccache.nominal = True
        else:
            self.destroy(ccache, at)

    def name_default(self, name: bytes, at: Stamp) -> None:
        """KCM's SET_DEFAULT: the ccache of a name is the default, also one to come.

        One that was there for its name alone has no more reason to be.
        """
        old, new = self.collection.default, self.collection.find(name)
        if new is None:
            new = self.collection.create(name, at)
            new.nominal = True
        self.collection.set_default(new, at)
        if old is not new and old.nominal:
            self._drop_nominal(old, at)

    def _overwrite(self, ccache: Ccache, data: bytes | bytearray, at: Stamp) -> Ccache:
        """Give a ccache other content, which no operation on its file shows."""
        self.generations.overwrite(ccache, data, at)
        self.ledger.effects.changed_outside_fuse.add(ccache.serial)
        return ccache

    def _by_name(self, name: bytes, at: Stamp) -> Ccache:
        """The ccache of a name that a client without paths initialises; it is made if need be.

        Where none is initialised yet and no default was chosen it is the default (CCAPI, KCM).
        """
        collection = self.collection
        ccache = collection.find(name) or collection.create(name, at)
        placeholder = collection.default
        others = collection.chosen or any(c.initialised for c in collection.all())
        if others or ccache is placeholder:
            return ccache
        collection.lead(ccache, at)
        if placeholder.nominal or placeholder.name == DEFAULT_NAME:
            self._drop_nominal(placeholder, at)
        return ccache

    def _drop_nominal(self, ccache: Ccache, at: Stamp) -> None:
        """Destroy what was there for its name alone, unless a client has put something there."""
        ccache.nominal = False
        self.ledger.effects.metadata.add(ccache.serial)
        if ccache.current is None and not self.scratch.names(ccache.serial):
            self.destroy(ccache, at)

    def relocate(self, source: Ccache, name: bytes, at: Stamp) -> None:
        """Move a ccache to a name without the kernel's help: KCM's MOVE.

        The kernel goes on finding what it knows by the names that it knows.  So the ccache of the
        new name gets a copy of the content, and the old one goes with all its numbers.
        """
        target = self.collection.find(name)
        if target is source:
            return
        image = source.image
        if image is None or image.prefix is None:
            raise NotFoundError("nothing to move")
        data = bytes(memoryview(image.data)[: image.complete])
        if target is None:
            target = self.collection.create(name, at)
            if source is self.collection.default:
                self.collection.set_default(target, at)
        target.change_time = max(target.change_time, source.change_time)
        self.generations.overwrite(target, data, at, EventKind.MOVED)
        self.destroy(source, at)

    def unused_name(self) -> bytes:
        """A name that no ccache has, and that is told to nobody else, in the form of DIR:."""
        name = b""
        while not name or self.collection.find(name):
            name = b"tkt" + ident(self.ledger.number()).encode("ascii")
        return name

    def uninitialise(self, ccache: Ccache, at: Stamp) -> None:
        """Unlink the file `ccache`; the ccache keeps its identity."""
        if ccache.current is None:
            raise NotFoundError("no ccache file")
        self.generations.detach(ccache, at)

    def unlink_listed(self, ccache: Ccache, at: Stamp) -> None:
        """Unlink a name in `dir/`: what is not the default goes altogether."""
        if ccache is self.collection.default:
            self.uninitialise(ccache, at)
        else:
            self.destroy(ccache, at)

    def destroy(self, ccache: Ccache, at: Stamp) -> None:
        """Remove a ccache, and the scratch files in its directory, with an event each."""
        self._drop_scratch(ccache, at)
        self.collection.destroy(ccache, at)

    def move(self, source: Ccache, target: Ccache, at: Stamp) -> None:
        """The CCAPI move: `target` becomes what `source` is, `source` and its scratch go."""
        if source is not target and source.current is not None:
            self._drop_scratch(source, at)
        self.collection.move(source, target, at)

    def move_file(self, source: Ccache, target: Ccache, at: Stamp) -> None:
        """Rename a file `ccache` over another: the same, but the files beside it stay.

        The directory `source` is left to them, uninitialised.
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

    def create_scratch(self, place: int, name: bytes, at: Stamp) -> Generation:
        """Make an empty scratch file."""
        self._room_for_a_file()
        generation = self.generations.plain(at.now)
        try:
            self.scratch.add(place, name, generation)
        except ExistsError:
            self.generations.drop(generation)
            raise
        self.ledger.scratch_changed(generation.number, 0)
        self._touch(place, at)
        return generation

    def unlink_scratch(self, place: int, name: bytes) -> None:
        """Remove a scratch file; who has it open keeps it."""
        generation = self.scratch.pop(place, name)
        self.ledger.scratch_changed(generation.number, 0)
        self.generations.drop(generation)

    def rename_scratch(
        self, source: tuple[int, bytes], target: tuple[int, bytes], at: Stamp
    ) -> None:
        """Give a scratch file another name, over what scratch file has it."""
        if source == target:
            return
        generation = self.scratch.pop(*source)
        if self.scratch.find(*target):
            self.unlink_scratch(*target)
        self.scratch.add(*target, generation)
        generation.used = at.now
        self.ledger.scratch_changed(generation.number, len(generation.data))
        self._touch(source[0], at)
        self._touch(target[0], at)

    def replace(self, source: tuple[int, bytes], ccache: Ccache, at: Stamp) -> None:
        """Make a scratch file the content of a ccache, which keeps its identity.

        BadContentError where its bytes are no ccache: nothing changed.
        """
        generation = self.scratch.get(*source)
        self._check(generation.data)
        self.generations.adopt(ccache, generation, at, EventKind.REPLACED)
        self.scratch.pop(*source)
        self.ledger.scratch_changed(generation.number, 0)
        self._touch(source[0], at)

    def put_aside(self, ccache: Ccache, target: tuple[int, bytes], at: Stamp) -> None:
        """Make the file `ccache` a scratch file: the ccache is uninitialised."""
        if ccache.current is None:
            raise NotFoundError("no ccache file")
        if self.scratch.find(*target):
            self.unlink_scratch(*target)
        self._room_for_a_file()
        generation = self.generations.take(ccache, at)
        self.scratch.add(*target, generation)
        self.ledger.scratch_changed(generation.number, 0)
        self._touch(target[0], at)

    def replace_new(self, source: tuple[int, bytes], name: bytes, at: Stamp) -> None:
        """Make a scratch file a new ccache of a name, or the content of the one that has it."""
        generation = self.scratch.get(*source)
        self._check(generation.data)
        ccache = self.collection.find(name) or self.collection.create(name, at)
        self.replace(source, ccache, at)

    def close(self, file: OpenFile, now: float) -> None:
        """Close an open file; scratch in `dir/` becomes a ccache if it has the bytes of one."""
        generation = file.generation
        self.open_files.release(file, now)
        if file.writes and generation.named and not generation.writers:
            self._promote(generation, Stamp(now, file.who))

    def sync(self, file: OpenFile) -> None:
        """fsync(2).  BadContentError where the file has left an incomplete record.

        That is lost when the file is closed; all else is in the journal with each write.
        """
        current = file.generation.ccache and file.generation.ccache.current
        if file.pending or (current and current.tail_of is file):
            raise BadContentError("cut short")

    def next_deadline(self) -> int | None:
        """When there is something to do that no client asks for, in seconds since the epoch."""
        return self.ledger.register.next_deadline()

    def _promote(self, generation: Generation, at: Stamp) -> None:
        place = generation.place
        name = ccache_name(place[1]) if place and place[0] == COLLECTION else None
        if place is None or name is None or not whole(generation.data, self.limits.ccache_bytes):
            return
        with suppress(CcacheLimitError, TotalLimitError, BadNameError, NameTooLongError):
            self.replace_new(place, name, at)

    def create_link(self, name: bytes, target: bytes, at: Stamp) -> Link:
        """Make a scratch link in the root."""
        if name in self.scratch.links:
            raise ExistsError("the name is taken")
        if len(self.scratch.links) >= MAX_LINKS:
            raise CcacheLimitError(f"over {MAX_LINKS} scratch links")
        link = Link(self.ledger.number(), target, at.now)
        self.scratch.links[name] = link
        self.ledger.effects.scratch_links.add(name)
        return link

    def drop_link(self, name: bytes) -> Link:
        """Take a scratch link away.  NotFoundError: there is none."""
        link = self.scratch.links.pop(name, None)
        if link is None:
            raise NotFoundError("no such scratch link")
        self.ledger.effects.scratch_links.add(name)
        return link

    def rename_link(self, name: bytes, new: bytes) -> None:
        """Give a scratch link another name, over the link that has it.  NotFoundError."""
        link = self.drop_link(name)
        self.scratch.links[new] = link
        self.ledger.effects.scratch_links.add(new)

    def expire(self, now: float, who: Client = SERVER) -> None:
        """Remove scratch that was not used for ten minutes, with an event each.

        A file that is a whole ccache stays, which an event says, too.
        """
        for generation in self.scratch.expired(now):
            if generation.place is not None:
                self._expire_file(generation, *generation.place, Stamp(now, who))
        for name in self.scratch.expired_links(now):
            self.drop_link(name)

    def _expire_file(self, generation: Generation, place: int, name: bytes, at: Stamp) -> None:
        kept = whole(generation.data, self.limits.ccache_bytes)
        if kept:
            generation.used = KEPT
            self.ledger.scratch_changed(generation.number, len(generation.data))
        else:
            self.unlink_scratch(place, name)
        self._note_file(at, EventKind.KEPT if kept else EventKind.DROPPED, place, name)

    def _drop_scratch(self, ccache: Ccache, at: Stamp) -> None:
        for name, _ in self.scratch.names(ccache.serial):
            self.unlink_scratch(ccache.serial, name)
            self._note_file(at, EventKind.DROPPED, ccache.serial, name)

    def _note_file(self, at: Stamp, what: EventKind, place: int, name: bytes) -> None:
        """An event of a scratch file: its name stands where a credential's does."""
        ccache = self.collection.by_serial(place)
        self.events.append(at, what, ccache.name if ccache else NO_CCACHE, encode_name(name))
        self.ledger.effects.logged = True

    def _check_room(self, data: bytes | bytearray) -> None:
        """Refuse what there is no room for, or what is no whole ccache."""
        self.ledger.room(0, len(data))
        self._check(data)

    def _check(self, data: bytes | bytearray) -> None:
        """Refuse what is no whole ccache, or has more records than there is room for."""
        records = count_records(data, self.limits.ccache_bytes)
        if records is None:
            raise BadContentError("no ccache")
        self.ledger.room(0, 0, records)

    def _room_for_a_file(self) -> None:
        if self.scratch.count >= self.limits.ccaches:
            raise CcacheLimitError(f"over {self.limits.ccaches} scratch files")

    def _touch(self, place: int, at: Stamp) -> None:
        ccache = self.collection.by_serial(place)
        if ccache is not None:
            ccache.mtime = at.now
            self.ledger.effects.metadata.add(place)
        else:
            self.collection.mtime = at.now
        self.ledger.effects.listings.add(place or Listing.DIR)
