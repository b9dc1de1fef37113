# SPDX-License-Identifier: MIT
"""Keep clients from writing to the directory below a mount while the mount is being replaced.

fusermount3 can't mount over a dead mount, so that a user's path leads to the directory below for
some milliseconds.  It is closed (mode 0500), except while fusermount3 checks that its user
may write there.  For that time it has directories of mode 0 where Kerberos clients would
write.

Knows modes and names; never the mount.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

BLOCKED = ("by-id", "caches", "default", "dir")
_OPEN, _CLOSED = 0o700, 0o500


def block(directory: int) -> None:
    """Make directories under the names BLOCKED, while a mount still covers `directory`."""
    os.fchmod(directory, _OPEN)
    for name in BLOCKED:
        with suppress(FileExistsError):
            os.mkdir(name, 0, dir_fd=directory)
    os.fchmod(directory, _CLOSED)


def open_for_mount(directory: int) -> None:
    """Make the directory writable: fusermount3 refuses a mountpoint that isn't."""
    os.fchmod(directory, _OPEN)


def close(directory: int) -> None:
    """Empty and close the directory below a mount; once unmounted it can be removed by rmdir(2)."""
    _unblock(directory)
    os.fchmod(directory, _CLOSED)


def restore(directory: int) -> None:
    """Make a directory that was closed writable again; files of others in it stay."""
    if stat.S_IMODE(os.fstat(directory).st_mode) == _CLOSED or _is_blocked(directory):
        os.fchmod(directory, _OPEN)
        _unblock(directory)


def _is_blocked(directory: int) -> bool:
    """True if all directories of `block` are there: a process was killed before `close`."""
    try:
        found = [os.stat(name, dir_fd=directory, follow_symlinks=False) for name in BLOCKED]
    except OSError:
        return False
    return all(stat.S_ISDIR(s.st_mode) and not stat.S_IMODE(s.st_mode) for s in found)


def _unblock(directory: int) -> None:
    for name in BLOCKED:
        with suppress(OSError):
            os.rmdir(name, dir_fd=directory)
