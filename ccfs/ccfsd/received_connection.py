# SPDX-License-Identifier: MIT
"""The FUSE connection that a daemon sends to a ccfsd which has not started it.

Knows two descriptors and what they must be.  A daemon may have been taken over by its user, whose
descriptor could have ccfsd wait for a file system that never answers: nothing is done with a
descriptor before the kernel has said what it is of.
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat

from ccfs.linux import overmounts
from ccfs.mounting import mountpoint
from ccfs.takeover.fuse_connection import FuseConnection
from ccfs.takeover.handover import SIZE

log = logging.getLogger(__name__)

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
_LOCAL = ("devtmpfs", "tmpfs", "ramfs", "overlay", "ext4", "xfs", "btrfs")
"""File systems that /dev is on: none of them is served by a process."""


def checked(descriptors: list[int]) -> FuseConnection | None:
    """Return the FUSE connection of two descriptors; else close them, and return None."""
    try:
        device, shared = descriptors
        connection = FuseConnection(device, shared)
        is_sound = _is_fuse(device) and _is_shared(shared)
        if is_sound and connection.can_resend and connection.is_alive:
            return connection
        why = "not what was asked for"
    except (OSError, ValueError) as error:
        why = str(error)
    log.warning("a daemon that is not to be replaced: %s", why)
    for descriptor in descriptors:
        os.close(descriptor)
    return None


def _is_fuse(device: int) -> bool:
    if overmounts.fstype_of(device) not in _LOCAL:
        return False
    status = os.fstat(device)
    number = os.major(status.st_rdev), os.minor(status.st_rdev)
    return stat.S_ISCHR(status.st_mode) and number == mountpoint.FUSE_NUMBER


def _is_shared(shared: int) -> bool:
    """True for memory that can't be cut; only files in memory have seals (fcntl(2))."""
    seals = fcntl.fcntl(shared, fcntl.F_GET_SEALS)
    return seals & _SEALS == _SEALS and os.fstat(shared).st_size == SIZE
