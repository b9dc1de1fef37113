# SPDX-License-Identifier: MIT
"""The content of ccaches: how it begins and ends, and when it goes on under a new number.

Knows when bytes that the kernel may have cached stop being true: only a write that came through a
generation's own number leaves that number as it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from ccfs.store.ccache import Ccache
from ccfs.store.changes import Changes
from ccfs.store.credential_index import CredentialIndex
from ccfs.store.effects import Listing
from ccfs.store.errors import NotFoundError
from ccfs.store.expiry import ExpiryQueue
from ccfs.store.generation import Generation, OpenFile, ReaderCopy
from ccfs.store.generations import Generations
from ccfs.store.ids import Ids
from ccfs.store.image import Image, RecordChanges
from ccfs.store.usage import Usage
from ccfs.store.values import EventKind, Stamp, Stored


class Contents:
    """Gives ccaches their current generations."""

    def __init__(
        self,
        generations: Generations,
        ids: Ids,
        usage: Usage,
        expiry: ExpiryQueue,
        changes: Changes,
    ) -> None:
        self._generations = generations
        self._ids = ids
        self._usage = usage
        self._expiry = expiry
        self._changes = changes

    def new_index(self) -> CredentialIndex:
        """Make an index for the records of new content."""
        return CredentialIndex(self._ids, self._usage, self._expiry)

    def new_image(self, data: bytearray, index: CredentialIndex) -> Image:
        """Make an image over `data`.  BadContentError where it is no beginning of a ccache."""
        return Image(self._usage.limits.ccache_bytes, index, data)

    def attach(
        self, ccache: Ccache, generation: Generation, image: Image, index: CredentialIndex
    ) -> None:
        """Make an image the content of a ccache under the number of `generation`."""
        generation.attach(ccache.serial, ccache.lineage, image)
        ccache.current, ccache.index = generation, index
        self._usage.recount(generation)

    def start(self, ccache: Ccache, at: Stamp) -> Generation:
        """Make the empty file `ccache` where there is none."""
        generation, index = self._generations.new_scratch(at.now), self.new_index()
        self.attach(ccache, generation, self.new_image(bytearray(), index), index)
        self._file_changed(ccache, at)
        return generation

    def adopt(self, ccache: Ccache, generation: Generation, at: Stamp, kind: EventKind) -> None:
        """Make plain bytes the content of a ccache in one step, under their own number.

        BadContentError where they are no beginning of a ccache: nothing changed.
        """
        index = self.new_index()
        image = self.new_image(generation.data, index)
        removed = ccache.index.all()
        self._replace_current(ccache, at.now)
        self.attach(ccache, generation, image, index)
        self._changes.effects.rewritten.add(ccache.serial)
        self._changes.removed_with_content(ccache, removed)
        self._file_changed(ccache, at)
        self._changes.changed(at, kind, ccache)

    def overwrite(
        self,
        ccache: Ccache,
        data: bytes | bytearray,
        at: Stamp,
        kind: EventKind = EventKind.REPLACED,
    ) -> None:
        """Make the bytes of a whole ccache the content of one, in place of what it has."""
        generation = self._generations.new_scratch(at.now)
        generation.data.extend(data)
        self.adopt(ccache, generation, at, kind)

    def initialise(self, ccache: Ccache, data: bytes, at: Stamp) -> None:
        """Make a header and a principal the content of a ccache, in place of what it has."""
        self.overwrite(ccache, data, at, EventKind.INITIALISED)

    def transfer(self, source: Ccache, target: Ccache, at: Stamp) -> None:
        """Make the content of `source` that of `target`, under its own number.

        Files that are open by any number of `source` go on with it.  NotFoundError: `source` has
        no content.
        """
        current, image = source.current, source.image
        if current is None or image is None:
            raise NotFoundError("nothing to move")
        rewritten = self._generations.rewritten(source)
        self._replace_current(target, at.now)
        removed, index = target.index.all(), source.index
        source.current, source.index = None, self.new_index()
        self.attach(target, current, image, index)
        source.lineage += 1
        self._changes.effects.metadata.add(source.serial)
        for generation in rewritten:
            generation.owner, generation.lineage = target.serial, target.lineage
        self._changes.removed_with_content(target, removed)
        self._changes.effects.rewritten.add(target.serial)
        self._file_changed(target, at)
        self._changes.changed(at, EventKind.MOVED, target)

    def detach(self, ccache: Ccache, at: Stamp) -> None:
        """Take the file `ccache` away; open files go on with plain bytes."""
        initialised = ccache.initialised
        self._replace_current(ccache, at.now)
        self._uninitialised(ccache, at, initialised)

    def detach_as_scratch(self, ccache: Ccache, at: Stamp) -> Generation:
        """Take the file `ccache` away to be a scratch file, under its own number."""
        initialised = ccache.initialised
        generation = self._detach(ccache, at.now)
        if generation is None:
            raise NotFoundError("no ccache file")
        generation.become_scratch(at.now)
        self._uninitialised(ccache, at, initialised)
        return generation

    def _uninitialised(self, ccache: Ccache, at: Stamp, initialised: bool) -> None:
        """Note that a ccache has no file any more.  `initialised`: whether it was."""
        removed, ccache.index = ccache.index.all(), self.new_index()
        self._changes.removed_with_content(ccache, removed)
        self._file_changed(ccache, at)
        if initialised:
            self._changes.effects.rewritten.add(ccache.serial)
            self._changes.changed(at, EventKind.UNINITIALISED, ccache)

    # Incomplete records

    def set_incomplete_aside(self, ccache: Ccache) -> None:
        """Move the incomplete record at the end to the open file that writes it.

        Other records can be appended then.
        """
        current = ccache.current
        if current and current.image and current.incomplete_file:
            file, current.incomplete_file = current.incomplete_file, None
            self.hold_incomplete(file, current.image.cut_incomplete())
            self._usage.recount(current)

    def hold_incomplete(self, file: OpenFile, data: bytes) -> None:
        """Keep the beginning of a record with the open file that writes it."""
        file.incomplete = data
        self._usage.used_bytes += len(data)

    def take_incomplete(self, file: OpenFile) -> bytes:
        """Take the beginning of a record away from an open file."""
        data, file.incomplete = file.incomplete, b""
        self._usage.used_bytes -= len(data)
        return data

    # Changes of the current content

    @contextmanager
    def new_number(self, ccache: Ccache, now: float) -> Iterator[None]:
        """Context of a change that the kernel's cache of the current number would not show.

        Afterwards the ccache goes on under a new number, and open files read the bytes from before
        by the old one.  Where the change raises, the number stays.
        """
        old = ccache.current
        copy = old.reader_copy() if old else None
        yield
        self._changes.effects.changed_outside_fuse.add(ccache.serial)
        if old is not None and old is ccache.current:
            self._renumber(ccache, old, copy, now)

    def renew(self, ccache: Ccache, now: float) -> None:
        """Give the content of a ccache a new number."""
        with self.new_number(ccache, now):
            pass

    def _renumber(
        self, ccache: Ccache, old: Generation, copy: ReaderCopy | None, now: float
    ) -> None:
        image, incomplete_file = old.image, old.incomplete_file
        assert image is not None
        new = self._generations.restore(None, old.mtime)
        old.supersede(copy, now)
        new.attach(ccache.serial, ccache.lineage, image)
        new.incomplete_file = incomplete_file
        ccache.current = new
        self._changes.effects.metadata.add(ccache.serial)
        self._usage.recount(old)
        self._usage.recount(new)
        self._generations.supersede(old)

    def apply(
        self, ccache: Ccache, change: RecordChanges, at: Stamp, *, was_initialised: bool
    ) -> None:
        """Note what a change of the bytes did to the records: events and effects."""
        changes = self._changes
        effects, serial = changes.effects, ccache.serial
        effects.metadata.add(serial)
        if ccache.current:
            ccache.current.mtime = at.now
            self._usage.recount(ccache.current)
        if change.removed:
            changes.removed(at, ccache, change.removed)
        if was_initialised != ccache.initialised:
            kind = EventKind.UNINITIALISED if was_initialised else EventKind.INITIALISED
            changes.changed(at, kind, ccache)
        elif change.prefix:
            changes.changed(at, EventKind.PRINCIPAL, ccache)
        for stored in change.added:
            changes.changed(at, EventKind.STORED, ccache, stored.name)
        if change.rescanned:
            effects.rewritten.add(serial)
        if change.appended:
            effects.appended.setdefault(serial, []).extend(change.appended)
        if change.placeholders:
            effects.placeholders.setdefault(serial, {}).update(change.placeholders)

    def compact(self, ccache: Ccache, image: Image) -> None:
        """Leave the placeholders of removed records out."""
        image.compact()
        effects, serial = self._changes.effects, ccache.serial
        effects.compacted.add(serial)
        effects.placeholders.pop(serial, None)
        if serial in effects.appended:
            appended = effects.appended[serial]
            effects.appended[serial] = [s for s in appended if isinstance(s, Stored)]

    def closed(self, generation: Generation, now: float) -> None:
        """Tidy up after the last open file of a generation was closed."""
        ccache = self._generations.owner(generation)
        if ccache and (generation.current or self._generations.is_rewritten(generation)):
            self._compact_if_mostly_removed(ccache, now)
        if not generation.current:
            self._generations.release(generation)

    def _compact_if_mostly_removed(self, ccache: Ccache, now: float) -> None:
        """Leave placeholders out where they are too many and no client has the file open."""
        current, image = ccache.current, ccache.image
        if not current or not image or current.open_count:
            return
        if image.removed_bytes and image.mostly_removed:
            self.compact(ccache, image)
            self._renumber(ccache, current, None, now)

    # The end of content

    def _detach(self, ccache: Ccache, now: float) -> Generation | None:
        generation = ccache.current
        if generation is not None:
            ccache.current = None
            ccache.lineage += 1
            generation.detach(now)
            self._changes.effects.metadata.add(ccache.serial)
            self._usage.recount(generation)
        return generation

    def _replace_current(self, ccache: Ccache, now: float) -> None:
        generation = self._detach(ccache, now)
        if generation is None:
            return
        if not generation.open_count:
            self._generations.wipe(generation)
        self._generations.supersede(generation)

    def _file_changed(self, ccache: Ccache, at: Stamp) -> None:
        """Note that the file `ccache` came, went or is another."""
        ccache.mtime = at.now
        self._changes.effects.metadata.add(ccache.serial)
        self._changes.effects.listings |= {ccache.serial, Listing.DIR}
