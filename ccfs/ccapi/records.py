"""A credential between the CCAPI's record and the bytes that a mount stores.

It knows both forms, never a file.  What the FILE format has no place for (a type over 16 bits, a
ticket's type) is refused, so that what is read back is what was stored.
"""

from collections.abc import Sequence

from ccfs.ccapi import constants as cc
from ccfs.ccapi.constants import CCAPIError
from ccfs.ccapi.error_codes import given
from ccfs.ccapi.names import checked_version
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
    """The marshalled bytes (FILE version 4) of a credential.

    ccErrBadCredentialsVersion, or ccErrBadParam for what no record can hold.
    """
    checked_version(union.version)
    record = given(union.credentials_v5)
    try:
        return encode_credential(_credential(record), DIALECT_V4)
    except (FormatError, UnicodeEncodeError):
        raise CCAPIError(cc.ccErrBadParam) from None


def decode(data: bytes) -> cc_credentials_union:
    """The credential of marshalled bytes.  FormatError where they are none."""
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
        addresses=_list(c.addresses),
        ticket=cc_data(0, c.ticket),
        second_ticket=cc_data(0, c.second_ticket),
        authdata=_list(c.authdata),
    )
    return cc_credentials_union(cc.cc_credentials_v5, record)


def _credential(record: cc_credentials_v5_t) -> Credential:
    r = record
    return Credential(
        client=_principal(r.client),
        server=_principal(r.server),
        keyblock=Keyblock(signed(given(r.keyblock).type), r.keyblock.data),
        times=Times(r.authtime, r.starttime, r.endtime, r.renew_till),
        is_skey=r.is_skey,
        ticket_flags=r.ticket_flags,
        addresses=_typed(r.addresses or ()),
        authdata=_typed(r.authdata or ()),
        ticket=_untyped(r.ticket),
        second_ticket=_untyped(r.second_ticket),
    )


def signed(number: int) -> int:
    """A 32-bit number that C has as unsigned and the format as signed; else ccErrBadParam."""
    if not 0 <= number < _U32:
        raise CCAPIError(cc.ccErrBadParam)
    return number - _U32 if number >= _SIGN else number


def unsigned(number: int) -> int:
    """The other way round."""
    return number % _U32


def _principal(text: str | None) -> Principal:
    return parse_name(given(text).encode("utf-8", "surrogateescape"))


def _text(principal: Principal) -> str:
    return unparse_name(principal).decode("utf-8", "surrogateescape")


def _list(items: Sequence[TypedData]) -> tuple[cc_data, ...]:
    return tuple(cc_data(item.type, item.contents) for item in items)


def _typed(items: Sequence[cc_data]) -> tuple[TypedData, ...]:
    return tuple(TypedData(given(item).type, item.data) for item in items)


def _untyped(item: cc_data) -> bytes:
    if given(item).type != 0:
        raise CCAPIError(cc.ccErrBadParam)
    return item.data
