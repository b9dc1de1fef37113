# SPDX-License-Identifier: MIT
"""Open files: reading and writing the bytes of a generation.

Knows what a write at an offset means for a ccache; never names or directories.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from ccfs.format.ccache import scan_prefix
from ccfs.format.dialect import Dialect
from ccfs.format.errors import FormatError
from ccfs.format.outline import removed_at
from ccfs.store.ccache import Ccache
from ccfs.store.changes import Changes
from ccfs.store.contents import Contents
from ccfs.store.errors import BadContentError, GoneError, StoreError
from ccfs.store.generation import Generation, OpenFile
from ccfs.store.generations import Generations
from ccfs.store.image import Image
from ccfs.store.usage import Usage
from ccfs.store.values import Client, EventKind, Stamp


class IncompleteRecord(NamedTuple):
    """What an open file has written of a record: the serial of its ccache, the bytes so far."""

    ccache: int
    data: bytes


class OpenFiles:
    """Opens, reads, writes and closes files.

    A client may write a record in several writes.  While it is incomplete it is at the end of the
    ccache, where the client reads it back; when another record has to go there, it waits with its
    open file (`OpenFile.incomplete`).
    """

    def __init__(
        self, generations: Generations, contents: Contents, usage: Usage, changes: Changes
    ) -> None:
        self._generations = generations
        self._contents = contents
        self._usage = usage
        self._changes = changes
        self._writing: dict[int, OpenFile] = {}  # by handle, those that may have one incomplete
        self._restored: dict[int, IncompleteRecord] = {}  # by handle, from the journal

    def open(
        self,
        generation: Generation,
        client: Client,
        *,
        writes: bool,
        append: bool,
        opened_by: Generation | None = None,
        handle: int | None = None,
    ) -> OpenFile:
        """Open a generation; `opened_by`: the superseded one by whose number it was opened."""
        generation.open_count += 1
        generation.writer_count += writes
        file = OpenFile(
            generation, opened_by, writes=writes, append=append, client=client, handle=handle
        )
        if opened_by:
            opened_by.opened_later.append(file)
        return file

    def reopen(
        self,
        number: int,
        handle: int,
        client: Client,
        *,
        writes: bool,
        append: bool,
        by_other_number: bool = False,
    ) -> OpenFile:
        """Open again a file of an earlier daemon, with the record that it left incomplete.

        `number`: that of its generation; `by_other_number`: whether its client opened another
        number, which is not known any more.  GoneError: the generation isn't known.
        """
        generation = self._generations.get(number)
        known = generation.superseded_at is None or generation.presumed_open
        if not known and not self._generations.is_rewritten(generation):
            raise GoneError("a superseded number")
        file = self.open(generation, client, writes=writes, append=append, handle=handle)
        if by_other_number:
            file.number = None
        restored = self._restored.pop(handle, None)
        if restored and restored.ccache == generation.owner:
            file.incomplete = restored.data
            self._writing[handle] = file
        elif restored:
            self._usage.used_bytes -= len(restored.data)
        return file

    def restore_incomplete(self, records: dict[int, IncompleteRecord]) -> None:
        """Restore records that files, by handle, had left incomplete; `reopen` takes them."""
        self._restored = records
        self._usage.used_bytes += sum(len(record.data) for record in records.values())

    def drop_restored(self, at: Stamp) -> None:
        """Drop the incomplete records of files that were not opened again, with an event each."""
        for record in self._restored.values():
            self._usage.used_bytes -= len(record.data)
            ccache = self._generations.ccache(record.ccache)
            if ccache is not None:
                self._changes.log(at, EventKind.DROPPED, ccache.name)
        self._restored = {}

    def incomplete_records(self) -> dict[int, IncompleteRecord]:
        """The incomplete records of all files that have a handle, by that."""
        if not self._writing:
            return self._restored
        records = {}
        for handle, file in list(self._writing.items()):
            record = self._incomplete_record(file)
            if record is not None:
                records[handle] = record
            else:
                del self._writing[handle]
        return {**self._restored, **records}

    def _incomplete_record(self, file: OpenFile) -> IncompleteRecord | None:
        """What a file has left incomplete, where it is to become part of a ccache."""
        generation = file.generation
        ccache = self._generations.owner(generation)
        if ccache is None:
            return None
        if not generation.current and not self._generations.is_rewritten(generation):
            return None
        current, data = ccache.current, file.incomplete
        if not data and current is not None and current.incomplete_file is file:
            image = _image(ccache)
            data = bytes(image.data[image.records_end :])
        return IncompleteRecord(ccache.serial, data) if data else None

    def _remember_writing(self, *files: OpenFile | None) -> None:
        """Note files that may have left a record incomplete, for a take-over."""
        for file in files:
            if file is not None and file.handle is not None:
                self._writing[file.handle] = file

    def read(self, file: OpenFile, offset: int, size: int) -> bytes:
        """At most `size` bytes at `offset`.  GoneError: lost with an earlier daemon."""
        if file.generation.bytes_lost:
            raise GoneError("bytes that were lost with an earlier daemon")
        return bytes(memoryview(file.generation.data)[offset : offset + size])

    def write(self, file: OpenFile, offset: int, data: bytes, now: float) -> int:
        """Write at `offset`, or at the end for O_APPEND; returns the number of bytes: all.

        Raises BadContentError, GoneError, CcacheLimitError, TotalLimitError: nothing changed.
        """
        generation, at = file.generation, Stamp(now, file.client)
        if file.shredding:
            return len(data)
        ccache = self._generations.owner(generation)
        if ccache is not None and generation.current:
            self._write_current(file, ccache, offset, data, at)
        elif ccache is not None and self._generations.is_rewritten(generation):
            self._write_rewritten(file, ccache, offset, data, at)
        else:
            self._write_plain(file, offset, data, now)
        self._extend_superseded(file, offset, data)
        return len(data)

    def _extend_superseded(self, file: OpenFile, offset: int, data: bytes) -> None:
        """Append what was written behind the bytes of a superseded number to these.

        The kernel counts it to the size of the number; readers would get zeros there.
        """
        opened = file.opened_by or file.generation
        if file.opened_by or self._generations.is_rewritten(opened):
            size = len(opened.data)
            opened.extend(offset, data)
            self._usage.recount(opened)
            if opened.orphan:
                self._changes.scratch_file(opened.number, size)

    def truncate(self, generation: Generation, size: int, at: Stamp) -> None:
        """Cut to `size` bytes.  BadContentError: a ccache doesn't grow by truncation.

        GoneError for a rewritten generation: the kernel looks the name up again.
        """
        ccache, image = self._generations.owner(generation), generation.image
        if self._generations.is_rewritten(generation):
            if ccache and ccache.size == size == 0:
                return
            raise GoneError("a superseded generation")
        if ccache is None or image is None:
            self._truncate_plain(generation, size, at.now)
        elif size > len(image.data):
            raise BadContentError("a ccache does not grow by truncation")
        elif size < len(image.data):
            was_initialised, generation.incomplete_file = ccache.initialised, None
            changes = image.truncate(size)
            self._contents.apply(ccache, changes, at, was_initialised=was_initialised)
            # The kernel has cut its pages to `size`, and the store cuts a record that is left over.
            with self._new_number_if(ccache, at, image.incomplete_bytes > 0):
                image.cut_incomplete()

    def close(self, file: OpenFile, now: float) -> None:
        """Close a file; a record that it has left incomplete is dropped, with an event."""
        generation, at = file.generation, Stamp(now, file.client)
        generation.open_count -= 1
        generation.writer_count -= file.writes
        if file.writes or generation.expires:
            generation.use(now)
        if file.opened_by:
            file.opened_by.opened_later.remove(file)
        incomplete = self._contents.take_incomplete(file)
        ccache = self._generations.owner(generation)
        if ccache and (generation.current or self._generations.is_rewritten(generation)):
            self._drop_incomplete(file, ccache, at, incomplete)
        if not generation.open_count:
            self._contents.closed(generation, now)

    def sync(self, file: OpenFile) -> None:
        """fsync(2).  BadContentError where the file has left an incomplete record.

        That is lost when the file is closed; all else is in the journal with each write.
        """
        current = self._generations.current_of(file.generation)
        if file.incomplete or (current and current.incomplete_file is file):
            raise BadContentError("an incomplete record")

    def _drop_incomplete(
        self, file: OpenFile, ccache: Ccache, at: Stamp, incomplete: bytes
    ) -> None:
        current = ccache.current
        if current and current.incomplete_file is file:
            with self._contents.new_number(ccache, at.now):
                current.incomplete_file = None
                incomplete += _image(ccache).cut_incomplete()
        if incomplete:
            self._changes.log(at, EventKind.DROPPED, ccache.name)

    def _new_number_if(
        self, ccache: Ccache, at: Stamp, needed: bool
    ) -> AbstractContextManager[None]:
        """Context of a change that the kernel's cache of the current number may not show."""
        return self._contents.new_number(ccache, at.now) if needed else nullcontext()

    def _write_plain(self, file: OpenFile, offset: int, data: bytes, now: float) -> None:
        generation = file.generation
        size = len(generation.data)
        if file.append:
            offset = size
        self._usage.check(size, offset + len(data) - size)
        if offset > size:
            generation.data.extend(bytes(offset - size))
        generation.data[offset : offset + len(data)] = data
        self._plain_changed(generation, min(offset, size), now)

    def _truncate_plain(self, generation: Generation, size: int, now: float) -> None:
        old_size = len(generation.data)
        self._usage.check(old_size, size - old_size)
        if size > old_size:
            generation.data.extend(bytes(size - old_size))
        del generation.data[size:]
        self._plain_changed(generation, min(size, old_size), now)

    def _plain_changed(self, generation: Generation, unchanged: int, now: float) -> None:
        generation.mtime = now
        generation.use(now)
        self._usage.recount(generation)
        if generation.scratch_name is not None or generation.orphan:
            self._changes.scratch_file(generation.number, unchanged)

    def _write_current(
        self, file: OpenFile, ccache: Ccache, offset: int, data: bytes, at: Stamp
    ) -> None:
        image = _image(ccache)
        size = len(image.data)
        if _shreds(file, offset, data, image):
            self._shred(file, ccache, at)
        elif file.append or offset in (size, size + len(file.incomplete)):
            self._append(file, ccache, offset, data, at)
        elif offset > size:
            raise BadContentError("a write that leaves a hole")
        else:
            self._overwrite(file, ccache, offset, data, at)

    def _shred(self, file: OpenFile, ccache: Ccache, at: Stamp) -> None:
        """Empty a ccache that is overwritten as a whole with other bytes, as by shred(1).

        What this file still writes has no effect.
        """
        was_initialised, file.shredding = ccache.initialised, True
        with self._contents.new_number(ccache, at.now):
            changes = _image(ccache).truncate(0)
            self._contents.apply(ccache, changes, at, was_initialised=was_initialised)

    def _append(
        self, file: OpenFile, ccache: Ccache, offset: int | None, data: bytes, at: Stamp
    ) -> None:
        """Add bytes at the end of the ccache.  `offset`: where the client takes that to be.

        None: by an older state of the ccache.
        """
        image, was_initialised = _image(ccache), ccache.initialised
        current = ccache.current
        assert current is not None
        self._usage.check(len(image.data) + len(file.incomplete), len(data))
        other = current.incomplete_file if current.incomplete_file is not file else None
        elsewhere = offset != len(image.data) or file.number != current.number
        with self._new_number_if(ccache, at, elsewhere or bool(other or file.incomplete)):
            of_other = image.cut_incomplete() if other else b""
            try:
                changes = image.append(file.incomplete + data)
            except StoreError:
                image.data += of_other
                raise
            self._contents.take_incomplete(file)
            if other:
                self._contents.hold_incomplete(other, of_other)
            current.incomplete_file = file if image.incomplete_bytes else None
            self._remember_writing(current.incomplete_file, other)
            self._contents.apply(ccache, changes, at, was_initialised=was_initialised)

    def _overwrite(
        self, file: OpenFile, ccache: Ccache, offset: int, data: bytes, at: Stamp
    ) -> None:
        image, was_initialised = _image(ccache), ccache.initialised
        current = ccache.current
        assert current is not None
        self._usage.check(len(image.data), offset + len(data) - len(image.data))
        with self._new_number_if(ccache, at, file.number != current.number):
            changes = image.overwrite(offset, data)
            writing = current.incomplete_file or file
            current.incomplete_file = writing if image.incomplete_bytes else None
            self._remember_writing(current.incomplete_file)
            self._contents.apply(ccache, changes, at, was_initialised=was_initialised)

    def _write_rewritten(
        self, file: OpenFile, ccache: Ccache, offset: int, data: bytes, at: Stamp
    ) -> None:
        """Write by the number of an older state: an append and a removal follow the ccache.

        BadContentError for any other write.
        """
        generation = file.generation
        if generation.bytes_lost and not file.append:
            raise GoneError("bytes that were lost with an earlier daemon")
        if file.append or offset >= len(generation.data):
            if generation.dialect != _image(ccache).dialect:
                raise BadContentError("the ccache is in another version of the format by now")
            self._append(file, ccache, None, data, at)
            return
        span = generation.span_at(offset)
        if span is None or offset + len(data) > span.end:
            raise BadContentError("a write into an older state of the ccache")
        old = bytes(generation.data[span.start : span.end])
        start = offset - span.start
        new = old[:start] + data + old[start + len(data) :]
        if span.stored is None or not ccache.find(span.stored.serial) or new == old:
            return
        if not _is_removed(new, generation.dialect):
            raise BadContentError("a write into an older state of the ccache")
        with self._contents.new_number(ccache, at.now):
            changes = _image(ccache).remove(span.stored.serial)
            self._contents.apply(ccache, changes, at, was_initialised=ccache.initialised)


def _shreds(file: OpenFile, offset: int, data: bytes, image: Image) -> bool:
    """Whether a write covers the whole ccache with bytes that no ccache can begin with."""
    if file.append or offset or not image.data or len(data) < len(image.data):
        return False
    try:
        scan_prefix(data, image.limit)
    except FormatError:
        return True
    return False


def _is_removed(record: bytes, dialect: Dialect) -> bool:
    try:
        return removed_at(record, 0, dialect)
    except FormatError:
        return False


def _image(ccache: Ccache) -> Image:
    image = ccache.image
    if image is None:
        raise GoneError("no ccache file")
    return image
