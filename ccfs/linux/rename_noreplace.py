# SPDX-License-Identifier: MIT
"""Rename without replacing anything (renameat2(2), RENAME_NOREPLACE)."""

from __future__ import annotations

import ctypes
import errno
import os

from ccfs.linux.libc import check, libc

RENAME_NOREPLACE = 1
_UNKNOWN = (errno.EINVAL, errno.ENOSYS)
"""What file systems answer that don't know the flag, NFS for one, and C libraries or kernels."""


def rename(name: str, to: str, directory: int) -> None:
    """Rename within a directory (a descriptor).  FileExistsError where there is a `to` already."""
    at = ctypes.c_int(directory)
    old, new = ctypes.c_char_p(os.fsencode(name)), ctypes.c_char_p(os.fsencode(to))
    try:
        check(libc.renameat2(at, old, at, new, ctypes.c_uint(RENAME_NOREPLACE)), to)
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise
        os.link(name, to, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
        os.unlink(name, dir_fd=directory)
