"""Times that a user has set: of any inode, until what it shows changes.

Knows inodes and times; never what a node is.
"""

from typing import NamedTuple

from ccfs.ops.refs import Ref

MOST = 4096
"""How many inodes have set times; the one that was set first is forgotten."""


class _Set(NamedTuple):
    mtime: float  # of the node itself, in seconds: another one tells of a change
    times: tuple[int, int]


class Times:
    """The set times by their inodes."""

    def __init__(self) -> None:
        self._set: dict[Ref, _Set] = {}

    def set(self, found: Ref, mtime: float, times: tuple[int, int]) -> None:
        """Show `times` (atime, mtime; nanoseconds) while the node's own mtime is `mtime`."""
        self._set.pop(found, None)
        if len(self._set) >= MOST:
            del self._set[next(iter(self._set))]
        self._set[found] = _Set(mtime, times)

    def get(self, found: Ref, mtime: float) -> tuple[int, int] | None:
        """The times that were set since the node has changed, `mtime` by its own word."""
        known = self._set.get(found) if self._set else None
        if known is None or known.mtime != mtime:
            return None
        return known.times
