# SPDX-License-Identifier: MIT
"""What can be locked: the collection of a mount, or one ccache.

Knows where a target's `lock` file is and the CCAPI's codes for it, never which locks are held.
"""

import errno
import os
from dataclasses import dataclass

from ccfs.ccapi import constants as cc
from ccfs.ccapi.ccache_by_id import CcacheById
from ccfs.ccapi.mount_client import MountClient

LOCK = "lock"


@dataclass(frozen=True, slots=True)
class LockTarget:
    """A ccache, or without one the collection of a mount."""

    mount: MountClient
    ccache: CcacheById | None = None

    @property
    def key(self) -> str:
        """The ccache's identifier; "" for the collection."""
        return self.ccache.ident if self.ccache else ""

    @property
    def locked_code(self) -> int:
        """The code for a lock that another context holds."""
        return cc.ccErrCCacheLocked if self.ccache else cc.ccErrContextLocked

    @property
    def unlocked_code(self) -> int:
        """The code for an unlock without a lock."""
        return cc.ccErrCCacheUnlocked if self.ccache else cc.ccErrContextUnlocked

    def open(self) -> int:
        """Open the `lock` file and return its descriptor."""
        opener = self.ccache or self.mount
        return opener.open(LOCK, os.O_RDWR)

    def check(self) -> None:
        """Raise OSError if the target is gone, so that its lock means nothing."""
        if self.ccache is None:
            self.mount.ping()
        elif not self.ccache.exists():
            raise OSError(errno.ESTALE, "the ccache is gone")
