# SPDX-License-Identifier: MIT
"""Open a directory as root by a path that no other user can lead elsewhere.

The rules are those of openat2(2)'s RESOLVE_NO_SYMLINKS, except that symbolic links are followed
which only root can have made.

Knows path lookup, owners and modes; never what the directory is for.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection

_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
LINKS_MAX = 40
"""As many as the kernel follows (path_resolution(7))."""


class UntrustedPathError(Exception):
    """Another user could lead the path elsewhere.  The message says where, and how."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} {reason}")


def open_directory(path: str, owners: Collection[int], *, private: bool) -> int:
    """Open (O_RDONLY) the directory at an absolute path; its owner must be in `owners`.

    Symbolic links are followed only where root owns them and the directory that they are in, and no
    other user may write there.  `private`: each directory on the way must be one in which
    only `owners` can rename entries.  Raises UntrustedPathError, OSError.
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
    """Resolve an absolute path; symbolic links that another user can change are refused.

    A file system that is mounted at its end gets no request.  Raises UntrustedPathError, OSError.
    """
    found = _walk(path, (), private=False)
    try:
        return os.readlink(f"/proc/self/fd/{found}")
    finally:
        os.close(found)


def _walk(path: str, owners: Collection[int], *, private: bool) -> int:
    """Open (O_PATH) what `path` leads to."""
    at, at_path = os.open("/", _LOOK | os.O_DIRECTORY), "/"
    left = _components(path)
    links = 0
    try:
        while left:
            name = left.pop()
            following = os.open(name, _LOOK, dir_fd=at)
            next_path = os.path.join(at_path, name)
            target = _link_target(following)
            if target is not None:
                _check_link(following, at, next_path)
                links += 1
                if links > LINKS_MAX:
                    raise UntrustedPathError(next_path, "is one of too many symbolic links")
                left += _components(target)
                if target.startswith("/"):
                    os.close(at)
                    at, at_path = os.open("/", _LOOK | os.O_DIRECTORY), "/"
                continue
            if private:
                _check_directory(at, at_path, owners)
            os.close(at)
            at, at_path = following, next_path
    except BaseException:
        os.close(at)
        raise
    return at


def _components(path: str) -> list[str]:
    """The names in a path, the last one first."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _link_target(descriptor: int) -> str | None:
    """Where a symbolic link leads, None for anything else.

    Not by the type: fstat(2) sends the file system a request, and a mount whose daemon hangs
    doesn't reply.
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
