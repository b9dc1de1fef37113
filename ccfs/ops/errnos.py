"""The one place where a refusal becomes an errno value."""

import errno

from ccfs.store import errors


class OpsError(Exception):
    """A refusal by the tree itself, before the store is asked."""


class AccessError(OpsError):
    """This caller may not."""


class BadDescriptorError(OpsError):
    """The handle isn't open for this."""


class HandleLimitError(OpsError):
    """Too many files and directories would be open."""


class BadMessageError(OpsError):
    """A file can't take the place of another: mv(1) has a wrong explanation of EINVAL."""


class WrongKindError(OpsError):
    """A directory was wanted, or a link."""


class IsDirectoryError(OpsError):
    """Something else than a directory was wanted."""


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


LIMITS = (errors.CcacheLimitError, errors.TotalLimitError, HandleLimitError)
"""What users should see in the log: their messages hold numbers alone."""


def errno_of(error: Exception) -> int | None:
    """The errno value of a refusal; None for what is none."""
    return ERRNO.get(type(error))
