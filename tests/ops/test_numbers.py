"""HandleNumbers of open files: what they say, and that no two files that are open have the same."""

import errno
import os

import pytest

from ccfs.ops.errnos import HandleLimitError, errno_of
from ccfs.ops.handle_numbers import TURNS, HandleNumbers, Opened, opened
from ccfs.ops.inodes import Ref, Slot
from ccfs.takeover.handover import OPENED, Handover, words_of

LAST = Ref((1 << 41) - 1, Slot.BYTES)


def test_each_says_what_it_is_of_up_to_the_last_turn() -> None:
    numbers = HandleNumbers(set(), words_of(None), OPENED)
    given = [numbers.give(LAST, writes=True, append=True, elsewhere=True) for _ in range(TURNS)]
    assert len(set(given)) == TURNS
    assert max(given) < 1 << 64
    assert {opened(number) for number in given} == {Opened(LAST, True, True, True)}
    assert opened(max(numbers.give(LAST) for _ in range(TURNS))) == Opened(LAST, *[False] * 3)


def test_where_all_are_taken_one_more_is_refused() -> None:
    taken: set[int] = set()
    numbers = HandleNumbers(taken, words_of(None), OPENED)
    taken.update(numbers.give(LAST) for _ in range(TURNS))
    with pytest.raises(HandleLimitError) as refused:
        numbers.give(LAST)
    assert errno_of(refused.value) == errno.EMFILE
    back = taken.pop()
    assert numbers.give(LAST) == back


def test_the_next_daemon_gives_none_that_the_one_before_has_given() -> None:
    handover = Handover()
    given = HandleNumbers(set(), handover.words, OPENED).give(LAST, writes=True)
    assert HandleNumbers(set(), handover.words, OPENED).give(LAST, writes=True) != given
    handover.unmap()
    os.close(handover.descriptor)
