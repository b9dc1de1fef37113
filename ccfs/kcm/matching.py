"""Which credentials a client means: the tags of RETRIEVE and REMOVE_CRED.

Knows the bytes of tags and of credentials (FILE version 4), and the rules of both libraries; never
the ccache that holds the credentials.

    tag = header(u32) [client] [server] [keyblock] times is_skey(u8) flags(u32)
          [addresses] [authdata] [ticket] [second ticket]      in brackets: where its bit is set

A principal is compared as bytes, but for its name type: lengths stand before their contents, so
that one encoding is never the beginning of another.
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
_NOTHING = Keyblock(0, b"")


@dataclass(frozen=True, slots=True)
class Tag:
    """What a credential must be like.

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
    """The tag at `at`, whatever stands behind it.  Raises FormatError."""
    header = read_int(data, at, _U32, "a tag's header")
    at += 4
    client, at = _principal(data, at) if header & HAS_CLIENT else (None, at)
    server, at = _principal(data, at) if header & HAS_SERVER else (None, at)
    keyblock, at = _keyblock(data, at) if header & HAS_KEYBLOCK else (_NOTHING, at)
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
"""Where the principals of the record at an offset end; -1 where they aren't those wanted."""


class Matcher:
    """A tag, and the flags that say how much of it counts.

    `with_skeys`: whether a credential with `is_skey` counts where MATCH_IS_SKEY doesn't ask for
    it: for Heimdal it does, for MIT it doesn't.  `part`: bytes that are somewhere in every record
    that is meant, None where nothing is known of that.
    """

    __slots__ = ("_criteria", "_end_of", "_skeys", "_tag", "part")

    def __init__(self, tag: Tag, flags: int, *, with_skeys: bool) -> None:
        self._tag = tag
        self.part = None if flags & (DONT_MATCH_REALM | MATCH_SRV_NAMEONLY) else tag.server
        self._end_of = _principals(tag.client, tag.server, flags)
        self._criteria = [holds for flag, holds in CRITERIA.items() if flags & flag]
        self._skeys = with_skeys or bool(flags & MATCH_IS_SKEY)

    def __call__(self, data: Record, at: int) -> bool:
        """Whether the complete record at `at` of `data` is meant."""
        end = self._end_of(data, at)
        if end < 0 or not (self._skeys or _without_skey(data, end)):
            return False
        if not self._criteria:
            return True
        credential, _ = decode_credential(memoryview(data), DIALECT_V4, at)
        return all(holds(self._tag, credential) for holds in self._criteria)


def _principals(client: bytes | None, server: bytes | None, flags: int) -> EndOf:
    any_realm = bool(flags & DONT_MATCH_REALM)
    any_server_realm = any_realm or bool(flags & MATCH_SRV_NAMEONLY)
    if client and server and not any_server_realm:
        return _both(client, server)
    client_end = _one(client, any_realm)
    server_end = _one(server, any_server_realm)

    def end_of(data: Record, at: int) -> int:
        end = client_end(data, at)
        return end if end < 0 else server_end(data, end)

    return end_of


def _both(client: bytes, server: bytes) -> EndOf:
    """Both as they are.  The server is looked at first, where it is if the client is the one."""
    to_server = 2 * _NAME_TYPE + len(client)
    size = to_server + len(server)

    def end_of(data: Record, at: int) -> int:
        if data.startswith(server, at + to_server) and data.startswith(client, at + _NAME_TYPE):
            return at + size
        return -1

    return end_of


def _one(wanted: bytes | None, any_realm: bool) -> EndOf:
    if wanted is None:
        return lambda data, at: skip_principal(data, at, DIALECT_V4, len(data))
    if not any_realm:
        size = _NAME_TYPE + len(wanted)
        return lambda data, at: at + size if data.startswith(wanted, at + _NAME_TYPE) else -1
    count, components = wanted[:4], wanted[8 + _U32.unpack_from(wanted, 4)[0] :]

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
    """Valid and renewable for as long as the tag says, where it says so."""
    wanted, have = tag.times, credential.times
    return wanted.endtime <= have.endtime and wanted.renew_till <= have.renew_till


CRITERIA: dict[int, Callable[[Tag, Credential], bool]] = {
    MATCH_KEYTYPE: lambda tag, have: tag.enctype == have.keyblock.enctype,
    MATCH_FLAGS_EXACT: lambda tag, have: tag.ticket_flags == have.ticket_flags,
    MATCH_FLAGS: lambda tag, have: tag.ticket_flags & ~have.ticket_flags == 0,
    MATCH_TIMES_EXACT: lambda tag, have: tag.times == have.times,
    MATCH_TIMES: _times_reach,
    MATCH_AUTHDATA: lambda tag, have: tag.authdata == have.authdata,
    MATCH_2ND_TKT: lambda tag, have: tag.second_ticket == have.second_ticket,
    MATCH_IS_SKEY: lambda tag, have: tag.is_skey == (have.is_skey != 0),
}
