# SPDX-License-Identifier: MIT
"""The inodes whose attributes the kernel may have cached.

After a take-over the kernel may have cached any inode that an earlier daemon gave out: all of these
count as cached until they are invalidated.  Knows numbers only.
"""

from collections.abc import Collection, Iterator

from ccfs.ops.inodes import among, inodes_of, serial_of


class CachedInodes:
    """A set of inode numbers.

    `last_serial`: the last serial number that an earlier daemon gave out; 0 for none.
    """

    def __init__(self, last_serial: int = 0) -> None:
        self._last_serial = last_serial
        self._cached: set[int] = set()
        self._invalidated: set[int] = set()

    def __contains__(self, inode: int) -> bool:
        return inode in self._cached or (
            serial_of(inode) <= self._last_serial and inode not in self._invalidated
        )

    def add(self, inode: int) -> None:
        """The kernel gets attributes of an inode."""
        self._cached.add(inode)

    def discard(self, inode: int) -> None:
        """The kernel's attributes of an inode are invalidated."""
        self._cached.discard(inode)
        if serial_of(inode) <= self._last_serial:
            self._invalidated.add(inode)

    def among(self, serials: Collection[int], slots: Collection[int]) -> Iterator[int]:
        """Yield the members that are one of these slots of one of these serial numbers."""
        yield from among(self._cached, serials, slots)
        old = [serial for serial in serials if serial <= self._last_serial]
        for inode in inodes_of(old, slots):
            if inode not in self._cached and inode not in self._invalidated:
                yield inode

    def __len__(self) -> int:
        return len(self._cached)
