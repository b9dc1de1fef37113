# SPDX-License-Identifier: MIT
"""The directory to mount on: created, checked, opened once and locked.

From here on the directory is the one that was opened: root must not be led to another by a user who
can change the path.

Knows what a directory must be for a mount; never the mount.
"""

from __future__ import annotations

import os
import resource
import stat
import time
from contextlib import suppress

from ccfs.errors import AlreadyMountedError, MountError, MountpointError
from ccfs.linux import mountinfo, trusted_paths
from ccfs.linux.trusted_paths import UntrustedPathError
from ccfs.mounting import closed_directory, mount_lock, mountpoint

LOCK_SECONDS = 5.0
"""That an earlier mount of the same directory has to end, or another start to get ready."""
LOCK_RETRY = 0.01
"""Seconds."""
DESCRIPTORS = 64
"""What a daemon, its supervisor and its notifier need to start, and to end in order, and more."""
KERBEROS_NAMES = ("dir", "default", "caches", "primary", "tkt", "ccache")
"""Beginnings of names that Kerberos clients write where KRB5CCNAME names a ccfs."""

_OWN_HINT = "name a directory of yours"
_ROOT_HINT = "name a path that only root can change; for a user's: mount -t ccfs -o user=USER"


def resolve(path: str) -> str:
    """Make `path` absolute and free of symbolic links; root follows none that a user can change.

    Raises MountpointError.
    """
    absolute = os.path.abspath(path)
    if os.geteuid() != 0:
        return mountpoint.resolve(absolute)
    parent, name = os.path.split(absolute)
    try:
        with suppress(FileNotFoundError):
            return trusted_paths.resolve(absolute)
        return os.path.join(trusted_paths.resolve(parent), name)
    except (UntrustedPathError, OSError) as error:
        raise _unfit(absolute, error) from None


def check_descriptors() -> None:
    """Raise MountError where the limit of open files is too low: a start would fail half-way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < DESCRIPTORS:
        raise MountError(
            f"only {hard} files may be open, {DESCRIPTORS} are needed",
            f"raise the limit: 'ulimit -n {DESCRIPTORS}'",
        )
    if 0 <= soft < DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))


def check_trusted(path: str) -> None:
    """Raise MountpointError where root would use a path that another user can change."""
    if os.geteuid() != 0:
        return
    try:
        os.close(trusted_paths.open_directory(os.path.dirname(path), (0,), private=True))
    except UntrustedPathError as error:
        raise MountpointError(f"root can't use {path}: {error}", _ROOT_HINT) from None
    except OSError:  # reported where the path is used
        return


def prepare(path: str) -> int:
    """Make `path` (of `resolve`) a directory to mount on, and lock it.

    Returns a descriptor of it, which holds the lock.  Raises MountpointError, AlreadyMountedError.
    """
    other = mountinfo.topmost(path)
    if other is not None:
        _refuse_ccfs(path)
        raise MountpointError(
            f"{path} is busy: a file system of type {other.fstype} is mounted there",
            "unmount that, or name another mountpoint",
        )
    try:
        directory = _create(path)
    except (UntrustedPathError, OSError) as error:
        _refuse_ccfs(path)  # mounted meanwhile
        raise _unfit(path, error) from None
    try:
        _check_owner(path, directory)
        _lock(path, directory)
        _check_empty(path, directory)
    except BaseException:
        os.close(directory)
        _refuse_ccfs(path)
        raise
    return directory


def open_for_user(path: str, uid: int) -> int:
    """Open and lock a directory of root's or the user's, which root mounts on for the user.

    Returns as `prepare`.  Raises MountpointError, AlreadyMountedError.
    """
    try:
        directory = trusted_paths.open_directory(path, (0, uid), private=False)
    except (FileNotFoundError, NotADirectoryError):
        raise MountpointError(f"{path} is not a directory", "make it, or name another") from None
    except (UntrustedPathError, OSError) as error:
        raise _unfit(path, error) from None
    try:
        _lock(path, directory)
    except BaseException:
        os.close(directory)
        raise
    return directory


def names_below(directory: int) -> list[str]:
    """Return the names in the directory below a mount, by its descriptor."""
    return sorted(os.listdir(directory))


def _create(path: str) -> int:
    if os.geteuid() == 0:
        parent = trusted_paths.open_directory(os.path.dirname(path), (0,), private=True)
        try:
            _create_in(os.path.basename(path), parent)
        finally:
            os.close(parent)
        return trusted_paths.open_directory(path, (0,), private=True)
    _create_in(path, None)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _create_in(name: str, parent: int | None) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise NotADirectoryError from None


def _lock(path: str, directory: int) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while not mount_lock.take(directory):
        mount = mountinfo.topmost(path)
        if (
            mount is not None
            and mount.is_ccfs
            and mountpoint.probe(mount) is mountpoint.State.ALIVE
        ):
            raise AlreadyMountedError(
                f"a ccfs is mounted at {path} already", "use it: see 'ccfs env'"
            )
        if time.monotonic() > deadline:
            pid = mount_lock.holder(directory)
            holder = f"process {pid} still serves" if pid else "another process mounts, or serves,"
            raise AlreadyMountedError(
                f"{holder} a ccfs for {path}", "end it, or name another directory"
            )
        time.sleep(LOCK_RETRY)
    _refuse_ccfs(path)


def _refuse_ccfs(path: str) -> None:
    """Raise AlreadyMountedError where a ccfs is mounted."""
    mount = mountinfo.topmost(path)
    if mount is not None and mount.is_ccfs:
        raise AlreadyMountedError(f"a ccfs is mounted at {path} already", "use it: see 'ccfs env'")


def _check_owner(path: str, directory: int) -> None:
    owner = os.fstat(directory).st_uid
    if owner != os.geteuid():
        raise MountpointError(f"{path} belongs to uid {owner}", _OWN_HINT)


def _check_empty(path: str, directory: int) -> None:
    try:
        closed_directory.restore(directory)
        names = names_below(directory)
    except OSError as error:
        raise MountpointError(f"cannot look into {path}: {_strerror(error)}") from None
    if not names:
        return
    if stored := [name for name in names if name.startswith(KERBEROS_NAMES)]:
        raise MountpointError(
            f"{path} is not empty: {', '.join(stored[:3])} was stored while no ccfs was mounted",
            "if there is a ticket in it, take it over with 'ccfs import' into another mount; then "
            "remove it",
        )
    raise MountpointError(f"{path} is not empty", "name an empty directory, or a new name")


def _unfit(path: str, error: Exception) -> MountpointError:
    """The error for a path that can't be mounted on."""
    if isinstance(error, UntrustedPathError):
        hint = _ROOT_HINT if os.geteuid() == 0 else _OWN_HINT
        return MountpointError(f"root can't mount at {path}: {error}", hint)
    if isinstance(error, NotADirectoryError):
        return MountpointError(f"{path} is not a directory", "name a directory, or a new name")
    if isinstance(error, FileNotFoundError):
        parent = os.path.dirname(path)
        if not os.path.isdir(parent):
            return MountpointError(f"{parent} does not exist", "make it, or name another")
        reason = f"cannot make {path}: the file system of {parent} doesn't support it"
        return MountpointError(reason, _OWN_HINT)
    assert isinstance(error, OSError)
    return MountpointError(f"cannot make {path}: {_strerror(error)}", _OWN_HINT)


def _strerror(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
