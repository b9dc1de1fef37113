# SPDX-License-Identifier: MIT
"""Status codes of KCM replies: com_err codes of libkrb5, and the refusal that each stands for.

MIT's client (cc_kcm.c) takes three of them (CC_IO, FCC_INTERNAL, CC_NOSUPP) for "the server does
not know the opcode", and does the same in several requests then.  So none of them stands for a
failure.
"""

from enum import IntEnum

from ccfs.format.errors import FormatError
from ccfs.store import errors


class Code(IntEnum):
    """The error table `krb5` (32 bits, two's complement)."""

    OK = 0
    CC_BADNAME = -1765328245
    CC_NOTFOUND = -1765328243
    CC_END = -1765328242
    FCC_NOFILE = -1765328189
    FCC_INTERNAL = -1765328188
    CC_WRITE = -1765328187
    CC_NOMEM = -1765328186
    CC_FORMAT = -1765328185


UNSUPPORTED = Code.FCC_INTERNAL
"""The reply of Heimdal's and SSSD's servers to an opcode that they don't know."""
FAILED = Code.CC_WRITE
"""A step that is not in the journal, or that raised an unexpected exception."""


class KcmError(Exception):
    """A refusal by the protocol, before the store is asked."""


class NoMatchError(KcmError):
    """No credential matches."""


class EndError(KcmError):
    """The ccache or credential of a UUID was removed."""


class UnsupportedError(KcmError):
    """The client is to use other opcodes instead."""


CODES: dict[type[Exception], Code] = {
    errors.NotFoundError: Code.FCC_NOFILE,
    errors.GoneError: Code.FCC_NOFILE,
    errors.BadNameError: Code.CC_BADNAME,
    errors.NameTooLongError: Code.CC_BADNAME,
    errors.BadContentError: Code.CC_FORMAT,
    errors.CcacheLimitError: Code.CC_NOMEM,
    errors.TotalLimitError: Code.CC_NOMEM,
    FormatError: Code.CC_FORMAT,
    NoMatchError: Code.CC_NOTFOUND,
    EndError: Code.CC_END,
    UnsupportedError: UNSUPPORTED,
}


def code_of(error: Exception) -> Code | None:
    """Return the code of a refusal; None for any other exception."""
    return CODES.get(type(error))
