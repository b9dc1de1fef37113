# SPDX-License-Identifier: MIT
"""The directory of a mount's journal: choose it, check it, wipe it.

Knows files, owners and types of file systems; never what a journal holds.  A journal is the file at
PATH; PATH.new is a log that is to replace it.  Journals of version 4 had other files, too.
"""

from __future__ import annotations

import os
import stat
import tempfile
import time
from contextlib import suppress
from hashlib import sha256

from ccfs.errors import JournalError
from ccfs.linux import mountinfo, record_locks
from ccfs.linux.fsuid import filesystem_uid

MEMORY = ("tmpfs", "ramfs")
SHARED = "/dev/shm"  # noqa: S108 - what is made there has a random name, 0700
_PREFIX = "ccfs-journal-"
_NAME = "journal"
_PARTS = ("", ".new", "-wal", "-step", "-shm", "-journal")


def choose(mountpoint: str, requested: str | None, *, on_disk: bool) -> str:
    """Return the path of the journal for a mountpoint, in a directory of the user's, mode 0700.

    `requested`: the path from the command line.  Without one the directory is below
    $XDG_RUNTIME_DIR, where that is in memory, else below /dev/shm, under a random name; one that an
    earlier mount at this mountpoint left there is used again.  JournalError where the directory
    can't be trusted with secrets.
    """
    if requested is not None:
        path = os.path.abspath(requested)
        check_directory(os.path.dirname(path), on_disk=on_disk)
        return path
    runtime = runtime_directory()
    if runtime:
        directory = os.path.join(runtime, _PREFIX + _mountpoint_hash(mountpoint))
        with suppress(FileExistsError):
            os.mkdir(directory, 0o700)
    else:
        directory = (*_shared_directories(mountpoint, filesystem_uid()), "")[
            0
        ] or _make_shared_directory(mountpoint)
    check_directory(directory, on_disk=on_disk)
    return os.path.join(directory, _NAME)


def runtime_directory() -> str:
    """$XDG_RUNTIME_DIR where that is the user's own and in memory; else ""."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    try:
        own = bool(runtime) and os.stat(runtime).st_uid == filesystem_uid()
    except OSError:
        return ""
    return runtime if own and in_memory(runtime) else ""


def check_directory(directory: str, *, on_disk: bool) -> None:
    """Raise JournalError unless a directory is the user's, 0700, and (or `on_disk`) in memory."""
    try:
        status = os.lstat(directory)
    except OSError as error:
        raise JournalError(
            f"cannot use {directory} for the journal: {_reason(error)}",
            "name a path in a directory of yours",
        ) from None
    if not stat.S_ISDIR(status.st_mode):
        raise JournalError(f"{directory} is not a directory", "name a path in a directory of yours")
    if status.st_uid != filesystem_uid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise JournalError(
            f"{directory} is not yours alone", "name a path in a directory of yours with mode 0700"
        )
    if not on_disk and not in_memory(directory):
        raise JournalError(
            f"{directory} is on a disk, where secrets would stay",
            "name a path on a tmpfs, or add '--journal-on-disk' or '--no-journal'",
        )


def check_file(path: str) -> bool:
    """Whether there is a journal; JournalError where a file of it is not the user's own."""
    exists = False
    for part in _PARTS:
        try:
            status = os.lstat(path + part)
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise JournalError(f"{path + part} is not a regular file", "see who put it there")
        if status.st_uid != filesystem_uid():
            raise JournalError(f"{path + part} belongs to uid {status.st_uid}", "name another")
        exists = exists or not part
    return exists


def in_memory(path: str) -> bool:
    """Whether a path is on a file system in memory, which may be swapped."""
    device = os.stat(path).st_dev
    mount = next((m for m in mountinfo.mounts() if m.device_number == device), None)
    return mount is not None and mount.fstype in MEMORY


def holder(path: str) -> int:
    """The pid of the process that has the journal locked; 0 where the kernel doesn't say it."""
    try:
        with open(path, "r+b") as file:
            return record_locks.holder(file.fileno())
    except OSError:
        return 0


def wipe(path: str) -> None:
    """Overwrite and remove a journal, and its directory, if `choose` made that."""
    for part in _PARTS:
        with suppress(FileNotFoundError):
            _overwrite(path + part)
            os.unlink(path + part)
    directory, name = os.path.split(path)
    if name == _NAME and os.path.basename(directory).startswith(_PREFIX):
        with suppress(OSError):
            os.rmdir(directory)


def wipe_all(mountpoint: str, uid: int) -> list[str]:
    """Wipe the journals that a user's mount has left in directories of `choose`.

    Returns the paths of damaged ones that were set aside, which stay.
    """
    damaged = []
    for directory in _directories(mountpoint, uid):
        wipe(os.path.join(directory, _NAME))
        with suppress(FileNotFoundError):
            damaged += [
                os.path.join(directory, name)
                for name in sorted(os.listdir(directory))
                if name.startswith(f"{_NAME}.damaged-") and not name.endswith(_PARTS[1:])
            ]
    return damaged


def _directories(mountpoint: str, uid: int) -> list[str]:
    """The directories that journals of a user's mount may be in."""
    runtime = {os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{uid}"} - {""}
    name = _PREFIX + _mountpoint_hash(mountpoint)
    paths = [os.path.join(parent, name) for parent in sorted(runtime)]
    own = [path for path in paths if _is_directory_of(path, uid)]
    return own + _shared_directories(mountpoint, uid)


def set_aside(path: str) -> str:
    """Rename a journal that can't be used, and return its new path."""
    aside = f"{path}.damaged-{time.time_ns() // 1_000_000}"
    for part in _PARTS:
        with suppress(FileNotFoundError):
            os.rename(path + part, aside + part)
    return aside


def _mountpoint_hash(mountpoint: str) -> str:
    return sha256(mountpoint.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _shared_directories(mountpoint: str, uid: int) -> list[str]:
    """The directories in /dev/shm that earlier mounts at a mountpoint have left.

    Only the user's own: any user can make and remove names there.
    """
    prefix = f"{_PREFIX}{_mountpoint_hash(mountpoint)}-"
    with os.scandir(SHARED) as entries:
        paths = [entry.path for entry in entries if entry.name.startswith(prefix)]
    return [path for path in sorted(paths) if _is_directory_of(path, uid)]


def _is_directory_of(path: str, uid: int) -> bool:
    """Whether a path is a directory that a user owns."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == uid


def _make_shared_directory(mountpoint: str) -> str:
    return tempfile.mkdtemp(prefix=f"{_PREFIX}{_mountpoint_hash(mountpoint)}-", dir=SHARED)


def overwrite(descriptor: int) -> None:
    """Overwrite an open file, whose offset is 0, with zeros.  Raises OSError."""
    remaining = os.fstat(descriptor).st_size
    while remaining > 0:
        remaining -= os.write(descriptor, bytes(min(remaining, 1 << 20)))


def _overwrite(path: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        overwrite(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
