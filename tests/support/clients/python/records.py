# SPDX-License-Identifier: MIT
"""Made-up ccaches whose every credential can be checked, written independently of ccfs.

This file knows the FILE format, version 4 (MIT's ccache_file_format document), and nothing else.
A credential's session key and ticket follow from its server's name, so that a reader can tell
whether what it reads was once stored.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

REALM = b"KRBTEST.COM"
CLIENT = b"alice"
HEADER = b"\x05\x04\x00\x00"
NT_PRINCIPAL, NT_SRV_HST = 1, 3
AES256 = 18
TICKET_BYTES = 400
ENDLESS = 0x7FFFFFFF
LIVE = (1, 1, ENDLESS, 0)
AUTHTIME_REMOVED = 0xFFFFFFFF


class TornError(Exception):
    """Bytes that no writer stored."""


@dataclass(frozen=True, slots=True)
class Record:
    """A credential of CLIENT as it stands in a file."""

    server: tuple[bytes, ...]
    realm: bytes = REALM
    times: tuple[int, ...] = LIVE
    key: bytes = field(default=b"", repr=False)
    ticket: bytes = field(default=b"", repr=False)

    def encode(self) -> bytes:
        return b"".join(
            (
                principal(NT_PRINCIPAL, CLIENT),
                principal(NT_SRV_HST, *self.server, realm=self.realm),
                struct.pack(">H", AES256) + counted(self.key),
                struct.pack(">IIII", *self.times),
                struct.pack(">BI", 0, 0x40000000),
                struct.pack(">II", 0, 0),
                counted(self.ticket),
                counted(b""),
            )
        )

    @property
    def name(self) -> str:
        return b"/".join(self.server).decode(errors="backslashreplace")


def ccache(servers: Iterable[str]) -> bytes:
    """A whole ccache of CLIENT with a credential for each server."""
    return HEADER + principal(NT_PRINCIPAL, CLIENT) + b"".join(map(record, servers))


def record(server: str) -> bytes:
    """CLIENT's credential for `server` ("host/web1")."""
    return stored(tuple(server.encode().split(b"/"))).encode()


def stored(server: tuple[bytes, ...]) -> Record:
    key, ticket = secrets_of(b"/".join(server).decode(errors="backslashreplace"))
    return Record(server, key=key, ticket=ticket)


def servers_in(image: bytes, *, complete: bool = True, removed: bool = False) -> list[str]:
    """The servers of a ccache in their order; raises TornError for bytes that no writer stored.

    Unless `complete`, the image may end in the middle of a credential, which is left out. With
    `removed` a credential may be marked as removed, and is left out too.
    """
    servers = []
    for offset, found, raw in _records(image, complete):
        whole = stored(found.server)
        if raw == whole.encode():
            servers.append(whole.name)
        elif not (removed and _is_removed(found, raw, whole)):
            raise TornError(f"{found} at {offset} of {len(image)}: {raw.hex()}")
    return servers


def _is_removed(found: Record, raw: bytes, whole: Record) -> bool:
    """Whether it is as libkrb5 leaves one (times alone changed), or wiped out altogether."""
    if found.times[0] != AUTHTIME_REMOVED:
        return False
    wiped = not any(found.key + found.ticket) and found.realm != REALM
    return wiped or raw == replace(whole, times=found.times).encode()


def _records(image: bytes, complete: bool) -> Iterator[tuple[int, Record, bytes]]:
    start = HEADER + principal(NT_PRINCIPAL, CLIENT)
    if not complete and start.startswith(image):
        return
    if not image.startswith(start):
        raise TornError(f"the beginning of {len(image)} bytes")
    offset = len(start)
    while offset < len(image):
        try:
            found, end = _decode(image, offset)
        except (struct.error, EOFError) as error:
            if complete:
                raise TornError(f"the end, {len(image) - offset} bytes at {offset}") from error
            return
        yield offset, found, image[offset:end]
        offset = end


def _decode(image: bytes, offset: int) -> tuple[Record, int]:
    _, offset = _names(image, offset)
    names, offset = _names(image, offset)
    key, offset = _counted(image, offset + 2)
    times = struct.unpack_from(">IIII", image, offset)
    ticket, offset = _counted(image, offset + 29)
    _, offset = _counted(image, offset)
    return Record(names[1:], names[0], times, key, ticket), offset


def _names(image: bytes, offset: int) -> tuple[tuple[bytes, ...], int]:
    _, count = struct.unpack_from(">II", image, offset)
    if count > 8:
        raise TornError(f"{count} components at {offset} of {len(image)}")
    offset, names = offset + 8, []
    for _ in range(1 + count):
        name, offset = _counted(image, offset)
        names.append(name)
    return tuple(names), offset


def _counted(image: bytes, offset: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from(">I", image, offset)
    end = offset + 4 + length
    if end > len(image):
        raise EOFError
    return image[offset + 4 : end], end


def secrets_of(server: str) -> tuple[bytes, bytes]:
    """The session key and the ticket of a server's credential."""
    key = hashlib.sha256(server.encode()).digest()
    return key, hashlib.shake_128(key).digest(TICKET_BYTES)


def principal(kind: int, *components: bytes, realm: bytes = REALM) -> bytes:
    names = b"".join(map(counted, (realm, *components)))
    return struct.pack(">II", kind, len(components)) + names


def counted(contents: bytes) -> bytes:
    return struct.pack(">I", len(contents)) + contents
