# SPDX-License-Identifier: MIT
"""When credentials expire, in the order in which events have to announce it.

Knows end times and serial numbers; never ccaches, nor the clock.
"""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from ccfs.store.values import Stored

NOTICE = 300
"""Seconds before a credential's end time at which `expiring` is announced."""
_LEAST = 64
"""Deadlines that are never pruned."""

Deadline = tuple[int, int]
"""The end time of a credential in seconds since the epoch, and its serial number."""


class ExpiryQueue:
    """Deadlines of credentials: each is announced NOTICE seconds ahead, and when it has come.

    Deadlines of removed credentials stay until `prune`.  `announced_until`: the time up to which
    deadlines were announced, in seconds since the epoch.
    """

    def __init__(self) -> None:
        self.announced_until = 0.0
        self._expiring: list[Deadline] = []
        self._expired: list[Deadline] = []
        self._prune_above = _LEAST

    def add(self, stored: Stored) -> None:
        """Queue a credential.  Configuration entries, and end time 0 (never), have no deadline."""
        if stored.endtime and not stored.config:
            heappush(self._expiring, (stored.endtime, stored.serial))

    @property
    def needs_pruning(self) -> bool:
        """Whether there are twice as many deadlines as the last `prune` left."""
        return len(self) > self._prune_above

    def __len__(self) -> int:
        return len(self._expiring) + len(self._expired)

    def prune(self, live: set[int]) -> None:
        """Drop the deadlines of credentials whose serial number is not in `live`."""
        for heap in (self._expiring, self._expired):
            heap[:] = [deadline for deadline in heap if deadline[1] in live]
            heapify(heap)
        self._prune_above = 2 * len(self) + _LEAST

    def due(self, now: float) -> Iterator[tuple[int, bool]]:
        """Take the deadlines that are due: (serial, False) ahead of the end, (serial, True) at it.

        One whose end has come before it was announced ahead is only announced at the end.
        """
        while self._expiring and self._expiring[0][0] - NOTICE <= now:
            deadline = heappop(self._expiring)
            heappush(self._expired, deadline)
            if deadline[0] > now:
                yield deadline[1], False
        while self._expired and self._expired[0][0] <= now:
            yield heappop(self._expired)[1], True

    def skip_announced(self, until: float) -> None:
        """Drop what an earlier process announced up to `until`, in seconds since the epoch."""
        self.announced_until = until
        for _ in self.due(until):
            pass

    def next_deadline(self) -> int | None:
        """When the next announcement is due, in seconds since the epoch."""
        expired = self._expired[0][0] if self._expired else None
        if not self._expiring:
            return expired
        expiring = self._expiring[0][0] - NOTICE
        return expiring if expired is None else min(expiring, expired)
