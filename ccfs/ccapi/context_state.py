# SPDX-License-Identifier: MIT
"""The state that a context shares with all handles it has made: mount and locks.

Knows whether the context is released, never what was asked through it.
"""

from ccfs.ccapi import constants as cc
from ccfs.ccapi.constants import CCAPIError
from ccfs.ccapi.context_locks import ContextLocks
from ccfs.ccapi.mount_finder import MountFinder


class ContextState:
    """The mount finder and the locks of one context."""

    def __init__(self, finder: MountFinder) -> None:
        self.finder = finder
        self.locks = ContextLocks()
        self._released = False

    def release(self) -> None:
        """Release the context's locks, for good."""
        self._released = True
        self.locks.release()

    def check(self) -> None:
        """Raise ccErrInvalidContext if the context is released: no call would release a lock."""
        if self._released:
            raise CCAPIError(cc.ccErrInvalidContext)
