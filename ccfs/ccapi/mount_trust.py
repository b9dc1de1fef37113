"""Whom a client may trust: what the kernel says of the file system behind a descriptor.

It knows the mount table, never what a mount holds.  Nothing that a file in a mount says counts
here: type, owner and place are the kernel's word, looked up by the mount that a descriptor is of,
so that nobody can put another one in between.
"""

import os

from ccfs.linux import mountinfo


def is_mountpoint(descriptor: int) -> bool:
    """Whether a directory's descriptor is the root of a mount."""
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
    """Whether a descriptor is the root of a ccfs that serves the caller's own uid.

    Its daemon runs as the caller, or as root, who could do anything anyway.
    """
    mount, uid = mountinfo.of_descriptor(descriptor), os.geteuid()
    return (
        mount is not None
        and mount.is_ccfs
        and mount.root == "/"
        and mount.owner in (uid, 0)
        and os.fstat(descriptor).st_uid == uid
    )
