# SPDX-License-Identifier: MIT
"""Credentials: the records of a ccache.

Knows a record's bytes; never the file around them, the time, or the contents of a ticket.

    credential = client(principal) server(principal) keyblock times is_skey(u8) flags(u32)
                 addresses authdata ticket(data) second_ticket(data)
    keyblock   = enctype(i16) key(data)        version 3 writes the enctype twice
    times      = authtime starttime endtime renew_till, u32 each: seconds since the epoch
    addresses, authdata = count(u32), then for each type(u16) contents(data)
    data       = length(u32) bytes

`scan_credential` runs at each append: it copies no secret and makes no objects.
"""

from dataclasses import dataclass, field
from struct import error

from ccfs.format.dialect import ByteOrder, Dialect
from ccfs.format.errors import FormatError
from ccfs.format.principal import (
    Principal,
    decode_principal,
    encode_principal,
    skip_principal,
)
from ccfs.format.wire import (
    COUNT_MAX,
    Buffer,
    check_count,
    read_count,
    read_data,
    read_int,
    skip_data,
    write_data,
    write_int,
)

CONFIG_REALM = b"X-CACHECONF:"
CONFIG_NAME = b"krb5_ccache_conf_data"


@dataclass(frozen=True, slots=True)
class Keyblock:
    """A session key.  `enctype` is a signed 16-bit number.

    `second_enctype`: version 3 writes the enctype twice; None if both are the same.
    """

    enctype: int
    contents: bytes = field(repr=False)
    second_enctype: int | None = None


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds since the epoch, 0 to 2**32-1; 0 is "none"."""

    authtime: int
    starttime: int
    endtime: int
    renew_till: int


@dataclass(frozen=True, slots=True)
class TypedData:
    """An address (RFC 4120 section 5.2.5) or an authorization data element (5.2.6)."""

    type: int
    contents: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Credential:
    """One record.  `is_skey` is a byte; flag 0 is the highest of the 32 bits of `ticket_flags`."""

    client: Principal
    server: Principal
    keyblock: Keyblock
    times: Times
    is_skey: int
    ticket_flags: int
    addresses: tuple[TypedData, ...]
    authdata: tuple[TypedData, ...]
    ticket: bytes = field(repr=False)
    second_ticket: bytes = field(repr=False)


def decode_credential(data: Buffer, dialect: Dialect, offset: int = 0) -> tuple[Credential, int]:
    """Decode the credential at `offset`; return it and the offset after it.  FormatError."""
    order = dialect.order
    if not isinstance(data, bytes):
        data = memoryview(data)
    client, offset = decode_principal(data, offset, dialect)
    server, offset = decode_principal(data, offset, dialect)
    keyblock, offset = _decode_keyblock(data, offset, dialect)
    try:
        times = Times(*order.u32x4.unpack_from(data, offset))
        is_skey = data[offset + 16]
    except (error, IndexError):
        raise FormatError(offset, "four times and is_skey") from None
    flags = read_int(data, offset + 17, order.u32, "ticket flags")
    addresses, offset = _decode_list(data, offset + 21, order, "addresses")
    authdata, offset = _decode_list(data, offset, order, "authorization data")
    ticket, offset = read_data(data, offset, order, "a ticket")
    second, offset = read_data(data, offset, order, "a second ticket")
    return (
        Credential(
            client, server, keyblock, times, is_skey, flags, addresses, authdata, ticket, second
        ),
        offset,
    )


def _decode_keyblock(data: Buffer, offset: int, dialect: Dialect) -> tuple[Keyblock, int]:
    order = dialect.order
    enctype = read_int(data, offset, order.i16, "an enctype")
    second = None
    if dialect.version == 3:
        offset += 2
        repeated = read_int(data, offset, order.i16, "the enctype again")
        second = None if repeated == enctype else repeated
    contents, offset = read_data(data, offset + 2, order, "a key")
    return Keyblock(enctype, contents, second), offset


def _decode_list(
    data: Buffer, offset: int, order: ByteOrder, name: str
) -> tuple[tuple[TypedData, ...], int]:
    count = read_count(data, offset, order, name)
    offset += 4
    items = []
    for _ in range(count):
        kind = read_int(data, offset, order.u16, f"a type in {name}")
        contents, offset = read_data(data, offset + 2, order, name)
        items.append(TypedData(kind, contents))
    return tuple(items), offset


def encode_credential(credential: Credential, dialect: Dialect) -> bytes:
    """Encode a credential; FormatError if a number doesn't fit its field."""
    c, order = credential, dialect.order
    t = c.times
    try:
        times = order.u32x4.pack(t.authtime, t.starttime, t.endtime, t.renew_till)
        is_skey = bytes((c.is_skey,))
    except (error, ValueError):
        raise FormatError(0, "times of 32 bits and an is_skey of 8") from None
    return b"".join(
        (
            encode_principal(c.client, dialect),
            encode_principal(c.server, dialect),
            _encode_keyblock(c.keyblock, dialect),
            times,
            is_skey,
            write_int(c.ticket_flags, order.u32, "ticket flags of 32 bits"),
            _encode_list(c.addresses, order),
            _encode_list(c.authdata, order),
            write_data(c.ticket, order),
            write_data(c.second_ticket, order),
        )
    )


def _encode_keyblock(keyblock: Keyblock, dialect: Dialect) -> bytes:
    i16 = dialect.order.i16
    enctype = write_int(keyblock.enctype, i16, "an enctype of 16 bits")
    if dialect.version == 3:
        second = keyblock.second_enctype
        enctype += enctype if second is None else write_int(second, i16, "an enctype of 16 bits")
    return enctype + write_data(keyblock.contents, dialect.order)


def _encode_list(items: tuple[TypedData, ...], order: ByteOrder) -> bytes:
    if len(items) > COUNT_MAX:
        raise FormatError(0, f"at most {COUNT_MAX} items")
    parts = [order.u32.pack(len(items))]
    for item in items:
        parts.append(write_int(item.type, order.u16, "a type of 16 bits"))
        parts.append(write_data(item.contents, order))
    return b"".join(parts)


def scan_credential(data: Buffer, offset: int, dialect: Dialect, limit: int) -> int | None:
    """Return the offset after the record at `offset`, without decoding it.

    None if the record is incomplete, and more bytes may complete it.  FormatError if none can,
    because a length or count exceeds `limit`, the most bytes that `data` may ever have.
    """
    order = dialect.order
    try:
        at = skip_principal(data, offset, dialect, limit)
        at = skip_principal(data, at, dialect, limit)
        at = skip_data(data, at + enctype_size(dialect), order, limit)
        at = _skip_list(data, at + 21, order, limit)
        at = _skip_list(data, at, order, limit)
        at = skip_data(data, at, order, limit)
        at = skip_data(data, at, order, limit)
    except error:
        at = len(data) + 1
    if at > limit:
        raise FormatError(offset, f"a record that ends within {limit} bytes")
    return at if at <= len(data) else None


def _skip_list(data: Buffer, at: int, order: ByteOrder, limit: int) -> int:
    count = order.u32.unpack_from(data, at)[0]
    at += 4
    if count:
        check_count(at - 4, count, 6, limit)
        for _ in range(count):
            at = skip_data(data, at + 2, order, limit)
    return at


def enctype_size(dialect: Dialect) -> int:
    """Return the bytes of a keyblock's enctype."""
    return 4 if dialect.version == 3 else 2
