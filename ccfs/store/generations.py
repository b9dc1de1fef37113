# SPDX-License-Identifier: MIT
"""The generations by their numbers: which are known, in which state, and when they are dropped.

Knows what the kernel and the journal may still ask for; never how content changes.
"""

from collections import OrderedDict
from collections.abc import Mapping, Set
from typing import NamedTuple

from ccfs.format.dialect import Dialect
from ccfs.store.ccache import Ccache
from ccfs.store.changes import Changes
from ccfs.store.errors import GoneError
from ccfs.store.generation import Generation
from ccfs.store.ids import Ids
from ccfs.store.usage import Usage

ORPHAN_BYTES = 128 * 1024
"""Bytes of the largest generation that the journal keeps for clients that have it open, although
no name leads to it."""
SUPERSEDED_NUMBERS = 4096
"""How many superseded numbers are known for clients that come with one."""


class Stat(NamedTuple):
    """The attributes of a number: `size` in bytes, `mtime` in seconds since the epoch.

    `number`: that of the generation they are of.  `has_name`: whether a path leads to the number
    asked for, so that the attributes stay true until effects say otherwise.  `linked`: whether a
    path leads to `number`.
    """

    size: int
    mtime: float
    number: int
    has_name: bool
    linked: bool


class Generations:
    """All generations whose numbers the kernel or the journal may know.

    `ccaches`: all ccaches by serial number; only `Collection` adds and removes them.
    """

    def __init__(
        self,
        ccaches: Mapping[int, Ccache],
        ids: Ids,
        usage: Usage,
        changes: Changes,
    ) -> None:
        self._ccaches = ccaches
        self._ids = ids
        self._usage = usage
        self._changes = changes
        self._by_number: dict[int, Generation] = {}
        self._superseded: OrderedDict[int, None] = OrderedDict()

    # Looking up

    def find(self, number: int) -> Generation | None:
        """The generation of a number, if it is known."""
        return self._by_number.get(number)

    def get(self, number: int) -> Generation:
        """The generation of a number, or GoneError."""
        generation = self._by_number.get(number)
        if generation is None:
            raise GoneError("an unknown number")
        return generation

    def numbers(self) -> list[int]:
        """All numbers that are known."""
        return [*self._by_number]

    def ccache(self, serial: int) -> Ccache | None:
        """The ccache of a serial number."""
        return self._ccaches.get(serial)

    def owner(self, generation: Generation) -> Ccache | None:
        """The ccache that a generation is or was the content of, unless it was destroyed."""
        return self._ccaches.get(generation.owner) if generation.owner is not None else None

    def current_of(self, generation: Generation) -> Generation | None:
        """The current generation of the ccache that a generation is or was the content of."""
        ccache = self.owner(generation)
        return ccache.current if ccache else None

    def is_rewritten(self, generation: Generation) -> bool:
        """Whether the same content went on under a newer number: writes follow it there."""
        ccache = self.owner(generation)
        return (
            ccache is not None and not generation.current and ccache.lineage == generation.lineage
        )

    def stat(self, number: int) -> Stat:
        """The attributes of a number.  GoneError where nothing is there any more.

        A superseded number has the attributes of the current generation, but the size of the bytes
        that its readers have: the kernel cuts its cached pages to the size it is given, or fills up
        to it with zeros.  Where a dead daemon's bytes are lost the size is the current one's.
        """
        generation = self.get(number)
        if generation.has_name:
            return Stat(len(generation.data), generation.mtime, number, True, True)
        current = self.current_of(generation)
        if current and (self.is_rewritten(generation) or not generation.open_count):
            keeps_bytes = generation.open_count and not generation.bytes_lost
            size = len(generation.data) if keeps_bytes else len(current.data)
            return Stat(size, current.mtime, current.number, False, True)
        opened = generation
        if not generation.open_count and generation.opened_later:
            opened = generation.opened_later[-1].generation
        if not opened.open_count:
            raise GoneError("an unlinked file that is not open")
        return Stat(len(opened.data), opened.mtime, number, False, False)

    def orphans(self) -> list[Generation]:
        """Generations that no name leads to, and that the journal keeps."""
        return [g for g in self._by_number.values() if g.orphan]

    def rewritten(self, ccache: Ccache) -> list[Generation]:
        """The rewritten generations of a ccache."""
        return [
            g for g in self._by_number.values() if g.owner == ccache.serial and self.is_rewritten(g)
        ]

    def rewritten_open(self) -> list[Generation]:
        """Rewritten generations by whose numbers files are open: their writes follow the ccache."""
        return [g for g in self._by_number.values() if g.open_count and self.is_rewritten(g)]

    # What the kernel knows, and what is restored from a journal

    def forget(self, number: int) -> None:
        """Drop a generation whose number the kernel has forgotten, unless it is in use."""
        generation = self._by_number.get(number)
        if generation is None:
            return
        if generation.presumed_open:
            generation.presumed_open = False
            generation.open_count -= 1
        if not generation.has_name and not generation.open_count:
            self.drop(generation)

    def unopened(self, opened: Set[int]) -> list[int]:
        """The numbers that no client can have open; `opened`: those that one may have open."""
        return [number for number in self._by_number if number not in opened]

    def presume_open(self) -> None:
        """Count every generation as open: clients may have opened it under an earlier daemon.

        Its readers keep their bytes until the kernel forgets the number.
        """
        for generation in self._by_number.values():
            generation.presumed_open = True
            generation.open_count += 1

    def drop_orphans(self) -> None:
        """Drop what was open and unlinked under an earlier daemon: the mount is a new one."""
        for generation in self.orphans():
            self.drop(generation)

    def restore(self, number: int | None, mtime: float) -> Generation:
        """Make an empty generation under its earlier number; None: a new number."""
        number = self._ids.new() if number is None else number
        generation = self._by_number[number] = Generation(number, mtime)
        return generation

    def restore_superseded(self, ccache: Ccache, number: int, lineage: int | None) -> None:
        """Restore a superseded number of a ccache, without its bytes."""
        generation = self.restore(number, ccache.mtime)
        generation.restore_superseded(ccache.serial, lineage, _dialect(ccache), ccache.mtime)
        generation.bytes_lost = True
        self._superseded[number] = None

    def restore_orphan(
        self, number: int, data: bytes, owner: int | None, lineage: int, now: float
    ) -> None:
        """Restore a generation that was open and unlinked.

        `owner`: the serial number of its ccache, None for a scratch file.
        """
        generation = self.restore(number, now)
        generation.data.extend(data)
        ccache = self._ccaches.get(owner) if owner is not None else None
        dialect = _dialect(ccache) if ccache else None
        generation.restore_superseded(owner, lineage, dialect, now)
        generation.orphan = True
        if owner is not None:
            self._superseded[number] = None
        self._usage.recount(generation)

    # Plain bytes

    def new_scratch(self, now: float) -> Generation:
        """Make an empty generation that belongs to no ccache."""
        return self.restore(None, now)

    def unlink_scratch(self, generation: Generation) -> None:
        """Drop plain bytes that have no name any more, once no client has them open."""
        self._changes.effects.superseded.append(generation.number)
        self._orphan(generation)
        if not generation.open_count:
            self.drop(generation)

    # The end of a generation

    def release(self, generation: Generation) -> None:
        """Wipe or drop a generation without a name, whose last open file was closed."""
        if generation.number in self._superseded:
            self.wipe(generation)
        elif not generation.has_name:
            self.drop(generation)

    def supersede(self, generation: Generation) -> None:
        """Note that a generation is no longer current; its number stays known for a while."""
        self._changes.effects.superseded.append(generation.number)
        self._superseded[generation.number] = None
        self._orphan(generation)
        if len(self._superseded) > SUPERSEDED_NUMBERS:
            number, _ = self._superseded.popitem(last=False)
            oldest = self._by_number.get(number)
            if oldest and not oldest.open_count:
                self.drop(oldest)

    def _orphan(self, generation: Generation) -> None:
        """Have the journal keep what is open and unlinked, for its readers under the next daemon.

        Not what is large: the journal would get all of it with each change.
        """
        small = len(generation.data) <= ORPHAN_BYTES
        if generation.open_count and small and not generation.bytes_lost:
            generation.orphan = True
            self._changes.scratch_file(generation.number, 0)

    def wipe(self, generation: Generation) -> None:
        """Overwrite the bytes of one that no client can read any more."""
        generation.wipe()
        self._usage.recount(generation)
        if generation.orphan:
            generation.orphan = False
            self._changes.scratch_file(generation.number, 0)

    def drop(self, generation: Generation) -> None:
        """Forget a generation, and overwrite its bytes."""
        self.wipe(generation)
        self._by_number.pop(generation.number, None)
        self._superseded.pop(generation.number, None)


def _dialect(ccache: Ccache) -> Dialect | None:
    return ccache.image.dialect if ccache.image else None
