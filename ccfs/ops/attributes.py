# SPDX-License-Identifier: MIT
"""Attributes of inodes as pyfuse3 takes them.

Knows the fields of struct fuse_attr and fuse_entry_out; never what has them.
"""

from typing import Any, cast

from pyfuse3 import EntryAttributes

from ccfs.ops.node import Attributes
from ccfs.service.info import Owner

BLOCK = 4096
"""Bytes of `st_blksize`: C libraries read and write that much at a time, or more."""
_UNIT = 512
"""Bytes of a block that `st_blocks` counts (stat(2))."""


def entry_attributes(
    owner: Owner, inode: int, mode: int, attributes: Attributes
) -> EntryAttributes:
    """Return the attributes of one inode."""
    size, _, nlink, attr_timeout, entry_timeout, _, _ = attributes
    entry: Any = EntryAttributes()
    entry.st_ino, entry.st_mode, entry.st_nlink = inode, mode, nlink
    entry.st_uid, entry.st_gid = owner.uid, owner.gid
    entry.st_blksize, entry.st_size, entry.st_blocks = BLOCK, size, -(-size // _UNIT)
    _set_times(entry, attributes)
    entry.attr_timeout, entry.entry_timeout = attr_timeout, entry_timeout
    return cast(EntryAttributes, entry)


class ReusedEntry:
    """One EntryAttributes for all entries of a listing.

    Assigns only the fields that differ from the entry before: each costs a conversion in pyfuse3.
    """

    __slots__ = ("_attributes", "_mode", "entry")

    def __init__(self, owner: Owner) -> None:
        self._mode, self._attributes = 0, Attributes()
        self.entry = entry_attributes(owner, 0, self._mode, self._attributes)

    def fill(self, inode: int, mode: int, attributes: Attributes) -> None:
        """Make `entry` that of an inode."""
        entry: Any = self.entry
        before, self._attributes = self._attributes, attributes
        entry.st_ino = inode
        if mode != self._mode:
            entry.st_mode = self._mode = mode
        if attributes.size != before.size:
            entry.st_size, entry.st_blocks = attributes.size, -(-attributes.size // _UNIT)
        if attributes.mtime != before.mtime or attributes.set_times != before.set_times:
            _set_times(entry, attributes)
        if attributes.nlink != before.nlink:
            entry.st_nlink = attributes.nlink
        if attributes.attr_timeout != before.attr_timeout:
            entry.attr_timeout = attributes.attr_timeout
        if attributes.entry_timeout != before.entry_timeout:
            entry.entry_timeout = attributes.entry_timeout


def _set_times(entry: Any, attributes: Attributes) -> None:
    changed = int(attributes.mtime * 1e9)
    entry.st_ctime_ns = changed
    entry.st_atime_ns, entry.st_mtime_ns = attributes.set_times or (changed, changed)
