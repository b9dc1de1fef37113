# SPDX-License-Identifier: MIT
"""Names and principals as a caller's strings, and as the mount's files have them.

Knows how they are written, never which exist.  Bytes that are not UTF-8 are lone surrogates in
strings ("surrogateescape").
"""

from ccfs.ccapi import constants as cc
from ccfs.ccapi.constants import CCAPIError
from ccfs.format.errors import FormatError
from ccfs.format.names import decode_name, encode_name
from ccfs.format.principal import parse_name, unparse_name

NAME_MAX = 255
PRINCIPAL_MAX = 64 * 1024
"""The most bytes of a principal: it is written to the mount in one operation."""
_RESERVED = "tkt."


def to_directory(name: str) -> str:
    """Return the directory name of a ccache; ccErrBadName if no ccache can have the name."""
    try:
        text = encode_name(_bytes(name))
    except ValueError:
        raise CCAPIError(cc.ccErrBadName) from None
    if name.startswith(_RESERVED) or len(_bytes(text)) > NAME_MAX:
        raise CCAPIError(cc.ccErrBadName)
    return text


def from_directory(text: str) -> str:
    """Return the ccache name of a directory name; FormatError if it has none."""
    return decode_name(text).decode("utf-8", "surrogateescape")


def canonical(principal: str) -> bytes:
    """Return a principal as the mount writes it; ccErrBadParam if it can't be parsed."""
    try:
        text = unparse_name(parse_name(_bytes(principal)))
    except (FormatError, UnicodeEncodeError):
        raise CCAPIError(cc.ccErrBadParam) from None
    if len(text) > PRINCIPAL_MAX:
        raise CCAPIError(cc.ccErrBadParam)
    return text


def check_version(version: int) -> None:
    """Raise ccErrBadCredentialsVersion unless the version of credentials is 5."""
    if version != cc.cc_credentials_v5:
        raise CCAPIError(cc.ccErrBadCredentialsVersion)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
