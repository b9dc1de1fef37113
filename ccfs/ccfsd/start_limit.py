# SPDX-License-Identifier: MIT
"""How many daemons may start at a time: more would only take the cores from each other.

Mounts that a login waits for have places of their own: no login waits behind other starts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import trio

M = TypeVar("M")
"""A mount."""


class StartLimit(Generic[M]):
    """Places for `most` mounts that a login waits for, and for as many others."""

    def __init__(self, most: int, has_login: Callable[[M], bool]) -> None:
        self._logins, self._others = trio.CapacityLimiter(most), trio.CapacityLimiter(most)
        self._has_login = has_login
        self._starting: dict[M, trio.CapacityLimiter] = {}
        self._waiting_among_others: dict[M, trio.CancelScope] = {}

    async def acquire(self, mount: M) -> None:
        """Wait for a place, in the order of the calls."""
        if not self._has_login(mount):
            with trio.CancelScope() as self._waiting_among_others[mount]:
                try:
                    await self._acquire(mount, self._others)
                finally:
                    del self._waiting_among_others[mount]
        if mount not in self._starting:
            await self._acquire(mount, self._logins)

    async def _acquire(self, mount: M, limiter: trio.CapacityLimiter) -> None:
        await limiter.acquire_on_behalf_of(mount)
        self._starting[mount] = limiter

    def hasten(self, mount: M) -> None:
        """Have a mount wait among those of logins from now on, if a login waits for it."""
        if mount in self._waiting_among_others and self._has_login(mount):
            self._waiting_among_others[mount].cancel()

    def release(self, mount: M) -> None:
        """Give the place of a mount to the next, if it has one."""
        limiter = self._starting.pop(mount, None)
        if limiter is not None:
            limiter.release_on_behalf_of(mount)
