"""SetTimes that a user has set: of any inode, until what it shows changes.

Knows inodes and times; never what a node is.
"""

from collections.abc import Mapping
from struct import Struct
from typing import NamedTuple

from ccfs.ops.handles import Note
from ccfs.ops.inodes import Ref, ref

_KEY = b"times "
_VALUE = Struct(">dqq")
MOST = 4096
"""How many inodes have set times; the one that was set first is forgotten."""


class _Set(NamedTuple):
    mtime: float  # of the node itself, in seconds: another one tells of a change
    times: tuple[int, int]


class SetTimes:
    """The set times by their inodes.

    `notes`: what an earlier daemon has noted down; `note`: notes it for the next.
    """

    def __init__(self, note: Note, notes: Mapping[bytes, bytes]) -> None:
        self._note = note
        self._set: dict[Ref, _Set] = {}
        for key, value in notes.items():
            if key.startswith(_KEY) and (found := ref(int(key.removeprefix(_KEY), 16))):
                mtime, *times = _VALUE.unpack(value)
                self._set[found] = _Set(mtime, (times[0], times[1]))

    def set(self, found: Ref, mtime: float, times: tuple[int, int]) -> None:
        """Show `times` (atime, mtime; nanoseconds) while the node's own mtime is `mtime`."""
        self._set.pop(found, None)
        if len(self._set) >= MOST:
            first = next(iter(self._set))
            del self._set[first]
            self._note(_KEY + b"%x" % first.inode, b"")
        self._set[found] = _Set(mtime, times)
        self._note(_KEY + b"%x" % found.inode, _VALUE.pack(mtime, *times))

    def get(self, found: Ref, mtime: float) -> tuple[int, int] | None:
        """The times that were set since the node has changed, `mtime` by its own word."""
        known = self._set.get(found) if self._set else None
        if known is None or known.mtime != mtime:
            return None
        return known.times
