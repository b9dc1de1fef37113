"""Where a journal is kept: choosing the place, checking it, wiping it.

Knows files, owners and kinds of file systems; never what a journal holds.  A journal is the file at
PATH; PATH.new is one that is to take its place.  Those of version 4 had other files beside.
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


def choose(mountpoint: str, wanted: str | None, *, on_disk: bool) -> str:
    """The path of the journal for a mountpoint; its directory exists afterwards, 0700 and ours.

    `wanted`: the path that was asked for.  Without one: below $XDG_RUNTIME_DIR where that is in
    memory; else below /dev/shm, under a random name, or the one found there of this mountpoint.
    Raises JournalError where the place can't be trusted with secrets.
    """
    if wanted is not None:
        path = os.path.abspath(wanted)
        check_directory(os.path.dirname(path), on_disk=on_disk)
        return path
    runtime = runtime_directory()
    if runtime:
        directory = os.path.join(runtime, _PREFIX + _mark(mountpoint))
        with suppress(FileExistsError):
            os.mkdir(directory, 0o700)
    else:
        directory = (*_found(mountpoint, filesystem_uid()), "")[0] or _made(mountpoint)
    check_directory(directory, on_disk=on_disk)
    return os.path.join(directory, _NAME)


def runtime_directory() -> str:
    """$XDG_RUNTIME_DIR where that is ours and in memory; else ""."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    try:
        mine = bool(runtime) and os.stat(runtime).st_uid == filesystem_uid()
    except OSError:
        return ""
    return runtime if mine and in_memory(runtime) else ""


def check_directory(directory: str, *, on_disk: bool) -> None:
    """JournalError unless a directory is ours alone and, unless `on_disk`, in memory."""
    try:
        status = os.lstat(directory)
    except OSError as error:
        raise JournalError(
            f"cannot use {directory} for the journal: {_why(error)}",
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
    """Whether there is a journal; JournalError where what is there is not our own file."""
    there = False
    for part in _PARTS:
        try:
            status = os.lstat(path + part)
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise JournalError(f"{path + part} is not a regular file", "see who put it there")
        if status.st_uid != filesystem_uid():
            raise JournalError(f"{path + part} belongs to uid {status.st_uid}", "name another")
        there = there or not part
    return there


def in_memory(path: str) -> bool:
    """Whether a file system has no disk under it (swap aside)."""
    device = os.stat(path).st_dev
    found = next((mount for mount in mountinfo.mounts() if mount.device_number == device), None)
    return found is not None and found.fstype in MEMORY


def holder(path: str) -> int:
    """The process that has the journal open, 0 where that can't be told (fcntl(2), F_GETLK)."""
    try:
        with open(path, "r+b") as file:
            return record_locks.holder(file.fileno())
    except OSError:
        return 0


def wipe(path: str) -> None:
    """Overwrite and remove a journal; also its directory, where that was made for it."""
    for part in _PARTS:
        with suppress(FileNotFoundError):
            _overwrite(path + part)
            os.unlink(path + part)
    directory, name = os.path.split(path)
    if name == _NAME and os.path.basename(directory).startswith(_PREFIX):
        with suppress(OSError):
            os.rmdir(directory)


def wipe_all(mountpoint: str, uid: int) -> list[str]:
    """Wipe the journals that a user's mount has left at the places where `choose` puts them.

    Returns the paths of damaged ones, which were set aside and are kept.
    """
    kept = []
    for directory in _places(mountpoint, uid):
        wipe(os.path.join(directory, _NAME))
        with suppress(FileNotFoundError):
            kept += [
                os.path.join(directory, name)
                for name in sorted(os.listdir(directory))
                if name.startswith(f"{_NAME}.damaged-") and not name.endswith(_PARTS[1:])
            ]
    return kept


def _places(mountpoint: str, uid: int) -> list[str]:
    """The directories of journals of a user's mount."""
    runtime = {os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{uid}"} - {""}
    places = [os.path.join(one, _PREFIX + _mark(mountpoint)) for one in sorted(runtime)]
    return [place for place in places if _is_directory_of(place, uid)] + _found(mountpoint, uid)


def set_aside(path: str) -> str:
    """Keep a journal that can't be used under another name, and return that."""
    aside = f"{path}.damaged-{time.time_ns() // 1_000_000}"
    for part in _PARTS:
        with suppress(FileNotFoundError):
            os.rename(path + part, aside + part)
    return aside


def _mark(mountpoint: str) -> str:
    return sha256(mountpoint.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _found(mountpoint: str, uid: int) -> list[str]:
    """The directories in shared memory that earlier mounts here have left, if they are the user's.

    Any user can make and remove names there.
    """
    prefix = f"{_PREFIX}{_mark(mountpoint)}-"
    with os.scandir(SHARED) as entries:
        paths = [entry.path for entry in entries if entry.name.startswith(prefix)]
    return [path for path in sorted(paths) if _is_directory_of(path, uid)]


def _is_directory_of(path: str, uid: int) -> bool:
    """Whether a directory is there, and is a user's."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == uid


def _made(mountpoint: str) -> str:
    return tempfile.mkdtemp(prefix=f"{_PREFIX}{_mark(mountpoint)}-", dir=SHARED)


def overwrite(descriptor: int) -> None:
    """Overwrite all of an open file that is at its beginning.  Raises OSError."""
    left = os.fstat(descriptor).st_size
    while left > 0:
        left -= os.write(descriptor, bytes(min(left, 1 << 20)))


def _overwrite(path: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        overwrite(descriptor)
    finally:
        os.close(descriptor)


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
