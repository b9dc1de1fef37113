# SPDX-License-Identifier: MIT
"""The lock of a mountpoint: one `ccfs mount` at a time, and which processes belong to its mount.

The lock is on the directory below the mount, which no path leads to while something is mounted.
Knows flock(2) and record locks (fcntl(2)); never the mount.
"""

from __future__ import annotations

import fcntl

from ccfs.linux import record_locks


def take(directory: int) -> bool:
    """Lock a mountpoint by a descriptor (O_RDONLY) of it; False where it is locked.

    Forked processes share the lock: it lasts until all of them have closed the descriptor.
    """
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sign(directory: int) -> None:
    """Let `holder` find this process, until it ends.

    A record lock belongs to one process, whose pid the kernel reports.  The lock is gone as soon as
    the process closes any descriptor of the directory: list it in another process.
    """
    record_locks.lock_by_process(directory, record_locks.READ)


def holder(directory: int) -> int:
    """Return the pid of a process that has signed, 0 for none (or none of this pid namespace)."""
    return record_locks.holder(directory)
