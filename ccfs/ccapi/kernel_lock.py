"""Locks: one owner's hold on one container, as the kernel keeps it.

It knows descriptors of `lock` files, the rules of who may ask for what, and how to wait; never what
is locked.  The locks are those of an open file description (fcntl(2), F_OFD_SETLK): they go when
the last descriptor does, so the kernel releases those of the dead.
"""

import os
import threading
from collections.abc import Callable
from enum import Enum

from ccfs.ccapi import constants as cc
from ccfs.ccapi.constants import CCAPIError
from ccfs.ccapi.watching import Watch
from ccfs.linux import record_locks


class Mode(Enum):
    """What an owner holds."""

    READ = record_locks.READ
    WRITE = record_locks.WRITE


STEPS: dict[tuple[Mode | None, int], Mode] = {
    (None, cc.cc_lock_read): Mode.READ,
    (None, cc.cc_lock_write): Mode.WRITE,
    (Mode.READ, cc.cc_lock_upgrade): Mode.WRITE,
    (Mode.WRITE, cc.cc_lock_downgrade): Mode.READ,
}
"""What an owner who holds the one may ask for, and what it holds then.  All else is refused."""


def step(held: Mode | None, lock_type: int) -> Mode:
    """What a request leads to; ccErrBadLockType."""
    wanted = STEPS.get((held, lock_type))
    if wanted is None:
        raise CCAPIError(cc.ccErrBadLockType)
    return wanted


def try_lock(descriptor: int, wanted: Mode) -> bool:
    """Lock if that can be at once; what was held before stays held otherwise."""
    return record_locks.try_lock(descriptor, wanted.value)


def wait_for_lock(descriptor: int, wanted: Mode, watch: Watch, check: Callable[[], None]) -> None:
    """Lock, however long that takes.

    `check()` runs whenever something has changed, and ends the waiting by raising: the container is
    gone, or its server.  Where this raises, the descriptor is closed, with what was held through
    it, now or as soon as the kernel lets go of it.
    """
    attempt = _Attempt(descriptor, wanted)
    try:
        while not attempt.finished:
            check()
            watch.wait(attempt.signal)
    except BaseException:
        attempt.abandon()
        raise
    attempt.result()


class _Attempt:
    """A thread that waits in the kernel for a lock: nothing can call it back from there.

    So whoever no longer wants the lock leaves the descriptor to it, to be closed once it returns.
    """

    def __init__(self, descriptor: int, wanted: Mode) -> None:
        self.signal = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.finished = False
        self._descriptor = descriptor
        self._wanted = wanted
        self._mutex = threading.Lock()
        self._abandoned = False
        self._error: OSError | None = None
        threading.Thread(target=self._run, name="ccapi-lock", daemon=True).start()

    def _run(self) -> None:
        try:
            record_locks.lock(self._descriptor, self._wanted.value)
        except OSError as error:
            self._error = error
        with self._mutex:
            self.finished = True
            if self._abandoned:
                self._close()
            else:
                os.eventfd_write(self.signal, 1)

    def abandon(self) -> None:
        """Have the lock released as soon as it is granted, and now if it is."""
        with self._mutex:
            self._abandoned = True
            if self.finished:
                self._close()

    def result(self) -> None:
        """Raise what went wrong."""
        with self._mutex:  # the thread has set `finished`, and may not have sent its signal yet
            if self._error is not None:
                self._close()
                raise self._error
            os.close(self.signal)

    def _close(self) -> None:
        os.close(self._descriptor)
        os.close(self.signal)
