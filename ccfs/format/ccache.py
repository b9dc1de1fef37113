# SPDX-License-Identifier: MIT
"""A whole ccache: version, header, default principal, credentials.

Knows the bytes of a ccache, never the file that has them.

    ccache = 05 VERSION [header] principal credential...
    header = length(u16) fields                        version 4 only
    field  = tag(u16) length(u16) contents
    tag 1  = DeltaTime: seconds(i32) microseconds(i32), the KDC's clock minus ours
"""

from dataclasses import dataclass, replace
from struct import Struct, error

from ccfs.format.credential import Credential, decode_credential, encode_credential
from ccfs.format.dialect import BIG, DIALECT_V4, LITTLE, ByteOrder, Dialect
from ccfs.format.errors import FormatError
from ccfs.format.principal import Principal, decode_principal, encode_principal, skip_principal
from ccfs.format.wire import Buffer, write_int

TAG_DELTATIME = 1
_FORMAT = 5
_DELTATIME = Struct(">ii")
_TAG = Struct(">HH")


@dataclass(frozen=True, slots=True)
class Tag:
    """One field of the header."""

    tag: int
    contents: bytes


@dataclass(frozen=True, slots=True)
class Header:
    """The bytes before the default principal: version, byte order, fields."""

    dialect: Dialect
    tags: tuple[Tag, ...] = ()

    @property
    def kdc_offset(self) -> tuple[int, int] | None:
        """The KDC's clock minus ours: seconds (may be negative) and microseconds."""
        for tag in self.tags:
            if tag.tag == TAG_DELTATIME and len(tag.contents) == _DELTATIME.size:
                seconds, microseconds = _DELTATIME.unpack(tag.contents)
                return seconds, microseconds
        return None

    def with_kdc_offset(self, seconds: int | None) -> "Header":
        """Return this header with another offset, None for none; FormatError before version 4."""
        other_tags = tuple(tag for tag in self.tags if tag.tag != TAG_DELTATIME)
        if seconds is None:
            return replace(self, tags=other_tags)
        if self.dialect.version != 4:
            raise FormatError(0, "version 4 for an offset")
        try:
            contents = _DELTATIME.pack(seconds, 0)
        except error:
            raise FormatError(0, "an offset of 32 bits") from None
        return replace(self, tags=(Tag(TAG_DELTATIME, contents), *other_tags))


@dataclass(frozen=True, slots=True)
class Prefix:
    """The header and the default principal: all that comes before the credentials."""

    header: Header
    principal: Principal


@dataclass(frozen=True, slots=True)
class Ccache:
    """A whole ccache, its removed records included."""

    header: Header
    principal: Principal
    credentials: tuple[Credential, ...] = ()


def encode_prefix(prefix: Prefix) -> bytes:
    """Encode header and default principal."""
    dialect = prefix.header.dialect
    return _encode_header(prefix.header) + encode_principal(prefix.principal, dialect)


def _encode_header(header: Header) -> bytes:
    version = bytes((_FORMAT, header.dialect.version))
    if header.dialect.version < 4:
        if header.tags:
            raise FormatError(0, "version 4 for tags")
        return version
    fields = b"".join(map(_encode_tag, header.tags))
    return version + write_int(len(fields), BIG.u16, "tags of less than 64 KiB") + fields


def _encode_tag(tag: Tag) -> bytes:
    return (
        write_int(tag.tag, BIG.u16, "a tag of 16 bits")
        + write_int(len(tag.contents), BIG.u16, "a tag's contents of less than 64 KiB")
        + tag.contents
    )


def scan_prefix(data: Buffer, limit: int) -> tuple[Prefix, int] | None:
    """Decode header and default principal; return them and the offset of the first credential.

    None if they are incomplete, and more bytes may complete them.  FormatError if none can, also
    if a length or count exceeds `limit`, the most bytes that `data` may ever have.
    """
    try:
        header, start = _read_header(data)
        end = skip_principal(data, start, header.dialect, limit)
    except error:
        end = len(data) + 1
    if end > limit:
        raise FormatError(0, f"a header and a principal that end within {limit} bytes")
    if end > len(data):
        return None
    principal, end = decode_principal(data, start, header.dialect)
    return Prefix(header, principal), end


def _read_header(data: Buffer) -> tuple[Header, int]:
    """Return the header and the offset after it; `struct.error` if it is incomplete."""
    if data and data[0] != _FORMAT:
        raise FormatError(0, "05, the first byte of a ccache")
    version = BIG.u16.unpack_from(data, 0)[0] & 0xFF
    if not 1 <= version <= 4:
        raise FormatError(1, "a version from 1 to 4")
    if version == 4:
        tags, end = _read_tags(data)
        return Header(DIALECT_V4, tags), end
    return Header(_guess_dialect(data, version)), 2


def _read_tags(data: Buffer) -> tuple[tuple[Tag, ...], int]:
    at = 4
    end = at + BIG.u16.unpack_from(data, 2)[0]
    tags = []
    while at < end:
        if at + 4 > end:
            raise FormatError(at, "a tag that ends within the header")
        tag, length = _TAG.unpack_from(data, at)
        if at + 4 + length > end:
            raise FormatError(at, "a tag that ends within the header")
        if tag == TAG_DELTATIME and length != _DELTATIME.size:
            raise FormatError(at + 2, "a time offset of 8 bytes")  # libkrb5: KRB5_CC_FORMAT
        tags.append(Tag(tag, bytes(data[at + 4 : at + 4 + length])))
        at += 4 + length
    return tuple(tags), end


def _guess_dialect(data: Buffer, version: int) -> Dialect:
    """Return the dialect with the byte order in which the first principal has the smaller numbers.

    Its count decides: read in the wrong order it exceeds COUNT_MAX, unless it is 0.
    """
    if version == 3:
        return Dialect(3)
    big, little = (_sizes(data, order, version) for order in (BIG, LITTLE))
    return Dialect(version, big < little)


def _sizes(data: Buffer, order: ByteOrder, version: int) -> tuple[int, ...]:
    """Return numbers that are small in the right byte order, the most significant one first."""
    name_type = 0
    at = 2
    if version == 2:
        name_type = order.u32.unpack_from(data, at)[0]
        at = 6
    count = order.u32.unpack_from(data, at)[0]
    return count, order.u32.unpack_from(data, at + 4)[0], name_type


def decode_ccache(data: Buffer) -> Ccache:
    """Decode a ccache; FormatError, also for bytes after the last credential."""
    scanned = scan_prefix(data, len(data))
    if scanned is None:
        raise FormatError(len(data), "a header and a principal")
    prefix, at = scanned
    credentials = []
    while at < len(data):
        credential, at = decode_credential(data, prefix.header.dialect, at)
        credentials.append(credential)
    return Ccache(prefix.header, prefix.principal, tuple(credentials))


def encode_ccache(ccache: Ccache) -> bytes:
    """Encode a ccache."""
    prefix = encode_prefix(Prefix(ccache.header, ccache.principal))
    dialect = ccache.header.dialect
    return prefix + b"".join(encode_credential(c, dialect) for c in ccache.credentials)
