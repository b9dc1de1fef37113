# SPDX-License-Identifier: MIT
"""Credentials as records of the CCAPI, and as bytes that a mount stores.

Knows both forms, never a file.  A value that the FILE format can't hold (a type over 16 bits, a
ticket's type) is refused, so that a credential is read as it was stored.
"""

from collections.abc import Sequence

from ccfs.ccapi import constants as cc
from ccfs.ccapi.constants import CCAPIError
from ccfs.ccapi.error_codes import required
from ccfs.ccapi.names import check_version
from ccfs.ccapi.values import cc_credentials_union, cc_credentials_v5_t, cc_data
from ccfs.format.credential import (
    Credential,
    Keyblock,
    Times,
    TypedData,
    decode_credential,
    encode_credential,
)
from ccfs.format.dialect import DIALECT_V4
from ccfs.format.errors import FormatError
from ccfs.format.principal import Principal, parse_name, unparse_name

_U32 = 1 << 32
_SIGN = 1 << 31


def encode(union: cc_credentials_union) -> bytes:
    """Encode a credential in FILE version 4.

    ccErrBadCredentialsVersion, or ccErrBadParam for a value that no record can hold.
    """
    check_version(union.version)
    record = required(union.credentials_v5)
    try:
        return encode_credential(_credential(record), DIALECT_V4)
    except (FormatError, UnicodeEncodeError):
        raise CCAPIError(cc.ccErrBadParam) from None


def decode(data: bytes) -> cc_credentials_union:
    """Decode a credential in FILE version 4; FormatError."""
    c, _ = decode_credential(data, DIALECT_V4)
    record = cc_credentials_v5_t(
        client=_text(c.client),
        server=_text(c.server),
        keyblock=cc_data(unsigned(c.keyblock.enctype), c.keyblock.contents),
        authtime=c.times.authtime,
        starttime=c.times.starttime,
        endtime=c.times.endtime,
        renew_till=c.times.renew_till,
        is_skey=c.is_skey,
        ticket_flags=c.ticket_flags,
        addresses=_cc_data_list(c.addresses),
        ticket=cc_data(0, c.ticket),
        second_ticket=cc_data(0, c.second_ticket),
        authdata=_cc_data_list(c.authdata),
    )
    return cc_credentials_union(cc.cc_credentials_v5, record)


def _credential(record: cc_credentials_v5_t) -> Credential:
    r = record
    return Credential(
        client=_principal(r.client),
        server=_principal(r.server),
        keyblock=Keyblock(signed(required(r.keyblock).type), r.keyblock.data),
        times=Times(r.authtime, r.starttime, r.endtime, r.renew_till),
        is_skey=r.is_skey,
        ticket_flags=r.ticket_flags,
        addresses=_typed_data(r.addresses or ()),
        authdata=_typed_data(r.authdata or ()),
        ticket=_ticket_bytes(r.ticket),
        second_ticket=_ticket_bytes(r.second_ticket),
    )


def signed(number: int) -> int:
    """Convert an unsigned 32-bit number of C to a signed one of the format; ccErrBadParam."""
    if not 0 <= number < _U32:
        raise CCAPIError(cc.ccErrBadParam)
    return number - _U32 if number >= _SIGN else number


def unsigned(number: int) -> int:
    """Convert a signed 32-bit number of the format to an unsigned one of C."""
    return number % _U32


def _principal(text: str | None) -> Principal:
    return parse_name(required(text).encode("utf-8", "surrogateescape"))


def _text(principal: Principal) -> str:
    return unparse_name(principal).decode("utf-8", "surrogateescape")


def _cc_data_list(items: Sequence[TypedData]) -> tuple[cc_data, ...]:
    return tuple(cc_data(item.type, item.contents) for item in items)


def _typed_data(items: Sequence[cc_data]) -> tuple[TypedData, ...]:
    return tuple(TypedData(required(item).type, item.data) for item in items)


def _ticket_bytes(item: cc_data) -> bytes:
    if required(item).type != 0:
        raise CCAPIError(cc.ccErrBadParam)
    return item.data
