# SPDX-License-Identifier: MIT
"""Whether a client may trust a mount, by the kernel's mount table.

Knows the mount table, never what a mount holds.  No file in a mount says whose the mount is: type,
owner and root are looked up by the mount that a descriptor is in, so that no other process can
exchange the mount meanwhile.
"""

import os

from ccfs.linux import mountinfo


def is_mountpoint(descriptor: int) -> bool:
    """True if a directory's descriptor is the root of a mount."""
    above = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=descriptor)
    try:
        return mountinfo.id_of(above) != mountinfo.id_of(descriptor)
    finally:
        os.close(above)


def is_ccfs(descriptor: int) -> bool:
    """True if a descriptor is in a ccfs, of any user."""
    mount = mountinfo.of_descriptor(descriptor)
    return mount is not None and mount.is_ccfs


def is_trusted(descriptor: int) -> bool:
    """True if a descriptor is the root of a ccfs that serves the caller's own uid.

    Its daemon runs as the caller, or as root, which could read the caller's memory anyway.
    """
    mount, uid = mountinfo.of_descriptor(descriptor), os.geteuid()
    return (
        mount is not None
        and mount.is_ccfs
        and mount.root == "/"
        and mount.owner in (uid, 0)
        and os.fstat(descriptor).st_uid == uid
    )
