# SPDX-License-Identifier: MIT
"""mount(2), umount2(2) and fsmount(2), by descriptor where a path could change meanwhile.

Knows system calls and ids of mounts; never what is mounted.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ccfs.linux.libc import check, libc, syscall
from ccfs.linux.mountinfo import id_of

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

libc.mount.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_ulong, ctypes.c_char_p]
libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]


def mount(source: str, path: str, fstype: str, flags: int, options: str) -> None:
    """mount(2).  Raises OSError."""
    words = [os.fsencode(word) for word in (source, path, fstype)]
    check(libc.mount(*words, flags, os.fsencode(options)), path)


def umount(path: str, *, lazy: bool) -> None:
    """umount2(2) of the topmost mount at `path`, which is no symbolic link.  Raises OSError."""
    flags = UMOUNT_NOFOLLOW | (MNT_DETACH if lazy else 0)
    check(libc.umount2(os.fsencode(path), flags), path)


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
    """Open (O_PATH) the root of the mount with this id, the topmost at `path`.

    The kernel sends the file system no request, so that a dead one doesn't fail.  Raises as
    `umount_exactly`.
    """
    with _directory_above(path) as (directory, name):
        return _open_root(directory, name, mount)


def mount_beneath(top: int, fstype: str, options: Mapping[str, str | None], flags: int) -> None:
    """Mount beneath the mount whose root `top` (O_PATH) is, to be seen once that is unmounted.

    `options`: None is the value of an option without one.  `flags`: as mount(2) takes them.
    mount(2) itself would lock the root directory of `top`, which a client may hold that waits for a
    reply. Raises OSError: EINVAL before Linux 6.5.
    """
    context = syscall(_FSOPEN, os.fsencode(fstype), _FSOPEN_CLOEXEC)
    try:
        for name, value in options.items():
            _configure(context, name, value)
        for flag, name in _OF_SUPERBLOCK.items():
            if flags & flag:
                _configure(context, name, None)
        syscall(_FSCONFIG, context, _CREATE, None, None, 0)
        attributes = sum(bit for flag, bit in _OF_MOUNT.items() if flags & flag)
        detached = syscall(_FSMOUNT, context, _FSMOUNT_CLOEXEC, attributes)
    finally:
        os.close(context)
    try:
        syscall(_MOVE_MOUNT, detached, b"", top, b"", _FROM_EMPTY | _TO_EMPTY | _BENEATH)
    finally:
        os.close(detached)


def _configure(context: int, name: str, value: str | None) -> None:
    command, text = (_SET_FLAG, None) if value is None else (_SET_STRING, os.fsencode(value))
    syscall(_FSCONFIG, context, command, name.encode("ascii"), text, 0)


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
    if id_of(found) == mount:
        return found
    os.close(found)
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)
