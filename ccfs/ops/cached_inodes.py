"""The inodes whose attributes the kernel may hold.

Knows numbers only.  What it held of the daemon before nobody knows: all numbers that were given
until then are taken for held, until it has been told.
"""

from collections.abc import Collection, Iterator

from ccfs.ops.inodes import among, numbers, serial_of


class CachedInodes:
    """A set of inode numbers.  `before`: the last serial number of an earlier daemon's."""

    def __init__(self, before: int = 0) -> None:
        self._before = before
        self._held: set[int] = set()
        self._told: set[int] = set()

    def __contains__(self, inode: int) -> bool:
        return inode in self._held or (serial_of(inode) <= self._before and inode not in self._told)

    def add(self, inode: int) -> None:
        """The kernel gets it."""
        self._held.add(inode)

    def discard(self, inode: int) -> None:
        """The kernel has been told, and holds it no more."""
        self._held.discard(inode)
        if serial_of(inode) <= self._before:
            self._told.add(inode)

    def among(self, serials: Collection[int], slots: Collection[int]) -> Iterator[int]:
        """Those that are one of some slots of one of some serial numbers."""
        yield from among(self._held, serials, slots)
        old = [serial for serial in serials if serial <= self._before]
        for inode in numbers(old, slots):
            if inode not in self._held and inode not in self._told:
                yield inode

    def __len__(self) -> int:
        return len(self._held)
