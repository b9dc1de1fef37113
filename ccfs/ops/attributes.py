"""Attributes in the form that pyfuse3 wants them in.

Knows its fields, never what has them.
"""

from typing import Any, cast

from pyfuse3 import EntryAttributes

from ccfs.ops.file_system import Owner
from ccfs.ops.node import Attributes

BLOCK = 4096
"""Bytes of `st_blksize`: C libraries read and write that much at a time, or more."""
_UNIT = 512
"""Bytes of a block that `st_blocks` counts (stat(2))."""


def attributes(owner: Owner, inode: int, mode: int, said: Attributes) -> EntryAttributes:
    """The attributes of one inode."""
    size, _, nlink, attr_timeout, entry_timeout, _, _ = said
    entry: Any = EntryAttributes()
    entry.st_ino, entry.st_mode, entry.st_nlink = inode, mode, nlink
    entry.st_uid, entry.st_gid = owner.uid, owner.gid
    entry.st_blksize, entry.st_size, entry.st_blocks = BLOCK, size, -(-size // _UNIT)
    _put_times(entry, said)
    entry.attr_timeout, entry.entry_timeout = attr_timeout, entry_timeout
    return cast(EntryAttributes, entry)


class Entry:
    """The attributes of one inode after the other, as a listing has them.

    It sets only what differs from what it had before.
    """

    __slots__ = ("_mode", "_said", "attributes")

    def __init__(self, owner: Owner) -> None:
        self._mode, self._said = 0, Attributes()
        self.attributes = attributes(owner, 0, self._mode, self._said)

    def fill(self, inode: int, mode: int, said: Attributes) -> None:
        """Have the attributes of another inode."""
        entry: Any = self.attributes
        before, self._said = self._said, said
        entry.st_ino = inode
        if mode != self._mode:
            entry.st_mode = self._mode = mode
        if said.size != before.size:
            entry.st_size, entry.st_blocks = said.size, -(-said.size // _UNIT)
        if said.mtime != before.mtime or said.set_times != before.set_times:
            _put_times(entry, said)
        if said.nlink != before.nlink:
            entry.st_nlink = said.nlink
        if said.attr_timeout != before.attr_timeout:
            entry.attr_timeout = said.attr_timeout
        if said.entry_timeout != before.entry_timeout:
            entry.entry_timeout = said.entry_timeout


def _put_times(entry: Any, said: Attributes) -> None:
    changed = int(said.mtime * 1e9)
    entry.st_ctime_ns = changed
    entry.st_atime_ns, entry.st_mtime_ns = said.set_times or (changed, changed)
