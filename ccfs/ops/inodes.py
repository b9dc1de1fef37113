"""Inode numbers: which thing of the store a number means, and which face of it.

A number is a serial number of the store (0 for the mount itself) and a slot.  Serial numbers are
never reused, so neither are inode numbers.  This file knows numbers only.
"""

from collections.abc import Collection, Iterator
from enum import IntEnum
from typing import NamedTuple

_SHIFT = 5


class Slot(IntEnum):
    """The face of a thing that an inode shows.

    Each request looks several up: they hash as the numbers that they are, not as an Enum does, and
    who asks for one often keeps it under a name of its own.
    """

    __hash__ = int.__hash__

    # the mount itself, serial 0
    ROOT = 1
    README = 2
    DEFAULT = 3
    CACHES = 4
    DIR = 5
    PRIMARY = 6
    STATS = 7
    NEW = 23
    BY_ID = 24
    # the mount itself (serial 0) or a ccache
    CHANGED = 8
    LOCK = 9
    INFO = 10
    # a ccache
    CCACHE = 11
    PRINCIPAL = 12
    CREDENTIALS = 13
    CONFIG = 14
    KDC_OFFSET = 15
    IDS = 26
    ID_LINK = 25
    # a credential or a configuration entry
    TEXT = 16
    RAW = 17
    VALUE = 18
    # a generation of bytes, an edition of the log, a scratch link, a file still being written
    BYTES = 19
    EVENTS = 20
    LINK = 21
    PENDING = 22


class Ref(NamedTuple):
    """One inode."""

    serial: int
    slot: Slot

    @property
    def inode(self) -> int:
        """Its number."""
        return self.serial << _SHIFT | self.slot


def serial_of(inode: int) -> int:
    """The serial number of an inode number."""
    return inode >> _SHIFT


def numbers(serials: Collection[int], slots: Collection[int]) -> Iterator[int]:
    """The inodes of these slots of these serial numbers."""
    return (serial << _SHIFT | slot for slot in slots for serial in serials)


def among(inodes: set[int], serials: Collection[int], slots: Collection[int]) -> list[int]:
    """Those of some inodes that are one of these slots of one of these serial numbers.

    There may be thousands of either: whichever are fewer are gone through.
    """
    if len(inodes) < len(serials) * len(slots):
        wanted = set(serials)
        return [i for i in inodes if i & _MASK in slots and i >> _SHIFT in wanted]
    return [inode for inode in numbers(serials, slots) if inode in inodes]


ROOT = Ref(0, Slot.ROOT)

_SLOTS = {int(slot): slot for slot in Slot}
_MASK = (1 << _SHIFT) - 1
_KNOWN: dict[int, Ref] = {}
_MOST = 4096
"""How many refs are kept for the next who asks."""


def ref(inode: int) -> Ref | None:
    """The thing that a number means; None for a number that was never given."""
    return _KNOWN.get(inode) or _new(inode)


def _new(inode: int) -> Ref | None:
    slot = _SLOTS.get(inode & _MASK)
    if slot is None:
        return None
    if len(_KNOWN) >= _MOST:
        _KNOWN.clear()
    made = _KNOWN[inode] = Ref(inode >> _SHIFT, slot)
    return made
