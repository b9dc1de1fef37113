"""Rename without replacing anything (renameat2(2), RENAME_NOREPLACE)."""

from __future__ import annotations

import ctypes
import errno
import os

RENAME_NOREPLACE = 1
_UNKNOWN = (errno.EINVAL, errno.ENOSYS)
"""What file systems answer that don't know the flag, NFS for one, and C libraries or kernels."""

_libc = ctypes.CDLL(None, use_errno=True)


def rename(name: str, to: str, directory: int) -> None:
    """Rename within a directory (a descriptor).  FileExistsError where there is a `to` already."""
    given = [ctypes.c_int(directory), ctypes.c_char_p(os.fsencode(name))]
    given += [ctypes.c_int(directory), ctypes.c_char_p(os.fsencode(to))]
    if _libc.renameat2(*given, ctypes.c_uint(RENAME_NOREPLACE)) == 0:
        return
    number = ctypes.get_errno()
    if number not in _UNKNOWN:
        raise OSError(number, os.strerror(number), to)
    os.link(name, to, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    os.unlink(name, dir_fd=directory)
