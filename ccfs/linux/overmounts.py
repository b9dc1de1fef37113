# SPDX-License-Identifier: MIT
"""Paths that a user may have covered with a mount of their own (fusermount3).

A user's file system may not answer, and a process that waits for it can't even be killed: ccfsd
looks into none.  A path lookup asks a mounted file system nothing as long as only a descriptor is
wanted (O_PATH).

Knows the kernel's mount table and openat2(2); never what is mounted.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_uint64, sizeof

from ccfs.linux import mountinfo
from ccfs.linux.libc import syscall

_OPENAT2 = 437
_RESOLVE_NO_XDEV = 1
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_How = c_uint64 * 3
"""struct open_how: flags, mode, resolve."""


@contextmanager
def below(directory: int, name: str) -> Iterator[int]:
    """Open (O_PATH) a name in a directory.  OSError with EXDEV where a mount covers it."""
    how = _How(_LOOK, 0, _RESOLVE_NO_XDEV)
    found = syscall(_OPENAT2, directory, os.fsencode(name), how, sizeof(how), path=name)
    try:
        yield found
    finally:
        os.close(found)


@contextmanager
def directory(path: str) -> Iterator[int]:
    """Open (O_PATH) the directory that a path leads to now, which may be a mount's root."""
    found = os.open(path, _LOOK | os.O_DIRECTORY)
    try:
        yield found
    finally:
        os.close(found)


def exists_on(path: str, fstype: str) -> bool:
    """True if `path` exists and its directory is the root of a file system of that type."""
    parent, name = os.path.split(path)
    try:
        with directory(parent) as found:
            if fstype_of(found) != fstype:
                return False
            with below(found, name):
                return True
    except OSError as error:
        return error.errno == errno.EXDEV


def fstype_of(descriptor: int) -> str:
    """Return the type of the file system of a descriptor; "" for another namespace's mount."""
    mount = mountinfo.of_descriptor(descriptor)
    return mount.fstype if mount else ""
