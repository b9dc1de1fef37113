# SPDX-License-Identifier: MIT
r"""Principals: as bytes in a ccache and as text.

Knows the two forms of a principal, never whether one exists.

    principal  = name-type(i32) count(u32) realm components     versions 2 to 4
    principal  = count(u32) realm components                    version 1; the count has the realm
    realm, component = length(u32) bytes

The text is as that of krb5_parse_name and krb5_unparse_name: components between `/`, then `@REALM`;
`\` before a separator or itself, and `\n`, `\t`, `\b`, `\0` for those four bytes.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from ccfs.format.dialect import Dialect
from ccfs.format.errors import FormatError
from ccfs.format.names import CACHED_NAMES, MAX_CACHED
from ccfs.format.wire import (
    COUNT_MAX,
    Buffer,
    check_count,
    read_count,
    read_int,
    write_data,
    write_int,
)

NT_UNKNOWN = 0
NT_PRINCIPAL = 1
NT_SRV_INST = 2
NT_WELLKNOWN = 11

_QUOTED = {
    b"/": rb"\/",
    b"@": rb"\@",
    b"\\": rb"\\",
    b"\t": rb"\t",
    b"\n": rb"\n",
    b"\b": rb"\b",
    b"\0": rb"\0",
}
_SPECIAL = re.compile(rb"[/@\\\t\n\x08\0]")
_UNQUOTED = {b"t": b"\t", b"n": b"\n", b"b": b"\b", b"0": b"\0"}
_PIECE = re.compile(rb"\\(.)|([/@])|[^\\/@\0]+", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Principal:
    """A Kerberos name (RFC 4120 section 6.2).  `name_type` is a signed 32-bit number."""

    name_type: int
    realm: bytes
    components: tuple[bytes, ...]


def parse_name(text: bytes) -> Principal:
    """Parse the text of a principal; its name type is inferred from the name.

    FormatError if krb5_parse_name refuses the text, and for a text without a realm.  The realm may
    be empty, as in names of services whose realm the KDC finds out.
    """
    parts: list[bytearray] = [bytearray()]
    in_realm = False
    at = 0
    while at < len(text):
        piece = _PIECE.match(text, at)
        if piece is None:
            raise FormatError(at, "a character behind the backslash, and no NUL")
        quoted, separator = piece.groups()
        if separator is None:
            parts[-1] += piece[0] if quoted is None else _UNQUOTED.get(quoted, quoted)
        elif in_realm:
            raise FormatError(at, "no separator in the realm")
        else:
            in_realm = separator == b"@"
            parts.append(bytearray())
        at = piece.end()
    if not in_realm:
        raise FormatError(at, "@ and a realm")
    components = tuple(bytes(part) for part in parts[:-1])
    return Principal(_infer_type(components), bytes(parts[-1]), components)


def _infer_type(components: tuple[bytes, ...]) -> int:
    """Infer the name type from a name (RFC 4120 section 7.3, RFC 6111 section 3.1)."""
    if len(components) == 2 and components[0] == b"krbtgt":
        return NT_SRV_INST
    if len(components) >= 2 and components[0] == b"WELLKNOWN":
        return NT_WELLKNOWN
    return NT_PRINCIPAL


def unparse_name(principal: Principal) -> bytes:
    """Return the text of a principal, with its realm."""
    return b"/".join(map(_quote, principal.components)) + b"@" + _quote(principal.realm)


def _quote(part: bytes) -> bytes:
    if _SPECIAL.search(part) is None:
        return part
    return _SPECIAL.sub(lambda match: _QUOTED[match[0]], part)


def decode_principal(data: Buffer, offset: int, dialect: Dialect) -> tuple[Principal, int]:
    """Decode the principal at `offset`; return it and the offset after it."""
    order = dialect.order
    name_type = NT_UNKNOWN
    if dialect.version > 1:
        name_type = read_int(data, offset, order.i32, "a name type")
        offset += 4
    count = read_count(data, offset, order, "components")
    if dialect.version == 1:
        count -= 1
        if count < 0:
            raise FormatError(offset, "a count that includes the realm")
    offset += 4
    names: list[bytes] = []
    size, length = len(data), order.u32.unpack_from
    for _ in range(count + 1):
        start = offset + 4
        if start > size or (end := start + length(data, offset)[0]) > size:
            raise FormatError(offset, "a component" if names else "a realm")
        names.append(bytes(data[start:end]))
        offset = end
    return Principal(name_type, names[0], tuple(names[1:])), offset


def principal_of(data: bytes, dialect: Dialect) -> Principal:
    """Decode a principal; short ones are cached, since the same names come again."""
    return (
        _decode_cached(data, dialect) if len(data) <= MAX_CACHED else _decode_whole(data, dialect)
    )


def _decode_whole(data: bytes, dialect: Dialect) -> Principal:
    return decode_principal(data, 0, dialect)[0]


_decode_cached = lru_cache(maxsize=CACHED_NAMES)(_decode_whole)


def encode_principal(principal: Principal, dialect: Dialect) -> bytes:
    """Encode a principal; version 1 has no name type."""
    order = dialect.order
    count = len(principal.components) + (dialect.version == 1)
    if count > COUNT_MAX:
        raise FormatError(0, f"at most {COUNT_MAX} components")
    head = order.u32.pack(count)
    if dialect.version > 1:
        head = write_int(principal.name_type, order.i32, "a 32-bit name type") + head
    names = (write_data(part, order) for part in (principal.realm, *principal.components))
    return head + b"".join(names)


def skip_principal(data: Buffer, offset: int, dialect: Dialect, limit: int) -> int:
    """Return the offset after the principal at `offset`, which may exceed the length of `data`.

    `struct.error` if a length is missing at the end; FormatError if the principal exceeds `limit`.
    """
    order = dialect.order
    parts: int
    if dialect.version == 1:
        parts = order.u32.unpack_from(data, offset)[0]
        if parts == 0:
            raise FormatError(offset, "a count that includes the realm")
    else:
        offset += 4
        parts = order.u32.unpack_from(data, offset)[0] + 1
    check_count(offset, parts, 4, limit)
    start, offset, length = offset, offset + 4, order.u32.unpack_from
    for _ in range(parts):
        offset += 4 + length(data, offset)[0]
        if offset > limit:
            raise FormatError(start, f"a principal that ends within {limit} bytes")
    return offset
