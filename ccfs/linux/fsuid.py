# SPDX-License-Identifier: MIT
"""The file-system uid (credentials(7)): the user whose rights a process has at files.

A daemon that was started by root has the user's; its other uids are those of the service, which the
user can't signal or limit.
"""

from __future__ import annotations

import ctypes

from ccfs.linux.libc import libc

_NONE = ctypes.c_uint32(0xFFFFFFFF)
"""No uid: setfsuid(2) changes nothing then, and returns the present one."""

libc.setfsuid.restype = ctypes.c_uint32


def filesystem_uid() -> int:
    """Return the uid that owns files which this process makes."""
    return int(libc.setfsuid(_NONE))


def set_filesystem_uid(uid: int) -> None:
    """setfsuid(2).  Raises PermissionError where the process may not."""
    libc.setfsuid(ctypes.c_uint32(uid))
    if filesystem_uid() != uid:
        raise PermissionError(f"cannot take the file-system uid {uid}")
