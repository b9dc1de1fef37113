"""Made-up ccaches whose every credential can be checked, written independently of ccfs.

This file knows the FILE format, version 4 (MIT's ccache_file_format document), and nothing else.
A credential's session key and ticket follow from its server's name, so that a reader can tell
whether what it reads is what somebody once stored.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator

REALM = b"KRBTEST.COM"
CLIENT = b"alice"
HEADER = b"\x05\x04\x00\x00"
NT_PRINCIPAL, NT_SRV_HST = 1, 3
AES256 = 18
TICKET_BYTES = 400
ENDLESS = 0x7FFFFFFF


class TornError(Exception):
    """A credential that nobody stored."""


def ccache(servers: Iterable[str]) -> bytes:
    """A whole ccache of CLIENT with a credential for each server."""
    return HEADER + principal(NT_PRINCIPAL, CLIENT) + b"".join(map(record, servers))


def record(server: str) -> bytes:
    """CLIENT's credential for `server` ("host/web1")."""
    key, ticket = secrets_of(server)
    return b"".join(
        (
            principal(NT_PRINCIPAL, CLIENT),
            principal(NT_SRV_HST, *server.encode().split(b"/")),
            struct.pack(">H", AES256) + counted(key),
            struct.pack(">IIII", 1, 1, ENDLESS, 0),
            struct.pack(">BI", 0, 0x40000000),
            struct.pack(">II", 0, 0),
            counted(ticket),
            counted(b""),
        )
    )


def servers_in(image: bytes, *, complete: bool = True) -> list[str]:
    """The servers of a ccache in their order; raises TornError for anything nobody stored.

    Unless `complete`, the image may end in the middle of a credential, which is left out.
    """
    return list(_servers(image, complete))


def _servers(image: bytes, complete: bool) -> Iterator[str]:
    start = HEADER + principal(NT_PRINCIPAL, CLIENT)
    if not complete and start.startswith(image):
        return
    if not image.startswith(start):
        raise TornError("the beginning")
    offset = len(start)
    while offset < len(image):
        server = _server_at(image, offset)
        whole = None if server is None else record(server)
        rest = image[offset:] if whole is None else image[offset : offset + len(whole)]
        if server is None or whole is None or len(rest) < len(whole):
            if complete:
                raise TornError(f"the end, {len(rest)} bytes at {offset}")
            return
        if rest != whole:
            raise TornError(f"the credential for {server} at {offset}")
        yield server
        offset += len(whole)


def _server_at(image: bytes, offset: int) -> str | None:
    """The server of the credential at `offset`; None if the image ends before."""
    client = principal(NT_PRINCIPAL, CLIENT)
    at = image[offset : offset + len(client)]
    if at != client[: len(at)]:
        raise TornError(f"no client at {offset}")
    offset += len(client)
    try:
        kind, count = struct.unpack_from(">II", image, offset)
        names, offset = [], offset + 8
        for _ in range(1 + count):
            (length,) = struct.unpack_from(">I", image, offset)
            offset += 4 + length
            if offset > len(image):
                return None
            names.append(image[offset - length : offset])
    except struct.error:
        return None
    if kind != NT_SRV_HST or names[0] != REALM:
        raise TornError(f"no server at {offset}")
    return b"/".join(names[1:]).decode()


def secrets_of(server: str) -> tuple[bytes, bytes]:
    """The session key and the ticket of a server's credential."""
    key = hashlib.sha256(server.encode()).digest()
    return key, hashlib.shake_128(key).digest(TICKET_BYTES)


def principal(kind: int, *components: bytes) -> bytes:
    names = b"".join(map(counted, (REALM, *components)))
    return struct.pack(">II", kind, len(components)) + names


def counted(contents: bytes) -> bytes:
    return struct.pack(">I", len(contents)) + contents
