"""mount(2) and umount2(2), by descriptor where a path could change meanwhile.

Knows system calls and /proc/self/fdinfo; never what is mounted.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
PROTECTED = MS_NOSUID | MS_NODEV | MS_NOEXEC

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

_MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 429, 430, 431, 432
"""Numbers of system calls, the same on every architecture (asm-generic/unistd.h)."""
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 1
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
_FROM_EMPTY, _TO_EMPTY, _BENEATH = 0x04, 0x40, 0x200
_OF_SUPERBLOCK = {1: "ro", 16: "sync", 128: "dirsync", 1 << 25: "lazytime"}
_OF_MOUNT = {1: 1, MS_NOSUID: 2, MS_NODEV: 4, MS_NOEXEC: 8, 1024: 0x10, 2048: 0x80, 1 << 24: 0x20}
"""Flags of mount(2), as options for fsconfig(2) and as attributes for fsmount(2)."""

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
    with _directory_above(path) as (directory, name):
        os.close(_open_root(directory, name, mount))
        umount(f"/proc/self/fd/{directory}/{name}", lazy=lazy)


def open_root(path: str, mount: int) -> int:
    """A descriptor (O_PATH) of the root of the mount with this id, the topmost at `path`.

    The file system is asked nothing, so that a dead one doesn't fail.  Raises as `umount_exactly`.
    """
    with _directory_above(path) as (directory, name):
        return _open_root(directory, name, mount)


def mount_beneath(top: int, fstype: str, options: Mapping[str, str | None], flags: int) -> None:
    """Mount beneath the mount whose root `top` (O_PATH) is: then it is seen once that is gone.

    `options`: None as value for one without.  `flags`: as mount(2) takes them.  mount(2) itself
    would lock the root directory of `top`, which a client may hold that waits for a reply.
    Raises OSError: EINVAL before Linux 6.5.
    """
    context = _call(_FSOPEN, os.fsencode(fstype), _FSOPEN_CLOEXEC)
    try:
        for name, value in options.items():
            _configure(context, name, value)
        for flag, name in _OF_SUPERBLOCK.items():
            if flags & flag:
                _configure(context, name, None)
        _call(_FSCONFIG, context, _CREATE, None, None, 0)
        attributes = sum(bit for flag, bit in _OF_MOUNT.items() if flags & flag)
        made = _call(_FSMOUNT, context, _FSMOUNT_CLOEXEC, attributes)
    finally:
        os.close(context)
    try:
        _call(_MOVE_MOUNT, made, b"", top, b"", _FROM_EMPTY | _TO_EMPTY | _BENEATH)
    finally:
        os.close(made)


def _configure(context: int, name: str, value: str | None) -> None:
    command, text = (_SET_FLAG, None) if value is None else (_SET_STRING, os.fsencode(value))
    _call(_FSCONFIG, context, command, name.encode("ascii"), text, 0)


def _call(number: int, *arguments: int | bytes | None) -> int:
    """A system call without a function in the C library; every argument fills a register."""
    given = [
        ctypes.c_char_p(one) if one is None or isinstance(one, bytes) else ctypes.c_long(one)
        for one in arguments
    ]
    result = int(_libc.syscall(ctypes.c_long(number), *given))
    if result < 0:
        raise _error("")
    return result


def mount_id(descriptor: int) -> int:
    """The id of the mount that a descriptor is on (proc(5), fdinfo)."""
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))


@contextmanager
def _directory_above(path: str) -> Iterator[tuple[int, str]]:
    above, name = os.path.split(path)
    directory = os.open(above, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield directory, name
    finally:
        os.close(directory)


def _open_root(directory: int, name: str, mount: int) -> int:
    found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    if mount_id(found) == mount:
        return found
    os.close(found)
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)


def _error(path: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), path)
