# SPDX-License-Identifier: MIT
"""Coroutines that wait until a mount answers.

Knows coroutines and deadlines; never what makes the mount answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from ccfs.errors import UserError


class NotServedError(UserError):
    """The mount doesn't answer."""


@dataclass(eq=False, slots=True)
class _Waiter:
    is_over: trio.Event = field(default_factory=trio.Event)
    failure: str = ""


class Waiters:
    """The waiters of one mount; true if there is one."""

    def __init__(self) -> None:
        self._waiters: set[_Waiter] = set()

    def __bool__(self) -> bool:
        return bool(self._waiters)

    async def wait(self, seconds: float) -> None:
        """Wait for `release`.  Raises NotServedError after `seconds`, or with its failure."""
        waiter = _Waiter()
        self._waiters.add(waiter)
        try:
            with trio.move_on_after(seconds) as limit:
                await waiter.is_over.wait()
        finally:
            self._waiters.discard(waiter)
        if limit.cancelled_caught:
            raise NotServedError("the daemon does not answer in time")
        if waiter.failure:
            raise NotServedError(waiter.failure)

    def release(self, failure: str = "") -> None:
        """Have all that wait now go on; `failure`: why the mount doesn't answer, "" if it does."""
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            waiter.failure = failure
            waiter.is_over.set()
