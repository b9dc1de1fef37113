"""What a daemon hands out: the link to its mount, for a ccfsd that has not started it.

Knows two descriptors and what they must be.  A daemon may have been taken over by its user, and a
descriptor of theirs could have ccfsd wait for a file system that never answers: nothing is asked of
one before the kernel has said what it is.
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
"""File systems that /dev is on: no process answers for them."""


def link(descriptors: list[int]) -> FuseConnection | None:
    """The link that two descriptors are; None, and they are closed, where they are none."""
    try:
        device, shared = descriptors
        made = FuseConnection(device, shared)
        if _is_fuse(device) and _is_shared(shared) and made.can_resend and made.is_alive:
            return made
        why = "not what was asked for"
    except (OSError, ValueError) as error:
        why = str(error)
    log.warning("a daemon that is not to be replaced: %s", why)
    for one in descriptors:
        os.close(one)
    return None


def _is_fuse(device: int) -> bool:
    if overmounts.fstype_of(device) not in _LOCAL:
        return False
    status = os.fstat(device)
    number = os.major(status.st_rdev), os.minor(status.st_rdev)
    return stat.S_ISCHR(status.st_mode) and number == mountpoint.FUSE_NUMBER


def _is_shared(shared: int) -> bool:
    """Whether it is memory that can't be cut; only what is in memory has seals (fcntl(2))."""
    seals = fcntl.fcntl(shared, fcntl.F_GET_SEALS)
    return seals & _SEALS == _SEALS and os.fstat(shared).st_size == SIZE
