"""Open files: reading and writing the bytes of a generation.

Knows what a write at an offset means for a ccache; never knows names or directories.
"""

from contextlib import AbstractContextManager, nullcontext

from ccfs.format.ccache import scan_prefix
from ccfs.format.dialect import Dialect
from ccfs.format.errors import FormatError
from ccfs.format.outline import removed_at
from ccfs.store.ccache import Ccache
from ccfs.store.changes import Ledger
from ccfs.store.errors import BadContentError, GoneError, StoreError
from ccfs.store.generation import Generation
from ccfs.store.generations import Generations
from ccfs.store.image import Image
from ccfs.store.scratch import KEPT
from ccfs.store.values import Client, EventKind, Stamp

Tail = tuple[int, bytes]
"""An incomplete record: the serial of the ccache that it is for, its bytes so far."""


class OpenFile:
    """One open of a generation.

    `number` is the one the opener knows: where it isn't the current one's, its writes are news to
    everybody else.  `found`: the superseded generation of that number, where it was one.
    `pending`: the beginning of a record that could not stay at the end of the ccache while this
    file is still writing it.  `wiping`: whether it has overwritten the whole ccache with something
    else.  `ident`: a number that the layer above knows the file by, also after a restart; 0: none.
    """

    __slots__ = (
        "append",
        "found",
        "generation",
        "ident",
        "number",
        "pending",
        "who",
        "wiping",
        "writes",
    )

    def __init__(
        self,
        generation: Generation,
        found: Generation | None,
        *,
        writes: bool,
        append: bool,
        who: Client,
        ident: int = 0,
    ) -> None:
        self.ident = ident
        self.generation = generation
        self.found = found
        self.number = found.number if found else generation.number
        self.writes = writes
        self.append = append
        self.who = who
        self.pending = b""
        self.wiping = False


class OpenFiles:
    """What open files do.

    `waiting`: what files that were open before a restart had left incomplete, by their idents: the
    serial of the ccache, and the bytes.
    """

    def __init__(self, ledger: Ledger, generations: Generations) -> None:
        self._ledger = ledger
        self._generations = generations
        self._incomplete: dict[int, OpenFile] = {}
        self.waiting: dict[int, Tail] = {}

    def open(
        self,
        generation: Generation,
        who: Client,
        *,
        writes: bool,
        append: bool,
        found: Generation | None = None,
        ident: int = 0,
    ) -> OpenFile:
        """Open a generation; `found` is the superseded one by whose number it was found."""
        generation.handles += 1
        generation.writers += writes
        file = OpenFile(generation, found, writes=writes, append=append, who=who, ident=ident)
        if found:
            found.followers.append(file)
        return file

    def reopen(
        self, number: int, ident: int, who: Client, *, writes: bool, append: bool, known_by: int = 0
    ) -> OpenFile:
        """A file that was open before a restart, by its generation's number and its own ident.

        It goes on with the record that it has left incomplete.  `known_by`: the number that its
        opener knows, where that is another one (`OpenFile.number`).  GoneError: the generation is
        unknown.
        """
        generation = self._generations.find(number)
        if generation is None or not (
            generation.superseded is None or generation.presumed or generation.rewritten
        ):
            raise GoneError("a number nobody knows")
        found = self._generations.find(known_by)
        file = self.open(generation, who, writes=writes, append=append, found=found, ident=ident)
        file.number = known_by or file.number
        serial, tail = self.waiting.pop(ident, (0, b""))
        if generation.ccache is not None and generation.ccache.serial == serial:
            file.pending = tail
            self._incomplete[ident] = file
        else:
            self._ledger.used -= len(tail)
        return file

    def restore(self, waiting: dict[int, Tail]) -> None:
        """Have what files had left incomplete before a restart wait for them."""
        self.waiting = waiting
        self._ledger.used += sum(len(tail) for _, tail in waiting.values())

    def drop_waiting(self, at: Stamp) -> None:
        """Drop what waits for files that were not opened again after a restart."""
        for serial, tail in self.waiting.values():
            self._ledger.used -= len(tail)
            ccache = self._ledger.register.ccaches.get(serial)
            if ccache is not None:
                self._ledger.note(at, EventKind.DROPPED, ccache)
        self.waiting = {}

    def tails(self) -> dict[int, Tail]:
        """What files that have an ident have left incomplete: their ccache's serial, the bytes."""
        if not self._incomplete:
            return self.waiting
        tails = {ident: _tail(file) for ident, file in self._incomplete.items()}
        self._incomplete = {n: f for n, f in self._incomplete.items() if tails[n][1]}
        return {**self.waiting, **{n: tail for n, tail in tails.items() if tail[1]}}

    def _remember(self, *files: OpenFile | None) -> None:
        """Remember files that may have left a record incomplete."""
        for file in files:
            if file is not None and file.ident:
                self._incomplete[file.ident] = file

    def read(self, file: OpenFile, offset: int, size: int) -> bytes:
        """At most `size` bytes at `offset`.  GoneError where a restart has lost them."""
        if file.generation.unknown:
            raise GoneError("bytes from before a restart")
        return bytes(memoryview(file.generation.data)[offset : offset + size])

    def write(self, file: OpenFile, offset: int, data: bytes, now: float) -> int:
        """Write as a file does; returns how many bytes were taken: all, or an error.

        Raises BadContentError, CcacheLimitError or TotalLimitError; nothing was changed then.
        """
        generation, at = file.generation, Stamp(now, file.who)
        ccache = generation.ccache
        if file.wiping:
            return len(data)
        if ccache is not None and generation.current:
            self._write_current(file, ccache, offset, data, at)
        elif ccache is not None and generation.rewritten:
            self._write_rewritten(file, ccache, offset, data, at)
        else:
            self._write_plain(file, offset, data, now)
        self._mirror(file, offset, data)
        return len(data)

    def _mirror(self, file: OpenFile, offset: int, data: bytes) -> None:
        """Show those who read a superseded number what was written behind its bytes.

        The kernel counts that to the size of the number; without it readers would get zeros there.
        """
        shown = file.found or file.generation
        if shown.rewritten or file.found:
            have = len(shown.data)
            shown.extend(offset, data)
            self._ledger.recount(shown)
            if shown.left:
                self._ledger.scratch_changed(shown.number, have)

    def truncate(self, generation: Generation, size: int, at: Stamp) -> None:
        """Cut to `size` bytes, as the kernel does with its own pages."""
        if generation.superseded is not None and generation.rewritten:
            if generation.ccache and generation.ccache.size == size == 0:
                return
            raise GoneError("a superseded generation")
        ccache, image = generation.ccache, generation.image
        if ccache is None or image is None:
            self._truncate_plain(generation, size, at.now)
        elif size > len(image.data):
            raise BadContentError("a ccache does not grow by truncation")
        elif size < len(image.data):
            was, generation.tail_of = ccache.initialised, None
            self._generations.apply(ccache, image.truncate(size), at, was)
            with self._behind(ccache, at, image.tail > 0):
                image.cut_tail()

    def release(self, file: OpenFile, now: float) -> None:
        """Close: a tail that this file left incomplete is dropped."""
        generation, at = file.generation, Stamp(now, file.who)
        generation.handles -= 1
        generation.writers -= file.writes
        if file.writes or generation.used != KEPT:
            generation.used = now
        if file.found:
            file.found.followers.remove(file)
        ccache = generation.ccache
        pending = self._generations.take_up(file)
        if ccache is not None and (generation.current or generation.rewritten):
            self._drop_tail(file, ccache, at, pending)
        if not generation.handles:
            self._generations.settle(generation, now)

    def _drop_tail(self, file: OpenFile, ccache: Ccache, at: Stamp, pending: bytes) -> None:
        current = ccache.current
        if current and current.tail_of is file:
            with self._generations.rewriting(ccache, at.now):
                current.tail_of = None
                pending += _image(ccache).cut_tail()
        if pending:
            self._ledger.note(at, EventKind.DROPPED, ccache)

    def _behind(self, ccache: Ccache, at: Stamp, news: bool) -> AbstractContextManager[None]:
        """Around a change that may be news to those who know the number."""
        return self._generations.rewriting(ccache, at.now) if news else nullcontext()

    def _write_plain(self, file: OpenFile, offset: int, data: bytes, now: float) -> None:
        generation = file.generation
        have = len(generation.data)
        if file.append:
            offset = have
        self._ledger.room(have, offset + len(data) - have)
        if offset > have:
            generation.data.extend(bytes(offset - have))
        generation.data[offset : offset + len(data)] = data
        self._plain_changed(generation, min(offset, have), now)

    def _truncate_plain(self, generation: Generation, size: int, now: float) -> None:
        have = len(generation.data)
        self._ledger.room(have, size - have)
        if size > have:
            generation.data.extend(bytes(size - have))
        del generation.data[size:]
        self._plain_changed(generation, min(size, have), now)

    def _plain_changed(self, generation: Generation, kept: int, now: float) -> None:
        generation.mtime = generation.used = now
        self._ledger.recount(generation)
        if generation.named or generation.left:
            self._ledger.scratch_changed(generation.number, kept)

    def _write_current(
        self, file: OpenFile, ccache: Ccache, offset: int, data: bytes, at: Stamp
    ) -> None:
        image = _image(ccache)
        if _overwrites(file, offset, data, image):
            self._wipe(file, ccache, at)
        elif file.append or offset in (len(image.data), len(image.data) + len(file.pending)):
            self._append(file, ccache, offset, data, at)
        elif offset > len(image.data):
            raise BadContentError("a write that leaves a hole")
        else:
            self._overwrite(file, ccache, offset, data, at)

    def _wipe(self, file: OpenFile, ccache: Ccache, at: Stamp) -> None:
        """Bytes that are no ccache over all that is there, as shred(1) writes them.

        The ccache is empty then, and what this file still writes reaches nothing.
        """
        was, file.wiping = ccache.initialised, True
        with self._generations.rewriting(ccache, at.now):
            self._generations.apply(ccache, _image(ccache).truncate(0), at, was)

    def _append(self, file: OpenFile, ccache: Ccache, offset: int, data: bytes, at: Stamp) -> None:
        """Add bytes at the end of the ccache, wherever their writer thinks that is."""
        image, was = _image(ccache), ccache.initialised
        current = ccache.current
        assert current is not None
        self._ledger.room(len(image.data) + len(file.pending), len(data))
        other = current.tail_of if current.tail_of is not file else None
        elsewhere = offset != len(image.data) or file.number != current.number
        with self._behind(ccache, at, elsewhere or bool(other or file.pending)):
            aside = image.cut_tail() if other else b""
            try:
                delta = image.append(file.pending + data)
            except StoreError:
                image.data += aside
                raise
            self._generations.take_up(file)
            if other:
                self._generations.wait(other, aside)
            current.tail_of = file if image.tail else None
            self._remember(current.tail_of, other)
            self._generations.apply(ccache, delta, at, was)

    def _overwrite(
        self, file: OpenFile, ccache: Ccache, offset: int, data: bytes, at: Stamp
    ) -> None:
        image, was = _image(ccache), ccache.initialised
        current = ccache.current
        assert current is not None
        self._ledger.room(len(image.data), offset + len(data) - len(image.data))
        with self._behind(ccache, at, file.number != current.number):
            delta = image.overwrite(offset, data)
            current.tail_of = (current.tail_of or file) if image.tail else None
            self._remember(current.tail_of)
            self._generations.apply(ccache, delta, at, was)

    def _write_rewritten(
        self, file: OpenFile, ccache: Ccache, offset: int, data: bytes, at: Stamp
    ) -> None:
        """A write by one who knows an older state: an append follows, a removal too."""
        generation = file.generation
        if generation.unknown and not file.append:
            raise GoneError("bytes from before a restart")
        if file.append or offset >= len(generation.data):
            if generation.dialect != _image(ccache).dialect:
                raise BadContentError("the ccache is written in another version by now")
            self._append(file, ccache, -1, data, at)
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
        with self._generations.rewriting(ccache, at.now):
            delta = _image(ccache).bury(span.stored.serial)
            self._generations.apply(ccache, delta, at, ccache.initialised)


def _overwrites(file: OpenFile, offset: int, data: bytes, image: Image) -> bool:
    """Whether a write puts what no ccache can begin with in the place of all that is there."""
    if file.append or offset or not image.data or len(data) < len(image.data):
        return False
    try:
        scan_prefix(data, image.limit)
    except FormatError:
        return True
    return False


def _tail(file: OpenFile) -> Tail:
    """What a file has left incomplete, where it is to become part of a ccache."""
    generation, ccache = file.generation, file.generation.ccache
    if ccache is None or not (generation.current or generation.rewritten):
        return 0, b""
    current = ccache.current
    if file.pending or current is None or current.tail_of is not file:
        return ccache.serial, file.pending
    image = _image(ccache)
    return ccache.serial, bytes(image.data[image.complete :])


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
