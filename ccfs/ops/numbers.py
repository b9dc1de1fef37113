"""Numbers of open files: each says what it is of, so that the next daemon knows it, too.

    bits 0, 1     whether it writes, whether it appends
    bits 2 - 49   the inode number
    bits 50 - 63  a number that tells it from others of the same inode

Knows numbers only.
"""

from collections.abc import Container
from typing import NamedTuple

from ccfs.ops.refs import Ref, ref

_WRITES, _APPENDS = 1, 2
_INODE = (1 << 48) - 1
_TURNS = 1 << 14


class Opened(NamedTuple):
    """What a number says."""

    found: Ref
    writes: bool
    append: bool


class Numbers:
    """Gives them out, `taken` ones excepted."""

    def __init__(self, taken: Container[int]) -> None:
        self._taken = taken
        self._turn = 0

    def give(self, found: Ref, *, writes: bool = False, append: bool = False) -> int:
        """A number that no other open file has."""
        said = found.inode << 2 | writes * _WRITES | append * _APPENDS
        while True:
            self._turn = (self._turn + 1) % _TURNS
            number = self._turn << 50 | said
            if number not in self._taken:
                return number


def opened(number: int) -> Opened | None:
    """What a number says; None where it is none that was ever given."""
    found = ref(number >> 2 & _INODE)
    if found is None:
        return None
    return Opened(found, bool(number & _WRITES), bool(number & _APPENDS))
