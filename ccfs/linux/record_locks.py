# SPDX-License-Identifier: MIT
"""Record locks (fcntl(2)) of whole files: the one place that packs `struct flock`.

A lock of an open file description (F_OFD_SETLK) ends when the last descriptor of that is closed.  A
lock of a process (F_SETLK) ends when the process closes any descriptor of the file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

READ, WRITE = fcntl.F_RDLCK, fcntl.F_WRLCK
_FLOCK = struct.Struct("hhqqi4x")
"""Type, whence, start, length, pid, where off_t has 64 bits; length 0 is up to the end."""
_HELD = (errno.EAGAIN, errno.EACCES)


def try_lock(descriptor: int, kind: int) -> bool:
    """Lock (READ or WRITE) for the open file description; False where another lock is in the way.

    A lock that was held before stays then.  Raises OSError.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _whole_file(kind))
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
    return True


def lock(descriptor: int, kind: int) -> None:
    """Lock for the open file description, however long that takes.  Raises OSError."""
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLKW, _whole_file(kind))


def lock_by_process(descriptor: int, kind: int) -> None:
    """Lock for this process, which `holder` finds in another process.  Raises OSError."""
    fcntl.fcntl(descriptor, fcntl.F_SETLK, _whole_file(kind))


def holder(descriptor: int) -> int:
    """Return the pid of a process that holds a lock by `lock_by_process`; 0 for none.

    0, too, where this pid namespace doesn't have that process.  Raises OSError.
    """
    reply = fcntl.fcntl(descriptor, fcntl.F_GETLK, _whole_file(WRITE))
    kind, _, _, _, pid = _FLOCK.unpack(reply)
    return 0 if kind == fcntl.F_UNLCK else max(int(pid), 0)


def _whole_file(kind: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, 0, 0, 0)
