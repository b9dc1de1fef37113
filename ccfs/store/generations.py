"""The content of ccaches: which generation is current, and how it gets a new one.

Knows when bytes that somebody may have cached stop being true: only a write that came through the
number itself leaves the number as it is.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ccfs.store.ccache import Ccache
from ccfs.store.changes import Ledger
from ccfs.store.effects import Listing
from ccfs.store.errors import NotFoundError
from ccfs.store.generation import Frozen, Generation
from ccfs.store.image import Delta, Image
from ccfs.store.values import EventKind, Stamp, Stored

if TYPE_CHECKING:
    from ccfs.store.open_files import OpenFile

LEFT_MOST = 128 * 1024
"""Bytes of what the journal keeps for those who have it open, though no name leads to it."""
REMEMBERED = 4096
"""How many superseded numbers are kept for those who ask by one."""


class Generations:
    """All generations that have a number somebody may still know."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._known: dict[int, Generation] = {}
        self._superseded: OrderedDict[int, None] = OrderedDict()

    def find(self, number: int) -> Generation | None:
        """The generation of a number, if it is remembered."""
        return self._known.get(number)

    def forget(self, number: int) -> None:
        """Nobody outside knows this number any more."""
        generation = self._known.get(number)
        if generation is None:
            return
        if generation.presumed:
            generation.presumed = False
            generation.handles -= 1
        has_name = generation.superseded is None and (generation.named or generation.current)
        if not has_name and not generation.handles:
            self._drop(generation)

    def numbers(self) -> list[int]:
        """All numbers that are remembered."""
        return [*self._known]

    def unopened(self, known: list[int]) -> list[int]:
        """The numbers that nobody can have open, where these are `known` outside."""
        oldest: dict[int, int] = {}
        for number in sorted(known, reverse=True):
            ccache = self._known[number].ccache
            if ccache is not None:
                oldest[ccache.serial] = number
        named = {*known}
        return [
            number
            for number, one in self._known.items()
            if number not in named
            and (one.ccache is None or oldest.get(one.ccache.serial, number) >= number)
        ]

    def presume_open(self) -> None:
        """Whatever is there may be open: its readers keep what they have until it is forgotten."""
        for generation in self._known.values():
            generation.presumed = True
            generation.handles += 1

    def plain(self, now: float) -> Generation:
        """A new run of plain bytes: a scratch file."""
        return self.restored(self._ledger.number(), now)

    def restored(self, number: int, mtime: float) -> Generation:
        """Plain bytes under the number that they had before a restart."""
        generation = self._known[number] = Generation(number, mtime)
        return generation

    def restore_older(self, ccache: Ccache, number: int, lineage: int) -> None:
        """A number that a ccache had before; a restart has lost its bytes."""
        generation = self.restored(number, ccache.mtime)
        generation.restore_left(ccache, lineage, ccache.mtime)
        generation.left, generation.unknown = False, True
        self._superseded[number] = None

    def restore_left(
        self, number: int, data: bytes, ccache: Ccache | None, lineage: int, now: float
    ) -> None:
        """One that no name leads to, and that somebody had open before a restart."""
        generation = self.restored(number, now)
        generation.data.extend(data)
        generation.restore_left(ccache, lineage, now)
        if ccache is not None:
            self._superseded[number] = None
        self._ledger.recount(generation)

    def drop_unopened(self) -> None:
        """Nobody has anything open: what was left open before a restart goes."""
        for generation in [one for one in self._known.values() if one.left]:
            self._drop(generation)

    def left(self) -> list[Generation]:
        """Those that no name leads to, and that the journal has."""
        return [one for one in self._known.values() if one.left]

    def _leave(self, generation: Generation) -> None:
        """No name leads there any more: who has it open goes on with it after a restart, too.

        Readers of what is large don't: with each change the journal would get all of it.
        """
        small = len(generation.data) <= LEFT_MOST
        if generation.handles and small and not generation.unknown:
            generation.left = True
            self._ledger.scratch_changed(generation.number, 0)

    def older(self) -> list[Generation]:
        """Superseded ones by whose numbers files are open that write to what came after."""
        return [g for g in self._known.values() if g.handles and g.rewritten]

    def start(self, ccache: Ccache, at: Stamp) -> Generation:
        """Make the empty file `ccache` where there is none."""
        generation = self.plain(at.now)
        image, _ = ccache.index(bytearray(), self._ledger.limits)
        generation.become(ccache, image)
        self._entry(ccache, at)
        return generation

    def adopt(self, ccache: Ccache, generation: Generation, at: Stamp, what: EventKind) -> None:
        """Make plain bytes the content of a ccache in one step, under their own number.

        BadContentError where they are no complete beginning of one: nothing changed.
        """
        image, gone = ccache.index(generation.data, self._ledger.limits)
        self._release_current(ccache, at.now)
        generation.become(ccache, image)
        self._ledger.recount(generation)
        self._ledger.effects.rewritten.add(ccache.serial)
        self._ledger.forgotten(ccache, gone)
        self._entry(ccache, at)
        self._ledger.record(at, what, ccache)

    def transfer(self, source: Ccache, target: Ccache, at: Stamp) -> None:
        """Make the content of `source` that of `target`, under its own number.

        Who has it open follows, by whatever number.
        """
        if source.current is None:
            raise NotFoundError("nothing to move")
        older = [g for g in self._known.values() if g.ccache is source and g.rewritten]
        self._release_current(target, at.now)
        gone = target.take(source)
        source.lineage += 1
        self._ledger.effects.metadata.add(source.serial)
        for generation in older:
            generation.follow(target)
        self._ledger.forgotten(target, gone)
        self._ledger.effects.rewritten.add(target.serial)
        self._entry(target, at)
        self._ledger.record(at, EventKind.MOVED, target)

    def initialise(self, ccache: Ccache, data: bytes, at: Stamp) -> None:
        """Make a header and a principal the content of a ccache, in place of what it has."""
        self.overwrite(ccache, data, at, EventKind.INITIALISED)

    def overwrite(
        self,
        ccache: Ccache,
        data: bytes | bytearray,
        at: Stamp,
        what: EventKind = EventKind.REPLACED,
    ) -> None:
        """Make the bytes of a whole ccache the content of one, in place of what it has."""
        generation = self.plain(at.now)
        generation.data.extend(data)
        self.adopt(ccache, generation, at, what)

    def detach(self, ccache: Ccache, at: Stamp) -> None:
        """Take the file `ccache` away; what is open stays readable as plain bytes."""
        initialised = ccache.initialised
        self._release_current(ccache, at.now)
        self._emptied(ccache, at, initialised)

    def take(self, ccache: Ccache, at: Stamp) -> Generation:
        """Take the file `ccache` away to be a scratch file, under its own number."""
        initialised = ccache.initialised
        generation = self._unhook(ccache, at.now)
        if generation is None:
            raise NotFoundError("no ccache file")
        generation.become_plain(at.now)
        self._emptied(ccache, at, initialised)
        return generation

    def _emptied(self, ccache: Ccache, at: Stamp, initialised: bool) -> None:
        gone = ccache.forget_all()
        self._ledger.forgotten(ccache, gone)
        self._entry(ccache, at)
        if initialised:
            self._ledger.effects.rewritten.add(ccache.serial)
            self._ledger.record(at, EventKind.UNINITIALISED, ccache)

    def set_aside(self, ccache: Ccache) -> None:
        """What somebody is still writing waits with them, not in the way of other records."""
        current = ccache.current
        if current and current.image and current.tail_of:
            waiting, current.tail_of = current.tail_of, None
            self.wait(waiting, current.image.cut_tail())
            self._ledger.recount(current)

    def wait(self, file: "OpenFile", pending: bytes) -> None:
        """Let the beginning of a record wait with the open file that writes it."""
        file.pending = pending
        self._ledger.used += len(pending)

    def take_up(self, file: "OpenFile") -> bytes:
        """Take what waits with an open file away from it."""
        pending, file.pending = file.pending, b""
        self._ledger.used -= len(pending)
        return pending

    @contextmanager
    def rewriting(self, ccache: Ccache, now: float) -> Iterator[None]:
        """Around a change behind those who know the number: it goes on under a new one.

        Who has the old one open keeps the bytes from before.  Where the change raises, the number
        stays.
        """
        old = ccache.current
        kept = old.frozen() if old else None
        yield
        self._ledger.effects.changed_outside_fuse.add(ccache.serial)
        if old is not None and old is ccache.current:
            self._renumber(ccache, old, kept, now)

    def renew(self, ccache: Ccache, now: float) -> None:
        """Have what a ccache has go on under a new number."""
        with self.rewriting(ccache, now):
            pass

    def _renumber(self, ccache: Ccache, old: Generation, kept: Frozen | None, now: float) -> None:
        image, tail_of = old.image, old.tail_of
        assert image is not None
        new = Generation(self._ledger.number(), old.mtime)
        self._known[new.number] = new
        old.freeze(kept, now)
        new.become(ccache, image)
        new.tail_of = tail_of
        self._ledger.effects.metadata.add(ccache.serial)
        self._ledger.recount(old)
        self._ledger.recount(new)
        self._supersede(old)

    def apply(self, ccache: Ccache, delta: Delta, at: Stamp, was: bool) -> None:
        """Log what a change of the bytes did.  `was`: whether it was initialised before."""
        ledger = self._ledger
        effects, serial = ledger.effects, ccache.serial
        effects.metadata.add(serial)
        if ccache.current:
            ccache.current.mtime = at.now
            ledger.recount(ccache.current)
        ledger.lost(at, ccache, delta.removed)
        if was != ccache.initialised:
            ledger.record(at, EventKind.INITIALISED if not was else EventKind.UNINITIALISED, ccache)
        elif delta.prefix:
            ledger.record(at, EventKind.PRINCIPAL, ccache)
        for stored in delta.added:
            ledger.record(at, EventKind.STORED, ccache, stored.name)
        if delta.mixed:
            effects.rewritten.add(serial)
        if delta.ends:
            effects.appended.setdefault(serial, []).extend(delta.ends)
        if delta.buried:
            effects.placeholders.setdefault(serial, {}).update(delta.buried)

    def settle(self, generation: Generation, now: float) -> None:
        """The last open file of a generation is closed."""
        if generation.ccache and (generation.current or generation.rewritten):
            self._compact(generation.ccache, now)
        if generation.ccache and generation.ccache.current is generation:
            return
        if generation.number in self._superseded:
            self._empty(generation)
        elif not generation.named:
            self._drop(generation)

    def drop(self, generation: Generation) -> None:
        """Plain bytes without a name: gone once nobody has them open."""
        self._ledger.effects.superseded.append(generation.number)
        self._leave(generation)
        if not generation.handles:
            self._drop(generation)

    def _compact(self, ccache: Ccache, now: float) -> None:
        """Leave dead bytes out where they are too many and nobody reads them."""
        current, image = ccache.current, ccache.image
        if current and image and image.dead and image.wasteful and not current.handles:
            self.compact(ccache, image)
            self._renumber(ccache, current, None, now)

    def compact(self, ccache: Ccache, image: Image) -> None:
        """Leave removed records out."""
        image.compact()
        effects, serial = self._ledger.effects, ccache.serial
        effects.compacted.add(serial)
        effects.placeholders.pop(serial, None)
        if serial in effects.appended:
            effects.appended[serial] = [
                s for s in effects.appended[serial] if isinstance(s, Stored)
            ]

    def _unhook(self, ccache: Ccache, now: float) -> Generation | None:
        generation = ccache.current
        if generation is not None:
            ccache.current = None
            ccache.lineage += 1
            generation.detach(now)
            self._ledger.effects.metadata.add(ccache.serial)
            self._ledger.recount(generation)
        return generation

    def _release_current(self, ccache: Ccache, now: float) -> None:
        generation = self._unhook(ccache, now)
        if generation is None:
            return
        if not generation.handles:
            self._empty(generation)
        self._supersede(generation)

    def _supersede(self, generation: Generation) -> None:
        self._ledger.effects.superseded.append(generation.number)
        self._superseded[generation.number] = None
        self._leave(generation)
        if len(self._superseded) > REMEMBERED:
            oldest = self._known.get(next(iter(self._superseded)))
            self._superseded.popitem(last=False)
            if oldest and not oldest.handles:
                self._drop(oldest)

    def _empty(self, generation: Generation) -> None:
        generation.discard()
        self._ledger.recount(generation)
        if generation.left:
            generation.left = False
            self._ledger.scratch_changed(generation.number, 0)

    def _drop(self, generation: Generation) -> None:
        self._empty(generation)
        self._known.pop(generation.number, None)
        self._superseded.pop(generation.number, None)

    def _entry(self, ccache: Ccache, at: Stamp) -> None:
        ccache.mtime = at.now
        self._ledger.effects.metadata.add(ccache.serial)
        self._ledger.effects.listings |= {ccache.serial, Listing.DIR}
