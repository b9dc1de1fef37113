# SPDX-License-Identifier: MIT
"""Serial numbers: one sequence for ccaches, generations, records and everything else of a store.

Knows integers only.
"""


class Ids:
    """Serial numbers in ascending order; none is given twice.

    The first is the start time in milliseconds: so numbers of an earlier daemon without a journal
    are not reused either.  `last`: the highest number given so far.
    """

    __slots__ = ("last",)

    def __init__(self, start_time: float) -> None:
        """`start_time`: seconds since the epoch."""
        self.last = int(start_time * 1000)

    def new(self) -> int:
        """Return a serial number that was never given before."""
        self.last += 1
        return self.last

    def skip_to(self, number: int) -> None:
        """Give no number up to `number` again: an earlier process gave those."""
        self.last = max(self.last, number)
