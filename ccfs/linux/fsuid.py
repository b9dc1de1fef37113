"""The user whose rights a process has at files.

That is the file-system uid (credentials(7)): a daemon started by root has the user's, while its
other uids are those of the service, which the user can't signal or limit.
"""

from __future__ import annotations

import ctypes

_NONE = ctypes.c_uint32(0xFFFFFFFF)
"""No uid: setfsuid(2) changes nothing then, and answers what is."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.setfsuid.restype = ctypes.c_uint32


def filesystem_uid() -> int:
    """The uid that owns files which this process makes."""
    return int(_libc.setfsuid(_NONE))


def set_filesystem_uid(uid: int) -> None:
    """setfsuid(2).  PermissionError where the process may not."""
    _libc.setfsuid(ctypes.c_uint32(uid))
    if filesystem_uid() != uid:
        raise PermissionError(f"cannot take the file-system uid {uid}")
