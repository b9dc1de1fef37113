# SPDX-License-Identifier: MIT
"""Matching of credentials: the tags of RETRIEVE and REMOVE_CRED.

Knows the bytes of tags and of credentials (FILE version 4), and the rules of MIT's and Heimdal's
libraries (krb5_cc_retrieve_cred); never the ccache that has the credentials.

    tag = header(u32) [client] [server] [keyblock] times is_skey(u8) flags(u32)
          [addresses] [authdata] [ticket] [second ticket]      in brackets: where its bit is set

Principals are compared as bytes, without their name type.  Lengths precede their contents, so that
no encoding is a prefix of another.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from struct import error

from ccfs.format.credential import Credential, Keyblock, Times, TypedData, decode_credential
from ccfs.format.dialect import BIG, DIALECT_V4
from ccfs.format.errors import FormatError
from ccfs.format.principal import skip_principal
from ccfs.format.wire import read_count, read_data, read_int, skip_data

HAS_CLIENT, HAS_SERVER, HAS_KEYBLOCK, HAS_TICKET = 0x01, 0x02, 0x04, 0x08
HAS_SECOND, HAS_AUTHDATA, HAS_ADDRESSES = 0x10, 0x20, 0x40

DONT_MATCH_REALM = 1 << 31
MATCH_KEYTYPE = 1 << 30
MATCH_SRV_NAMEONLY = 1 << 29
MATCH_FLAGS_EXACT = 1 << 28
MATCH_FLAGS = 1 << 27
MATCH_TIMES_EXACT = 1 << 26
MATCH_TIMES = 1 << 25
MATCH_AUTHDATA = 1 << 24
MATCH_2ND_TKT = 1 << 23
MATCH_IS_SKEY = 1 << 22

_U32 = BIG.u32
_NAME_TYPE = 4
_NO_KEYBLOCK = Keyblock(0, b"")


@dataclass(frozen=True, slots=True)
class Tag:
    """What a credential must match.

    `client` and `server`: an encoded principal without its name type, None for any.
    """

    client: bytes | None
    server: bytes | None
    enctype: int
    times: Times
    is_skey: bool
    ticket_flags: int
    authdata: tuple[TypedData, ...] = field(repr=False)
    second_ticket: bytes = field(repr=False)


def decode_tag(data: bytes, at: int) -> Tag:
    """Decode the tag at `at`, and ignore what follows it.  Raises FormatError."""
    header = read_int(data, at, _U32, "a tag's header")
    at += 4
    client, at = _principal(data, at) if header & HAS_CLIENT else (None, at)
    server, at = _principal(data, at) if header & HAS_SERVER else (None, at)
    keyblock, at = _keyblock(data, at) if header & HAS_KEYBLOCK else (_NO_KEYBLOCK, at)
    try:
        times = Times(*BIG.u32x4.unpack_from(data, at))
        is_skey = data[at + 16] != 0
    except (error, IndexError):
        raise FormatError(at, "four times and is_skey") from None
    flags = read_int(data, at + 17, _U32, "ticket flags")
    at += 21
    _, at = _typed(data, at) if header & HAS_ADDRESSES else ((), at)
    authdata, at = _typed(data, at) if header & HAS_AUTHDATA else ((), at)
    _, at = read_data(data, at, BIG, "a ticket") if header & HAS_TICKET else (b"", at)
    second, at = read_data(data, at, BIG, "a second ticket") if header & HAS_SECOND else (b"", at)
    return Tag(client, server, keyblock.enctype, times, is_skey, flags, authdata, second)


def _principal(data: bytes, at: int) -> tuple[bytes, int]:
    try:
        end = skip_principal(data, at, DIALECT_V4, len(data))
    except error:
        raise FormatError(at, "a whole principal") from None
    return data[at + _NAME_TYPE : end], end


def _keyblock(data: bytes, at: int) -> tuple[Keyblock, int]:
    enctype = read_int(data, at, BIG.i16, "an enctype")
    _, end = read_data(data, at + 2, BIG, "a key")
    return Keyblock(enctype, b""), end


def _typed(data: bytes, at: int) -> tuple[tuple[TypedData, ...], int]:
    count = read_count(data, at, BIG, "items")
    at += 4
    items = []
    for _ in range(count):
        kind = read_int(data, at, BIG.u16, "a type")
        contents, at = read_data(data, at + 2, BIG, "an item")
        items.append(TypedData(kind, contents))
    return tuple(items), at


Record = bytes | bytearray
EndOf = Callable[[Record, int], int]
"""Returns the end of the principals of the record at an offset; -1 where they don't match."""


class Matcher:
    """A tag, and the flags that select what of it must match.

    `with_skeys`: whether a credential with `is_skey` matches without MATCH_IS_SKEY: with Heimdal it
    does, with MIT it doesn't.  `part`: bytes that each matching record contains; None where no such
    bytes are known.
    """

    __slots__ = ("_criteria", "_end_of", "_skeys", "_tag", "part")

    def __init__(self, tag: Tag, flags: int, *, with_skeys: bool) -> None:
        self._tag = tag
        self.part = None if flags & (DONT_MATCH_REALM | MATCH_SRV_NAMEONLY) else tag.server
        self._end_of = _principals(tag.client, tag.server, flags)
        self._criteria = [matches for flag, matches in CRITERIA.items() if flags & flag]
        self._skeys = with_skeys or bool(flags & MATCH_IS_SKEY)

    def __call__(self, data: Record, at: int) -> bool:
        """Whether the complete record at `at` of `data` matches."""
        end = self._end_of(data, at)
        if end < 0 or not (self._skeys or _without_skey(data, end)):
            return False
        if not self._criteria:
            return True
        credential, _ = decode_credential(memoryview(data), DIALECT_V4, at)
        return all(matches(self._tag, credential) for matches in self._criteria)


def _principals(client: bytes | None, server: bytes | None, flags: int) -> EndOf:
    any_realm = bool(flags & DONT_MATCH_REALM)
    any_server_realm = any_realm or bool(flags & MATCH_SRV_NAMEONLY)
    if client and server and not any_server_realm:
        return _client_and_server(client, server)
    client_end = _principal_end(client, any_realm)
    server_end = _principal_end(server, any_server_realm)

    def end_of(data: Record, at: int) -> int:
        end = client_end(data, at)
        return end if end < 0 else server_end(data, end)

    return end_of


def _client_and_server(client: bytes, server: bytes) -> EndOf:
    """Match client and server with their realms.

    The server is compared first, at its offset behind a client of this length: most records of a
    ccache have the same client.
    """
    to_server = 2 * _NAME_TYPE + len(client)
    size = to_server + len(server)

    def end_of(data: Record, at: int) -> int:
        if data.startswith(server, at + to_server) and data.startswith(client, at + _NAME_TYPE):
            return at + size
        return -1

    return end_of


def _principal_end(principal: bytes | None, any_realm: bool) -> EndOf:
    if principal is None:
        return lambda data, at: skip_principal(data, at, DIALECT_V4, len(data))
    if not any_realm:
        size = _NAME_TYPE + len(principal)
        return lambda data, at: at + size if data.startswith(principal, at + _NAME_TYPE) else -1
    count, components = principal[:4], principal[8 + _U32.unpack_from(principal, 4)[0] :]

    def end_of(data: Record, at: int) -> int:
        names = at + _NAME_TYPE + 8 + _U32.unpack_from(data, at + _NAME_TYPE + 4)[0]
        if data.startswith(count, at + _NAME_TYPE) and data.startswith(components, names):
            return int(names + len(components))
        return -1

    return end_of


def _without_skey(data: Record, key: int) -> bool:
    """Whether `is_skey` is 0 in a record whose keyblock is at `key`."""
    times = skip_data(data, key + 2, BIG, len(data))
    return data[times + 16] == 0


def _times_reach(tag: Tag, credential: Credential) -> bool:
    """Whether a credential is valid and renewable as long as the tag asks; 0 asks for nothing."""
    least, times = tag.times, credential.times
    return least.endtime <= times.endtime and least.renew_till <= times.renew_till


CRITERIA: dict[int, Callable[[Tag, Credential], bool]] = {
    MATCH_KEYTYPE: lambda tag, credential: tag.enctype == credential.keyblock.enctype,
    MATCH_FLAGS_EXACT: lambda tag, credential: tag.ticket_flags == credential.ticket_flags,
    MATCH_FLAGS: lambda tag, credential: tag.ticket_flags & ~credential.ticket_flags == 0,
    MATCH_TIMES_EXACT: lambda tag, credential: tag.times == credential.times,
    MATCH_TIMES: _times_reach,
    MATCH_AUTHDATA: lambda tag, credential: tag.authdata == credential.authdata,
    MATCH_2ND_TKT: lambda tag, credential: tag.second_ticket == credential.second_ticket,
    MATCH_IS_SKEY: lambda tag, credential: tag.is_skey == (credential.is_skey != 0),
}
