# SPDX-License-Identifier: MIT
"""Inode numbers: a serial number of the store and a slot.

    inode = serial << 5 | slot        serial: 0 for the mount itself

Serial numbers are never reused, so neither are inode numbers.  Knows numbers only.
"""

from collections.abc import Collection, Iterator
from enum import IntEnum
from typing import NamedTuple

_SHIFT = 5


class Slot(IntEnum):
    """Which of the inodes of one serial number.

    Slots are looked up in dictionaries several times in each request: they hash as int, which is
    faster than Enum's hash.  Hot code binds the ones it needs to module names.
    """

    __hash__ = int.__hash__

    # the mount itself, serial 0; free numbers: 27 to 31
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
    # a generation of bytes, an edition of the log, a scratch link, a new file that is not complete
    BYTES = 19
    EVENTS = 20
    LINK = 21
    UNFINISHED = 22


class Ref(NamedTuple):
    """One inode."""

    serial: int
    slot: Slot

    @property
    def inode(self) -> int:
        """The inode number."""
        return self.serial << _SHIFT | self.slot


def serial_of(inode: int) -> int:
    """Return the serial number in an inode number."""
    return inode >> _SHIFT


def inodes_of(serials: Collection[int], slots: Collection[int]) -> Iterator[int]:
    """Return the inode numbers of all these slots of all these serial numbers."""
    return (serial << _SHIFT | slot for slot in slots for serial in serials)


def among(inodes: set[int], serials: Collection[int], slots: Collection[int]) -> list[int]:
    """Return those of `inodes` that are one of these slots of one of these serial numbers.

    Both sets may have thousands of members: the smaller one is iterated.
    """
    if len(inodes) < len(serials) * len(slots):
        serial_set = set(serials)
        return [i for i in inodes if i & _MASK in slots and i >> _SHIFT in serial_set]
    return [inode for inode in inodes_of(serials, slots) if inode in inodes]


_SLOTS = {int(slot): slot for slot in Slot}
_MASK = (1 << _SHIFT) - 1
_REFS: dict[int, Ref] = {}
_MAX_REFS = 4096
"""How many refs are cached by inode number."""


def ref_of(inode: int) -> Ref | None:
    """Return the ref of an inode number; None where its slot is unknown."""
    return _REFS.get(inode) or _cache_ref(inode)


def _cache_ref(inode: int) -> Ref | None:
    slot = _SLOTS.get(inode & _MASK)
    if slot is None:
        return None
    if len(_REFS) >= _MAX_REFS:
        _REFS.clear()
    ref = _REFS[inode] = Ref(inode >> _SHIFT, slot)
    return ref
