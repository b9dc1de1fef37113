# SPDX-License-Identifier: MIT
"""Locks of the CCAPI as locks of the kernel on `lock` files.

Knows descriptors, which lock may follow which, and how to wait; never what is locked.  They are
locks of an open file description (fcntl(2), F_OFD_SETLK): they end with its last descriptor, so
that the kernel releases those of a dead process.
"""

import os
import threading
from collections.abc import Callable
from enum import Enum

from ccfs.ccapi import constants as cc
from ccfs.ccapi.constants import CCAPIError
from ccfs.ccapi.event_log import EventLog
from ccfs.linux import record_locks


class Mode(Enum):
    """The mode of a lock that is held."""

    READ = record_locks.READ
    WRITE = record_locks.WRITE


TRANSITIONS: dict[tuple[Mode | None, int], Mode] = {
    (None, cc.cc_lock_read): Mode.READ,
    (None, cc.cc_lock_write): Mode.WRITE,
    (Mode.READ, cc.cc_lock_upgrade): Mode.WRITE,
    (Mode.WRITE, cc.cc_lock_downgrade): Mode.READ,
}
"""The mode after a request, by the mode that is held and the request.  All others are refused."""


def next_mode(held: Mode | None, lock_type: int) -> Mode:
    """Return the mode that a request leads to; ccErrBadLockType."""
    mode = TRANSITIONS.get((held, lock_type))
    if mode is None:
        raise CCAPIError(cc.ccErrBadLockType)
    return mode


def try_lock(descriptor: int, mode: Mode) -> bool:
    """Lock without waiting; on False the lock that was held before stays held."""
    return record_locks.try_lock(descriptor, mode.value)


def wait_for_lock(descriptor: int, mode: Mode, log: EventLog, check: Callable[[], None]) -> None:
    """Lock, however long that takes.

    `check()` runs whenever something has changed, and ends the wait by raising: the ccache or the
    mount is gone.  If this function raises, the descriptor is closed, with the lock that was held
    through it: at once, or as soon as the kernel returns from the wait.
    """
    attempt = _Attempt(descriptor, mode)
    try:
        while not attempt.finished:
            check()
            log.wait(attempt.signal)
    except BaseException:
        attempt.abandon()
        raise
    attempt.result()


class _Attempt:
    """A thread that waits in the kernel for a lock, where nothing can interrupt it.

    A caller that gives up leaves the descriptor to the thread, which closes it when it returns.
    """

    def __init__(self, descriptor: int, mode: Mode) -> None:
        self.signal = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.finished = False
        self._descriptor = descriptor
        self._mode = mode
        self._mutex = threading.Lock()
        self._abandoned = False
        self._error: OSError | None = None
        threading.Thread(target=self._run, name="ccapi-lock", daemon=True).start()

    def _run(self) -> None:
        try:
            record_locks.lock(self._descriptor, self._mode.value)
        except OSError as error:
            self._error = error
        with self._mutex:
            self.finished = True
            if self._abandoned:
                self._close()
            else:
                os.eventfd_write(self.signal, 1)

    def abandon(self) -> None:
        """Have the lock released: now if it is granted, else as soon as it is."""
        with self._mutex:
            self._abandoned = True
            if self.finished:
                self._close()

    def result(self) -> None:
        """Raise the error of the attempt, if there was one."""
        with self._mutex:  # the thread sets `finished` before it sends its signal
            if self._error is not None:
                self._close()
                raise self._error
            os.close(self.signal)

    def _close(self) -> None:
        os.close(self._descriptor)
        os.close(self.signal)
