"""Errors of file operations as errors of the CCAPI: the one table.

It knows errno values and result codes, never which file was asked.
"""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from ccfs.ccapi import constants as cc
from ccfs.ccapi.constants import CCAPIError

T = TypeVar("T")

_CODES = {
    errno.ENOTCONN: cc.ccErrServerUnavailable,
    errno.ECONNABORTED: cc.ccErrServerUnavailable,
    errno.ECONNREFUSED: cc.ccErrServerUnavailable,
    errno.ENXIO: cc.ccErrServerUnavailable,
    errno.ENODEV: cc.ccErrServerUnavailable,
    errno.EACCES: cc.ccErrServerInsecure,
    errno.EPERM: cc.ccErrServerInsecure,
    errno.ENOSPC: cc.ccErrNoMem,
    errno.EDQUOT: cc.ccErrNoMem,
    errno.ENOMEM: cc.ccErrNoMem,
    errno.EMFILE: cc.ccErrNoMem,
    errno.ENFILE: cc.ccErrNoMem,
    errno.ENAMETOOLONG: cc.ccErrBadName,
    errno.EINVAL: cc.ccErrBadParam,
}

GONE = (errno.ENOENT, errno.ESTALE)
"""What a name gives whose thing is gone."""


def gone(code: int) -> dict[int, int]:
    """The special cases of a call for which a missing name means `code`."""
    return dict.fromkeys(GONE, code)


@contextmanager
def failures(special: Mapping[int, int]) -> Iterator[None]:
    """Raise CCAPIError for the OSError of a body, or for what in an answer can't be understood.

    `special` goes before the table; what neither knows is ccErrBadInternalMessage.
    """
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        code = special.get(number) or _CODES.get(number, cc.ccErrBadInternalMessage)
        raise CCAPIError(code) from error
    except ValueError as error:
        raise CCAPIError(cc.ccErrBadInternalMessage) from error


def given(argument: T | None) -> T:
    """An argument where C wants a pointer: None gives ccErrBadParam."""
    if argument is None:
        raise CCAPIError(cc.ccErrBadParam)
    return argument
