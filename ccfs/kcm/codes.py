"""What a request is answered: the codes of com_err that KCM clients know.

Knows numbers and which refusal each stands for; never what was refused.

Three of them (CC_IO, FCC_INTERNAL, CC_NOSUPP) are taken by MIT's client for "this server can't do
that", upon which it does the same in several steps.  So none of them stands for a real failure.
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
"""How Heimdal's and SSSD's servers say that they don't know an opcode."""
UNKEPT = Code.CC_WRITE
"""A step that is not in the journal, or that failed in a way nobody thought of."""


class KcmError(Exception):
    """A refusal by the protocol itself, before the store is asked."""


class NoMatchError(KcmError):
    """No credential is as it was asked for."""


class EndError(KcmError):
    """What this identifier meant is gone."""


class UnsupportedError(KcmError):
    """The client had better ask in another way."""


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
    """The code of a refusal; None for what is none."""
    return CODES.get(type(error))
