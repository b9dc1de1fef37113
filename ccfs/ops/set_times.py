# SPDX-License-Identifier: MIT
"""Times that users have set with utimensat(2): they hold until the inode changes.

Knows inodes and times; never what a node is.
"""

from struct import Struct
from typing import NamedTuple

from ccfs.ops.inodes import Ref, ref_of
from ccfs.service.notes import Notes

_KEY = b"times "
_VALUE = Struct(">dqq")
MAX_INODES = 4096
"""How many inodes have set times; the one that was set first is dropped."""


class _Times(NamedTuple):
    mtime: float  # of the node when they were set, in seconds: another one means a change
    times: tuple[int, int]


class SetTimes:
    """The set times by inode.  Notes keep them over a take-over."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._times: dict[Ref, _Times] = {}
        for key, value in notes.items():
            if key.startswith(_KEY) and (ref := ref_of(int(key.removeprefix(_KEY), 16))):
                mtime, *times = _VALUE.unpack(value)
                self._times[ref] = _Times(mtime, (times[0], times[1]))

    def set(self, ref: Ref, mtime: float, times: tuple[int, int]) -> None:
        """Set atime and mtime (nanoseconds) while the node's own mtime is `mtime` (seconds)."""
        self._times.pop(ref, None)
        if len(self._times) >= MAX_INODES:
            first = next(iter(self._times))
            del self._times[first]
            self._notes.save(_KEY + b"%x" % first.inode, b"")
        self._times[ref] = _Times(mtime, times)
        self._notes.save(_KEY + b"%x" % ref.inode, _VALUE.pack(mtime, *times))

    def get(self, ref: Ref, mtime: float) -> tuple[int, int] | None:
        """Return the set times, unless the node has changed since: `mtime` is its own."""
        entry = self._times.get(ref) if self._times else None
        return None if entry is None or entry.mtime != mtime else entry.times
