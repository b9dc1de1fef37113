"""The locks of one context: on the collection, and on ccaches, each through one descriptor.

It knows which container is held how, never what is in one.
"""

import errno
import os
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from ccfs.ccapi import constants as cc
from ccfs.ccapi.ccache_by_id import CcacheById
from ccfs.ccapi.constants import CCAPIError
from ccfs.ccapi.locking import Mode, step, try_lock, wait_for_lock
from ccfs.ccapi.mount_client import Server
from ccfs.ccapi.watching import Watch

LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Container:
    """What is locked: a ccache, or without a residence the collection of a server."""

    server: Server
    residence: CcacheById | None = None

    @property
    def key(self) -> str:
        """What tells it from the others of its server."""
        return self.residence.ident if self.residence else ""

    @property
    def busy(self) -> int:
        """The code for a lock that can't be had at once."""
        return cc.ccErrCCacheLocked if self.residence else cc.ccErrContextLocked

    @property
    def unlocked(self) -> int:
        """The code for a lock that isn't held."""
        return cc.ccErrCCacheUnlocked if self.residence else cc.ccErrContextUnlocked

    def open(self) -> int:
        """A descriptor to lock."""
        place = self.residence or self.server
        return place.open(LOCK, os.O_RDWR)

    def check(self) -> None:
        """Raise OSError where it is gone: its lock is worth nothing then."""
        if self.residence is None:
            self.server.ping()
        elif not self.residence.is_there():
            raise OSError(errno.ESTALE, "the ccache is gone")


@dataclass(slots=True)
class Hold:
    """A descriptor of a `lock` file, and what is held through it."""

    server: Server
    descriptor: int
    mode: Mode | None = None

    @property
    def lost(self) -> bool:
        """Whether the descriptor is somebody else's now, or closed."""
        return self.descriptor < 0

    def close(self) -> None:
        """Let go."""
        if not self.lost:
            os.close(self.descriptor)
            self.descriptor = -1

    def lend(self, use: Callable[[int], None]) -> None:
        """Have the descriptor used by what closes it when it fails."""
        descriptor, self.descriptor = self.descriptor, -1
        use(descriptor)
        self.descriptor = descriptor


class Owner:
    """Who holds locks: one context.  Methods raise OSError, and CCAPIError for what is refused."""

    def __init__(self) -> None:
        self._held: dict[str, Hold] = {}
        _owners.add(self)
        # A thread may die with its context in its hands: nobody else would ever let go.
        weakref.finalize(self, _let_go, self._held)

    def lock(self, container: Container, lock_type: int, block: int) -> None:
        """Lock, upgrade or downgrade; whoever can't have an upgrade keeps the read lock."""
        held = self._current(container)
        try:
            wanted = step(held.mode if held else None, lock_type)
        except CCAPIError:
            container.check()  # of one that is gone every call says so first
            raise
        hold = held or Hold(container.server, container.open())
        try:
            _acquire(hold, wanted, container, block)
        finally:
            self._keep(container.key, hold)

    def unlock(self, container: Container) -> None:
        """Let go of a container."""
        if self._current(container) is None:
            raise CCAPIError(container.unlocked)
        self.drop(container.key)

    def drop(self, key: str) -> None:
        """Let go of a container, if it is held."""
        held = self._held.pop(key, None)
        if held is not None:
            held.close()

    def release(self) -> None:
        """Let go of everything."""
        for key in list(self._held):
            self.drop(key)

    def _current(self, container: Container) -> Hold | None:
        """What is held of a container.  What was held of a server before it is nothing."""
        held = self._held.get(container.key)
        if held is not None and held.server is not container.server:
            self.drop(container.key)
            return None
        return held

    def _keep(self, key: str, hold: Hold) -> None:
        if hold.mode is None:
            hold.close()
        if hold.lost:
            self._held.pop(key, None)
        else:
            self._held[key] = hold


def _let_go(held: dict[str, Hold]) -> None:
    for hold in held.values():
        hold.close()


def _acquire(hold: Hold, wanted: Mode, container: Container, block: int) -> None:
    if not try_lock(hold.descriptor, wanted):
        if block == cc.cc_lock_noblock:
            raise CCAPIError(container.busy)
        with Watch(container.server) as watch:
            watch.news()
            hold.lend(lambda d: wait_for_lock(d, wanted, watch, container.check))
    hold.mode = wanted
    try:
        container.check()
    except BaseException:
        hold.close()
        raise


_owners: "weakref.WeakSet[Owner]" = weakref.WeakSet()


def _let_go_in_child() -> None:
    """A forked child holds nothing: else its parent's locks would last until the child ends."""
    for owner in list(_owners):
        owner.release()


os.register_at_fork(after_in_child=_let_go_in_child)
