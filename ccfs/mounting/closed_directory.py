"""A directory below a mount that clients can't write to while the mount is being replaced.

Knows modes and names; never the mount.  fusermount3 can't mount over a dead mount, so a user's path
leads to the directory below for some milliseconds.  It is closed (0500) but for the time in which
fusermount3 asks whether its user may write there, and then empty directories of mode 0 are where
Kerberos clients would write.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

OBSTACLES = ("by-id", "caches", "default", "dir")
_OPEN, _CLOSED = 0o700, 0o500


def put_obstacles(directory: int) -> None:
    """Make the directories, by a descriptor of the directory, while a mount still covers it."""
    os.fchmod(directory, _OPEN)
    for name in OBSTACLES:
        with suppress(FileExistsError):
            os.mkdir(name, 0, dir_fd=directory)
    os.fchmod(directory, _CLOSED)


def open_for_mount(directory: int) -> None:
    """Let fusermount3 have it."""
    os.fchmod(directory, _OPEN)


def close(directory: int) -> None:
    """Close a directory that is covered: it is empty then, and can be removed as any other."""
    _remove_obstacles(directory)
    os.fchmod(directory, _CLOSED)


def restore(directory: int) -> None:
    """Make it an ordinary directory again, if it was closed: what else is there stays."""
    if stat.S_IMODE(os.fstat(directory).st_mode) == _CLOSED or is_closed(directory):
        os.fchmod(directory, _OPEN)
        _remove_obstacles(directory)


def is_closed(directory: int) -> bool:
    """Whether all obstacles are there, as a process has left them that was killed."""
    try:
        found = [os.stat(name, dir_fd=directory, follow_symlinks=False) for name in OBSTACLES]
    except OSError:
        return False
    return all(stat.S_ISDIR(s.st_mode) and not stat.S_IMODE(s.st_mode) for s in found)


def _remove_obstacles(directory: int) -> None:
    for name in OBSTACLES:
        with suppress(OSError):
            os.rmdir(name, dir_fd=directory)
