# SPDX-License-Identifier: MIT
"""HandleNumbers of open files: what they say, and that no two files that are open have the same."""

import errno
import os

import pytest

from ccfs.ops.errnos import errno_of
from ccfs.ops.handle_numbers import MAX_HANDLES, HandleNumber, HandleNumbers, decode
from ccfs.ops.inodes import Ref, Slot
from ccfs.service.errors import HandleLimitError
from ccfs.takeover.handover import OPENED, Handover, words_of

LAST = Ref((1 << 41) - 1, Slot.BYTES)


def test_handle_number_encodes_inode_and_modes() -> None:
    numbers = HandleNumbers(set(), words_of(None), OPENED)
    given = [
        numbers.allocate(LAST, writes=True, append=True, redirected=True)
        for _ in range(MAX_HANDLES)
    ]
    assert len(set(given)) == MAX_HANDLES
    assert max(given) < 1 << 64
    assert {decode(number) for number in given} == {HandleNumber(LAST, True, True, True)}
    assert decode(max(numbers.allocate(LAST) for _ in range(MAX_HANDLES))) == HandleNumber(
        LAST, *[False] * 3
    )


def test_handle_number_is_refused_when_all_are_taken() -> None:
    taken: set[int] = set()
    numbers = HandleNumbers(taken, words_of(None), OPENED)
    taken.update(numbers.allocate(LAST) for _ in range(MAX_HANDLES))
    with pytest.raises(HandleLimitError) as refused:
        numbers.allocate(LAST)
    assert errno_of(refused.value) == errno.EMFILE
    back = taken.pop()
    assert numbers.allocate(LAST) == back


def test_handle_numbers_are_not_reused_by_next_daemon() -> None:
    handover = Handover()
    given = HandleNumbers(set(), handover.words, OPENED).allocate(LAST, writes=True)
    assert HandleNumbers(set(), handover.words, OPENED).allocate(LAST, writes=True) != given
    handover.unmap()
    os.close(handover.descriptor)
