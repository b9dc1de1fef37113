# SPDX-License-Identifier: MIT
"""The limits of what users may have without a session, however many uids they use.

Knows mounts, uids and numbers; never how a mount is made.  Time is passed in, in seconds.
"""

from __future__ import annotations

from collections import deque

from ccfs.ccfsd.registry import Registry
from ccfs.ccfsd.settings import Limits
from ccfs.ccfsd.subuids import Users

MINUTE = 60.0


def memory_available() -> int | None:
    """Return the bytes that are available (proc(5), MemAvailable); None where that is not known."""
    with open("/proc/meminfo", encoding="ascii") as file:
        line = next((line for line in file if line.startswith("MemAvailable:")), "")
    return int(line.split()[1]) * 1024 if line else None


class Quota:
    """Counts for the user behind a uid (`Users.behind`)."""

    def __init__(self, limits: Limits, users: Users) -> None:
        self.limits = limits
        self._users = users
        self._starts: dict[int | str, deque[float]] = {}

    def is_known(self, uid: int, registry: Registry) -> bool:
        """Return whether a uid has a login name, or a session: then a name service knows it."""
        return self._users.has_name(uid) or bool(registry.sessions_of(str(uid)))

    def start(self, uid: int, registry: Registry, now: float) -> str:
        """Note that a uid gets a mount without a session; else return why it doesn't."""
        user = self._users.behind(uid)
        why = self._too_many(uid, user, registry) or self._too_fast(user, now)
        if not why:
            self._starts.setdefault(user, deque()).append(now)
        return why

    def kcm(self, uid: int, of_user: int, of_all: int, registry: Registry) -> str:
        """Return why a KCM client may not wait where so many wait already; "" if it may."""
        limits = self.limits
        most = limits.kcm if self.is_known(uid, registry) else limits.kcm // 2
        return "too many of them wait" if of_user >= limits.kcm_of_one or of_all >= most else ""

    def _too_many(self, uid: int, user: int | str, registry: Registry) -> str:
        limits = self.limits
        uids = [mount.owner.uid for mount in registry.mounts.values() if mount.requested]
        if sum(self._users.behind(other) == user for other in uids) >= limits.mounts_of_one:
            return "too many mounts of one user"
        unknown = sum(not self.is_known(other, registry) for other in uids)
        few = unknown >= limits.mounts // 2 and not self.is_known(uid, registry)
        if few or len(uids) >= limits.mounts:
            return "too many mounts"
        memory = memory_available()
        if memory is not None and memory < limits.memory << 20:
            return "too little memory for another mount"
        return ""

    def _too_fast(self, user: int | str, now: float) -> str:
        for known, times in [*self._starts.items()]:
            while times and now - times[0] >= MINUTE:
                times.popleft()
            if not times:
                del self._starts[known]
        if len(self._starts.get(user, ())) >= self.limits.starts:
            return "too many new mounts of one user in a minute"
        return ""
