"""Names and principals between a caller's strings and what the mount's files hold.

It knows how they are written, never which exist.  Bytes that are not UTF-8 travel in strings as
lone surrogates ("surrogateescape").
"""

from ccfs.ccapi import constants as cc
from ccfs.ccapi.constants import CCAPIError
from ccfs.format.errors import FormatError
from ccfs.format.names import decode_name, encode_name
from ccfs.format.principal import parse_name, unparse_name

NAME_MAX = 255
PRINCIPAL_MAX = 64 * 1024
"""The most bytes of a principal: it must reach the server in one piece."""
_RESERVED = "tkt."


def encoded(name: str) -> str:
    """The directory name of a ccache; ccErrBadName where no ccache can have the name."""
    try:
        text = encode_name(_bytes(name))
    except ValueError:
        raise CCAPIError(cc.ccErrBadName) from None
    if name.startswith(_RESERVED) or len(_bytes(text)) > NAME_MAX:
        raise CCAPIError(cc.ccErrBadName)
    return text


def decoded(text: str) -> str:
    """The name that a directory name stands for.  FormatError where it stands for none."""
    return decode_name(text).decode("utf-8", "surrogateescape")


def canonical(principal: str) -> bytes:
    """A principal as the server writes it; ccErrBadParam where it can't be parsed."""
    try:
        text = unparse_name(parse_name(_bytes(principal)))
    except (FormatError, UnicodeEncodeError):
        raise CCAPIError(cc.ccErrBadParam) from None
    if len(text) > PRINCIPAL_MAX:
        raise CCAPIError(cc.ccErrBadParam)
    return text


def checked_version(version: int) -> None:
    """Credentials are of version 5 and no other: ccErrBadCredentialsVersion."""
    if version != cc.cc_credentials_v5:
        raise CCAPIError(cc.ccErrBadCredentialsVersion)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
