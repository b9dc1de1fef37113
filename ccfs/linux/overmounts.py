"""Places that a user may have covered with a mount of their own (fusermount3).

Knows the kernel's mount table and openat2(2); never what is mounted.  A file system of a user's may
not answer, and whoever waits for it can't be killed: ccfsd looks into none.  A path is looked up
without an answer of what is mounted there as long as only its descriptor is wanted (O_PATH).
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

_OPENAT2 = 437
_RESOLVE_NO_XDEV = 1
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_How = ctypes.c_uint64 * 3

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def below(directory: int, name: str) -> Iterator[int]:
    """A descriptor (O_PATH) of a name in a directory.  OSError EXDEV where a mount covers it."""
    how = _How(_LOOK, 0, _RESOLVE_NO_XDEV)
    # The kernel takes a pointer and a size as the last two; every argument fills a register.
    found = _libc.syscall(
        ctypes.c_long(_OPENAT2),
        ctypes.c_long(directory),
        ctypes.c_char_p(os.fsencode(name)),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    try:
        yield found
    finally:
        os.close(found)


@contextmanager
def directory(path: str) -> Iterator[int]:
    """A descriptor (O_PATH) of what is at a path now, or mounted on it."""
    found = os.open(path, _LOOK | os.O_DIRECTORY)
    try:
        yield found
    finally:
        os.close(found)


def is_there(path: str, fstype: str) -> bool:
    """Whether something is at a path whose directory is the root of a file system of that type."""
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
    """The type of the file system that a descriptor is on, by its mount (proc(5), fdinfo).

    "" for a mount of another namespace's.
    """
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:
        mount = next(line.split()[1] for line in file if line.startswith("mnt_id:"))
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            if line.startswith(mount + " "):
                return line.partition(" - ")[2].split(" ")[0]
    return ""
