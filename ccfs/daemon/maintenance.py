# SPDX-License-Identifier: MIT
"""Periodic maintenance of a file system, and the clock that it waits for.

Knows deadlines; never what expires.
"""

from __future__ import annotations

import math
import time

import trio

from ccfs.ops.file_system import FileSystem

PERIOD = 30.0
"""Seconds between two runs at the most."""


class Deadline:
    """When maintenance is due: at a time that may become earlier while a task waits for it."""

    def __init__(self) -> None:
        self._due = math.inf
        self._earlier = trio.Event()

    def schedule(self, due: float | None) -> None:
        """Have `wait` return at `due` (seconds since the epoch) at the latest; None: no change."""
        if due is not None and due < self._due:
            self._due = due
            self._earlier.set()

    async def wait(self, longest: float, due: float | None) -> None:
        """Return at `due`, at a time of `schedule`, or after `longest` seconds.

        A deadline that is expected no more isn't withdrawn: that would cost each step more than to
        run once in vain.
        """
        self._due = math.inf if due is None else due
        end = trio.current_time() + longest
        while (left := min(end - trio.current_time(), self._due - time.time())) > 0:
            self._earlier = trio.Event()
            with trio.move_on_after(left):
                await self._earlier.wait()


async def run(fs: FileSystem, deadline: Deadline) -> None:
    """Add events for credentials that expire, and drop unused scratch files; never returns."""
    committer = fs.committer
    client = committer.stamp(fs.info.owner.uid, 0).client
    while True:
        await deadline.wait(PERIOD, committer.store.next_deadline())
        now = committer.clock()
        committer.store.announce_expiry(now, client)
        committer.store.scratch.expire(now, client)
        committer.commit_or_warn()
