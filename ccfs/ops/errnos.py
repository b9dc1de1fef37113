# SPDX-License-Identifier: MIT
"""Refusals and their errno values: the one table that FUSE replies take them from."""

import errno

from ccfs.service.errors import HandleLimitError
from ccfs.store import errors


class OpsError(Exception):
    """A refusal by the tree, before the store is asked."""


class AccessError(OpsError):
    """The caller may not do this."""


class BadDescriptorError(OpsError):
    """The handle is not open for this."""


class BadMessageError(OpsError):
    """A file can't take the place of another: mv(1) explains EINVAL wrongly."""


class WrongKindError(OpsError):
    """The inode is no directory, or no symbolic link, where one is needed."""


class IsDirectoryError(OpsError):
    """The inode is a directory where a file is needed."""


ERRNO: dict[type[Exception], int] = {
    errors.NotFoundError: errno.ENOENT,
    errors.ExistsError: errno.EEXIST,
    errors.GoneError: errno.ESTALE,
    errors.BadNameError: errno.EINVAL,
    errors.NameTooLongError: errno.ENAMETOOLONG,
    errors.BadContentError: errno.EINVAL,
    errors.NotPermittedError: errno.EPERM,
    errors.CcacheLimitError: errno.ENOSPC,
    errors.TotalLimitError: errno.EDQUOT,
    AccessError: errno.EACCES,
    BadDescriptorError: errno.EBADF,
    BadMessageError: errno.EBADMSG,
    HandleLimitError: errno.EMFILE,
    WrongKindError: errno.ENOTDIR,
    IsDirectoryError: errno.EISDIR,
}


def errno_of(error: Exception) -> int | None:
    """Return the errno value of a refusal; None for any other exception."""
    return ERRNO.get(type(error))
