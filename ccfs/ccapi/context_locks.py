# SPDX-License-Identifier: MIT
"""The locks of one context: on the collection and on ccaches, each through one descriptor.

Knows which target is locked in which mode, never what a target holds.
"""

import os
import weakref
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from ccfs.ccapi import constants as cc
from ccfs.ccapi.constants import CCAPIError
from ccfs.ccapi.event_log import EventLog
from ccfs.ccapi.kernel_lock import Mode, next_mode, try_lock, wait_for_lock
from ccfs.ccapi.lock_target import LockTarget
from ccfs.ccapi.mount_client import MountClient


@dataclass(slots=True)
class HeldLock:
    """A descriptor of a `lock` file, and the mode that is held through it; None for no lock."""

    mount: MountClient
    descriptor: int
    mode: Mode | None = None

    @property
    def is_lost(self) -> bool:
        """True if the descriptor is closed, or another function closes it."""
        return self.descriptor < 0

    def close(self) -> None:
        """Release the lock by closing the descriptor."""
        if not self.is_lost:
            os.close(self.descriptor)
            self.descriptor = -1

    def lend(self, use: Callable[[int], None]) -> None:
        """Call `use` with the descriptor, which `use` closes if it raises."""
        descriptor, self.descriptor = self.descriptor, -1
        use(descriptor)
        self.descriptor = descriptor


class ContextLocks:
    """The locks that one context holds.  Methods raise OSError, and CCAPIError for refusals."""

    def __init__(self) -> None:
        self._held: dict[str, HeldLock] = {}
        _all_locks.add(self)
        # A thread may end without releasing its context: then no other code closes these.
        weakref.finalize(self, _close_all, self._held)

    def lock(self, target: LockTarget, lock_type: int, block: int) -> None:
        """Lock, upgrade or downgrade; the read lock stays if an upgrade is impossible."""
        held = self._current(target)
        try:
            mode = next_mode(held.mode if held else None, lock_type)
        except CCAPIError:
            target.check()  # a target that is gone has an error of its own, which goes first
            raise
        lock = held or HeldLock(target.mount, target.open())
        try:
            _acquire(lock, mode, target, block)
        finally:
            self._remember(target.key, lock)

    def unlock(self, target: LockTarget) -> None:
        """Release the lock of a target."""
        if self._current(target) is None:
            raise CCAPIError(target.unlocked_code)
        self.drop(target.key)

    def drop(self, key: str) -> None:
        """Release the lock of a target if it is held."""
        held = self._held.pop(key, None)
        if held is not None:
            held.close()

    def release(self) -> None:
        """Release all locks."""
        for key in list(self._held):
            self.drop(key)

    def _current(self, target: LockTarget) -> HeldLock | None:
        """Return the lock that is held of a target; one of an earlier mount is dropped."""
        held = self._held.get(target.key)
        if held is not None and held.mount is not target.mount:
            self.drop(target.key)
            return None
        return held

    def _remember(self, key: str, lock: HeldLock) -> None:
        if lock.mode is None:
            lock.close()
        if lock.is_lost:
            self._held.pop(key, None)
        else:
            self._held[key] = lock


def _close_all(held: dict[str, HeldLock]) -> None:
    for lock in held.values():
        lock.close()


def _acquire(lock: HeldLock, mode: Mode, target: LockTarget, block: int) -> None:
    if not try_lock(lock.descriptor, mode):
        if block == cc.cc_lock_noblock:
            raise CCAPIError(target.locked_code)
        with closing(EventLog(target.mount)) as log:
            log.read_new()
            lock.lend(lambda descriptor: wait_for_lock(descriptor, mode, log, target.check))
    lock.mode = mode
    try:
        target.check()
    except BaseException:
        lock.close()
        raise


_all_locks: "weakref.WeakSet[ContextLocks]" = weakref.WeakSet()


def _release_in_child() -> None:
    """Release all locks in a forked child: they would last until it ends, after its parent."""
    for locks in list(_all_locks):
        locks.release()


os.register_at_fork(after_in_child=_release_in_child)
