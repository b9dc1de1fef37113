# SPDX-License-Identifier: MIT
"""Handle numbers (`fh`): each says what file it is a handle of, for the daemon after this one.

    bits 0 - 2    whether it writes, whether it appends, whether it was opened by another inode
    bits 3 - 48   the inode number
    bits 49 - 63  a counter that distinguishes handles of one inode: as many as may be open

Knows numbers only.
"""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from ccfs.ops.inodes import Ref, ref_of
from ccfs.service.errors import HandleLimitError

_WRITES, _APPENDS, _REDIRECTED = 1, 2, 4
_COUNTER = 49
_INODE = (1 << _COUNTER - 3) - 1
MAX_HANDLES = 1 << 64 - _COUNTER
"""How many handles of one inode with the same flags may be open."""


class HandleNumber(NamedTuple):
    """A handle number, decoded.

    `redirected`: the handle was opened by the number of a superseded generation, and is of `ref`.
    """

    ref: Ref
    writes: bool
    append: bool
    redirected: bool


class HandleNumbers:
    """Gives out handle numbers that are not in `in_use`.

    The counter is a word of the handover page, so that the next daemon continues it: it does not
    know the handles of this one before they are used.
    """

    def __init__(self, in_use: Container[int], words: memoryview[int], counter: int) -> None:
        self._in_use, self._words, self._counter = in_use, words, counter

    def allocate(
        self, ref: Ref, *, writes: bool = False, append: bool = False, redirected: bool = False
    ) -> int:
        """Return a number that no open handle has.

        Raises HandleLimitError where MAX_HANDLES of the same inode and flags are open.
        """
        low = writes * _WRITES | append * _APPENDS | redirected * _REDIRECTED | ref.inode << 3
        for _ in range(MAX_HANDLES):
            count = self._words[self._counter] = (self._words[self._counter] + 1) % MAX_HANDLES
            number = count << _COUNTER | low
            if number not in self._in_use:
                return number
        raise HandleLimitError(f"over {MAX_HANDLES} open files of one inode")


def decode(number: int) -> HandleNumber | None:
    """Decode a handle number; None where no handle can have it."""
    ref = ref_of(number >> 3 & _INODE)
    if ref is None:
        return None
    return HandleNumber(ref, *(bool(number & bit) for bit in (_WRITES, _APPENDS, _REDIRECTED)))
