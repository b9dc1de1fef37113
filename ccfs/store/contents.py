"""The content of ccaches: which generation is current, and how it gets a new one.

Knows when bytes that somebody may have cached stop being true: only a write that came through the
number itself leaves the number as it is.
"""

from collections import OrderedDict

from ccfs.store.ccache import Ccache
from ccfs.store.errors import NotFoundError
from ccfs.store.generation import Generation
from ccfs.store.image import Delta
from ccfs.store.ledger import Ledger
from ccfs.store.values import Stamp, What

REMEMBERED = 4096
"""How many superseded numbers are kept for those who ask by one."""


class Contents:
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
        if generation and generation.superseded is not None and not generation.handles:
            self._drop(generation)

    def plain(self, now: float) -> Generation:
        """A new run of plain bytes: a scratch file."""
        generation = Generation(self._ledger.number(), now)
        self._known[generation.number] = generation
        return generation

    def start(self, ccache: Ccache, at: Stamp) -> Generation:
        """Make the empty file `ccache` where there is none."""
        generation = self.plain(at.now)
        image, _ = ccache.index(bytearray(), self._ledger.limits)
        generation.become(ccache, image)
        self._entry(ccache, at)
        return generation

    def adopt(self, ccache: Ccache, generation: Generation, at: Stamp, what: What) -> None:
        """Make plain bytes the content of a ccache in one step, under their own number.

        BadContentError where they are no complete beginning of one: nothing changed.
        """
        image, gone = ccache.index(generation.data, self._ledger.limits)
        self._release_current(ccache, at.now)
        generation.become(ccache, image)
        self._ledger.recount(generation)
        self._ledger.effects.rewritten.add(ccache.serial)
        self._ledger.effects.records += [stored.serial for stored in gone]
        self._entry(ccache, at)
        self._ledger.record(at, what, ccache)

    def transfer(self, source: Ccache, target: Ccache, at: Stamp) -> None:
        """Make the content of `source` that of `target`, under its own number."""
        if source.current is None or source.current.image is None:
            raise NotFoundError("nothing to move")
        tail = source.current.image.cut_tail()
        source.current.tail_of = None
        self._release_current(target, at.now)
        source.lineage += 1
        gone = target.take(source)
        self._ledger.effects.records += [stored.serial for stored in gone]
        self._ledger.effects.rewritten.add(target.serial)
        self._entry(target, at)
        self._ledger.record(at, What.MOVED, target)
        if tail:
            self.renumber(target, at.now)

    def detach(self, ccache: Ccache, at: Stamp) -> Generation | None:
        """Take the file `ccache` away; what is open stays readable as plain bytes."""
        generation, initialised = ccache.current, ccache.initialised
        gone = ccache.forget_all()
        self._release_current(ccache, at.now)
        self._ledger.effects.records += [stored.serial for stored in gone]
        self._entry(ccache, at)
        if initialised:
            self._ledger.effects.emptied = True
            self._ledger.record(at, What.UNINITIALISED, ccache)
        return generation

    def renumber(self, ccache: Ccache, now: float) -> None:
        """The bytes changed behind those who know the number: go on under a new one."""
        self._ledger.effects.behind.add(ccache.serial)
        self._renumber(ccache, now)

    def _renumber(self, ccache: Ccache, now: float) -> None:
        old = ccache.current
        if old is None or old.image is None:
            return
        new = Generation(self._ledger.number(), old.mtime)
        image, tail_of = old.image, old.tail_of
        self._known[new.number] = new
        old.freeze(now)
        new.become(ccache, image)
        new.tail_of = tail_of
        self._ledger.recount(old)
        self._ledger.recount(new)
        self._supersede(old)

    def apply(self, ccache: Ccache, delta: Delta, at: Stamp, was: bool) -> None:
        """Log what a change of the bytes did.  `was`: whether it was initialised before."""
        ledger = self._ledger
        if ccache.current:
            ccache.current.mtime = at.now
            ledger.recount(ccache.current)
        ledger.lost(at, ccache, delta.removed)
        if was != ccache.initialised:
            ledger.record(at, What.INITIALISED if not was else What.UNINITIALISED, ccache)
        elif delta.prefix:
            ledger.record(at, What.PRINCIPAL, ccache)
        for stored in delta.added:
            ledger.record(at, What.STORED, ccache, stored.name)
        if delta.added and ccache.image and not ccache.image.ends_with(delta.added):
            ledger.effects.rewritten.add(ccache.serial)
        elif delta.added:
            ledger.effects.added.setdefault(ccache.serial, []).extend(delta.added)

    def settle(self, generation: Generation, now: float) -> None:
        """The last open file of a generation is closed."""
        if generation.current:
            image = generation.image
            if image and image.dead and image.wasteful and generation.ccache:
                image.compact()
                self._renumber(generation.ccache, now)
        elif generation.superseded is None and not generation.named:
            self._drop(generation)
        elif not generation.named:
            self._empty(generation)

    def drop(self, generation: Generation) -> None:
        """Plain bytes without a name: gone once nobody has them open."""
        self._ledger.effects.superseded.append(generation.number)
        if not generation.handles:
            self._drop(generation)

    def _release_current(self, ccache: Ccache, now: float) -> None:
        generation = ccache.current
        if generation is None:
            return
        ccache.current = None
        ccache.lineage += 1
        generation.detach(now)
        if not generation.handles:
            self._empty(generation)
        self._supersede(generation)

    def _supersede(self, generation: Generation) -> None:
        self._ledger.effects.superseded.append(generation.number)
        self._superseded[generation.number] = None
        if len(self._superseded) > REMEMBERED:
            oldest = self._known.get(next(iter(self._superseded)))
            self._superseded.popitem(last=False)
            if oldest and not oldest.handles:
                self._drop(oldest)

    def _empty(self, generation: Generation) -> None:
        generation.discard()
        self._ledger.recount(generation)

    def _drop(self, generation: Generation) -> None:
        self._empty(generation)
        self._known.pop(generation.number, None)
        self._superseded.pop(generation.number, None)

    def _entry(self, ccache: Ccache, at: Stamp) -> None:
        ccache.mtime = at.now
        self._ledger.effects.listings |= {ccache.serial, 0}
