"""Numbers of open files: each says what it is of, so that the next daemon knows it, too.

    bits 0 - 2    whether it writes, whether it appends, whether it was opened by another inode
    bits 3 - 50   the inode number
    bits 51 - 63  a number that tells it from others of the same inode

Knows numbers only.
"""

from collections.abc import Container
from typing import NamedTuple

from ccfs.ops.refs import Ref, ref

_WRITES, _APPENDS, _ELSEWHERE = 1, 2, 4
_INODE = (1 << 48) - 1
_TURNS = 1 << 13


class Opened(NamedTuple):
    """What a number says."""

    found: Ref
    writes: bool
    append: bool
    elsewhere: bool


class Numbers:
    """Gives them out, `taken` ones excepted."""

    def __init__(self, taken: Container[int]) -> None:
        self._taken = taken
        self._turn = 0

    def give(
        self, found: Ref, *, writes: bool = False, append: bool = False, elsewhere: bool = False
    ) -> int:
        """A number that no other open file has."""
        said = writes * _WRITES | append * _APPENDS | elsewhere * _ELSEWHERE | found.inode << 3
        while True:
            self._turn = (self._turn + 1) % _TURNS
            number = self._turn << 51 | said
            if number not in self._taken:
                return number


def opened(number: int) -> Opened | None:
    """What a number says; None where it is none that was ever given."""
    found = ref(number >> 3 & _INODE)
    if found is None:
        return None
    return Opened(found, *(bool(number & bit) for bit in (_WRITES, _APPENDS, _ELSEWHERE)))
