# SPDX-License-Identifier: MIT
"""Errors of file operations as errors of the CCAPI: the one table.

Knows errno values and result codes, never which file was used.
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

MISSING = (errno.ENOENT, errno.ESTALE)
"""The errno values for a name that doesn't exist, or does no more."""


def if_missing(code: int) -> dict[int, int]:
    """Return the special cases of a call for which a missing name means `code`."""
    return dict.fromkeys(MISSING, code)


@contextmanager
def api_errors(special: Mapping[int, int]) -> Iterator[None]:
    """Raise CCAPIError for an OSError of the body, or a ValueError: a malformed reply.

    `special` goes before the table; ccErrBadInternalMessage for all others.
    """
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        code = special.get(number) or _CODES.get(number, cc.ccErrBadInternalMessage)
        raise CCAPIError(code) from error
    except ValueError as error:
        raise CCAPIError(cc.ccErrBadInternalMessage) from error


def required(argument: T | None) -> T:
    """Return an argument that is a pointer in C; ccErrBadParam for None."""
    if argument is None:
        raise CCAPIError(cc.ccErrBadParam)
    return argument
