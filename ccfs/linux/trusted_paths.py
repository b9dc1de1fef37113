"""Open a directory for root without being led elsewhere by another user.

Knows path lookup, owners and modes; never what the directory is for.  The rules are those of
openat2(2)'s RESOLVE_NO_SYMLINKS, but for links that only root can have made.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection

_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
MOST_LINKS = 40
"""As many as the kernel follows (path_resolution(7))."""


class UntrustedPathError(Exception):
    """Another user could lead the path elsewhere.  `place` is where, `why` says how."""

    def __init__(self, place: str, why: str) -> None:
        super().__init__(f"{place} {why}")
        self.place = place
        self.why = why


def open_directory(path: str, owners: Collection[int], *, private: bool) -> int:
    """A descriptor (O_RDONLY) of the directory at an absolute path; its owner is in `owners`.

    Symbolic links are followed only where root owns them and the directory that they are in, and no
    other user may write there.  `private`: the same goes for each directory on the way: only
    `owners` can rename it.  Raises UntrustedPathError, OSError.
    """
    found = _walk(path, owners, private=private)
    try:
        status = os.fstat(found)
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError
        if status.st_uid not in owners:
            raise UntrustedPathError(path, f"belongs to uid {status.st_uid}")
        return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(found)


def resolve(path: str) -> str:
    """An absolute path without symbolic links; those that another user can change are refused.

    Nothing that is mounted at its end is asked for anything.  Raises UntrustedPathError, OSError.
    """
    found = _walk(path, (), private=False)
    try:
        return os.readlink(f"/proc/self/fd/{found}")
    finally:
        os.close(found)


def _walk(path: str, owners: Collection[int], *, private: bool) -> int:
    """A descriptor (O_PATH) of what is at `path`."""
    at, there = os.open("/", _LOOK | os.O_DIRECTORY), "/"
    left = [name for name in reversed(path.split("/")) if name not in ("", ".")]
    links = 0
    try:
        while left:
            name = left.pop()
            following = os.open(name, _LOOK, dir_fd=at)
            here = os.path.join(there, name)
            target = _link_target(following)
            if target is not None:
                _check_link(following, at, here)
                links += 1
                if links > MOST_LINKS:
                    raise UntrustedPathError(here, "is one of too many symbolic links")
                left += [one for one in reversed(target.split("/")) if one not in ("", ".")]
                if target.startswith("/"):
                    os.close(at)
                    at, there = os.open("/", _LOOK | os.O_DIRECTORY), "/"
                continue
            if private:
                _check_directory(at, there, owners)
            os.close(at)
            at, there = following, here
    except BaseException:
        os.close(at)
        raise
    return at


def _link_target(descriptor: int) -> str | None:
    """Where a symbolic link leads, None for anything else.

    The type would tell as well, but fstat(2) asks the file system for it, and a mount whose daemon
    hangs doesn't answer.
    """
    try:
        return os.readlink("", dir_fd=descriptor)
    except OSError:
        return None


def _check_link(link: int, directory: int, path: str) -> None:
    """Refuse a link that another user than root can change; closes its descriptor."""
    try:
        if os.fstat(link).st_uid != 0 or _is_changeable(os.fstat(directory), (0,)):
            raise UntrustedPathError(path, "is a symbolic link that another user can change")
    finally:
        os.close(link)


def _check_directory(directory: int, path: str, owners: Collection[int]) -> None:
    if _is_changeable(os.fstat(directory), owners):
        raise UntrustedPathError(path, "can be changed by another user")


def _is_changeable(status: os.stat_result, owners: Collection[int]) -> bool:
    """True if a user who isn't in `owners` can rename what is in a directory."""
    open_to_others = bool(status.st_mode & 0o022) and not status.st_mode & stat.S_ISVTX
    return status.st_uid not in owners or open_to_others
