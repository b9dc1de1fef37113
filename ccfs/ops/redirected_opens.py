# SPDX-License-Identifier: MIT
"""Files whose client opened a superseded generation and was given a later one of that ccache.

The kernel knows such a file by the inode number of the superseded generation, so that it has no
inode of the generation whose bytes are read.  The next daemon must not take these bytes for
unopened.  Notes keep the pairs over a take-over, until the kernel has forgotten the inode.  Knows
numbers of generations only.
"""

from collections.abc import Callable
from struct import Struct

from ccfs.service.notes import Notes

_KEY = b"redirected "
_PAIR = Struct(">QQ")


class RedirectedOpens:
    """The generations that files were opened by, and those that were opened instead."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._opened: dict[int, set[int]] = {}
        for key, value in notes.items():
            if key.startswith(_KEY):
                by, opened = _PAIR.unpack(value)
                self._opened.setdefault(by, set()).add(opened)

    def add(self, by: int, opened: int) -> None:
        """A file is opened by the number `by`, and reads the generation `opened`."""
        self._opened.setdefault(by, set()).add(opened)
        self._notes.save(_key(by, opened), _PAIR.pack(by, opened))

    def forget(self, by: int) -> None:
        """The kernel has no inode of `by` any more: no file is open by it."""
        for opened in self._opened.pop(by, ()):
            self._notes.save(_key(by, opened), b"")

    def prune(self, has_inode: Callable[[int], bool]) -> set[int]:
        """Forget the numbers of which the kernel has no inode; return the others' generations."""
        for by in [by for by in self._opened if not has_inode(by)]:
            self.forget(by)
        return set().union(*self._opened.values())


def _key(by: int, opened: int) -> bytes:
    return _KEY + b"%x %x" % (by, opened)
