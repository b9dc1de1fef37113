"""mount(2) and umount2(2), by descriptor where a path could change meanwhile.

Knows system calls and /proc/self/fdinfo; never what is mounted.
"""

from __future__ import annotations

import ctypes
import errno
import os

MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
PROTECTED = MS_NOSUID | MS_NODEV | MS_NOEXEC

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_ulong, ctypes.c_char_p]
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]


def mount(source: str, path: str, fstype: str, flags: int, options: str) -> None:
    """mount(2).  Raises OSError."""
    given = [os.fsencode(word) for word in (source, path, fstype)]
    if _libc.mount(*given, flags, os.fsencode(options)) != 0:
        raise _error(path)


def umount(path: str, *, lazy: bool) -> None:
    """umount2(2) of the topmost mount at `path`, no link followed.  Raises OSError."""
    flags = UMOUNT_NOFOLLOW | (MNT_DETACH if lazy else 0)
    if _libc.umount2(os.fsencode(path), flags) != 0:
        raise _error(path)


def umount_exactly(path: str, mount: int, *, lazy: bool) -> None:
    """Unmount the mount with this id (proc(5), mountinfo), which is the topmost at `path`.

    The id is compared below a descriptor of the directory above.  Whatever is done to the path
    meanwhile: a directory that is mounted on can't be renamed or removed there.
    Raises OSError, EINVAL where another mount is at that path.
    """
    above, name = os.path.split(path)
    directory = os.open(above, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _id_at(name, directory) != mount:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        umount(f"/proc/self/fd/{directory}/{name}", lazy=lazy)
    finally:
        os.close(directory)


def mount_id(descriptor: int) -> int:
    """The id of the mount that a descriptor is on (proc(5), fdinfo)."""
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))


def _id_at(name: str, directory: int) -> int:
    # O_PATH asks the file system of the mount nothing, so a dead one doesn't fail here.
    found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        return mount_id(found)
    finally:
        os.close(found)


def _error(path: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), path)
