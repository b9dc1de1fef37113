"""HandleNumbers of open files: each says what it is of, so that the next daemon knows it, too.

    bits 0 - 2    whether it writes, whether it appends, whether it was opened by another inode
    bits 3 - 48   the inode number
    bits 49 - 63  a number that tells it from others of the same inode: as many as may be open

Knows numbers only.
"""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from ccfs.ops.errnos import HandleLimitError
from ccfs.ops.inodes import Ref, ref

_WRITES, _APPENDS, _ELSEWHERE = 1, 2, 4
_TURN = 49
_INODE = (1 << _TURN - 3) - 1
TURNS = 1 << 64 - _TURN
"""How many numbers there are for files of one inode that are open in the same way."""


class Opened(NamedTuple):
    """What a number says."""

    found: Ref
    writes: bool
    append: bool
    elsewhere: bool


class HandleNumbers:
    """Gives them out, `taken` ones excepted.

    The turn is counted in a word that the next daemon goes on with: of another daemon's open files
    it takes over only those that are used.
    """

    def __init__(self, taken: Container[int], words: memoryview[int], turn: int) -> None:
        self._taken, self._words, self._turn = taken, words, turn

    def give(
        self, found: Ref, *, writes: bool = False, append: bool = False, elsewhere: bool = False
    ) -> int:
        """A number that no other open file has.  Raises HandleLimitError: others have them all."""
        said = writes * _WRITES | append * _APPENDS | elsewhere * _ELSEWHERE | found.inode << 3
        for _ in range(TURNS):
            turn = self._words[self._turn] = (self._words[self._turn] + 1) % TURNS
            number = turn << _TURN | said
            if number not in self._taken:
                return number
        raise HandleLimitError(f"over {TURNS} open files of one inode")


def opened(number: int) -> Opened | None:
    """What a number says; None where it is none that was ever given."""
    found = ref(number >> 3 & _INODE)
    if found is None:
        return None
    return Opened(found, *(bool(number & bit) for bit in (_WRITES, _APPENDS, _ELSEWHERE)))
