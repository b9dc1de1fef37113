# SPDX-License-Identifier: MIT
"""Directories that exist under another inode number than their own.

The kernel marks a directory's inode as dead when rmdir succeeds or when another directory is
renamed over it, and finds no names in it while any process has a file open below it.  Where the
removal has no effect, or the directory keeps its identity in a rename, it gets a new inode
number.  The old number still refers to it.  Knows numbers only.
"""

from collections.abc import Iterable
from struct import Struct

from ccfs.ops.inodes import Ref, Slot
from ccfs.service.notes import Notes

_KEY = b"face "
_VALUE = Struct(">QB")


class ReissuedInodes:
    """Maps directories to their present inode, and back.  Notes keep it over a take-over."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._inodes: dict[Ref, Ref] = {}
        self._directories: dict[Ref, Ref] = {}
        for key, value in notes.items():
            if key.startswith(_KEY):
                serial, slot = _VALUE.unpack(value)
                self._map(Ref(serial, Slot(slot)), int(key.removeprefix(_KEY), 16))

    def reissue(self, directory: Ref, number: int) -> None:
        """Give a directory the inode of a serial number that was never used."""
        self._map(directory, number)
        self._notes.save(_KEY + b"%x" % number, _VALUE.pack(*directory))

    def _map(self, directory: Ref, number: int) -> None:
        inode = Ref(number, directory.slot)
        self._inodes[directory] = inode
        self._directories[inode] = directory

    def inode_of(self, ref: Ref) -> Ref:
        """Return the inode to give to the kernel for a ref."""
        return self._inodes.get(ref, ref) if self._inodes else ref

    def resolve(self, inode: Ref) -> Ref:
        """Return the ref that an inode of the kernel stands for."""
        return self._directories.get(inode, inode) if self._directories else inode

    def forget(self, serials: Iterable[int]) -> None:
        """Forget the directories of destroyed ccaches."""
        destroyed = set(serials)
        if not self._directories or not destroyed:
            return
        for inode, ref in list(self._directories.items()):
            if ref.serial in destroyed:
                self._notes.save(_KEY + b"%x" % inode.serial, b"")
                del self._directories[inode]
                self._inodes.pop(ref, None)
