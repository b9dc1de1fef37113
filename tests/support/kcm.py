# SPDX-License-Identifier: MIT
"""A KCM client of the tests, and what its messages are made of.

Knows the protocol from the client's side, by its own words; never the server's code.
"""

import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

NOOP, GEN_NEW, INITIALIZE, DESTROY, STORE, RETRIEVE = 0, 3, 4, 5, 6, 7
GET_PRINCIPAL, GET_CRED_UUID_LIST, GET_CRED_BY_UUID, REMOVE_CRED, SET_FLAGS = 8, 9, 10, 11, 12
MOVE_CACHE, GET_CACHE_UUID_LIST, GET_CACHE_BY_UUID = 17, 18, 19
GET_DEFAULT_CACHE, SET_DEFAULT_CACHE, GET_KDC_OFFSET, SET_KDC_OFFSET = 20, 21, 22, 23
GET_CRED_LIST, REPLACE = 13001, 13002

BADNAME, NOTFOUND, END = -1765328245, -1765328243, -1765328242
NOFILE, INTERNAL, WRITE = -1765328189, -1765328188, -1765328187
NOMEM, FORMAT = -1765328186, -1765328185

SECONDS = 30.0


def u32(number: int) -> bytes:
    return struct.pack(">I", number & 0xFFFFFFFF)


def lengthed(data: bytes) -> bytes:
    return u32(len(data)) + data


def principal(text: str, name_type: int = 1) -> bytes:
    """A principal as FILE version 4 has it; `text` is a/b@REALM without anything quoted."""
    name, _, realm = text.partition("@")
    parts = name.split("/")
    names = [lengthed(part.encode()) for part in (realm, *parts)]
    return struct.pack(">iI", name_type, len(parts)) + b"".join(names)


def credential(
    server: str = "host/www@R",
    *,
    client: str = "alice@R",
    key: bytes = b"k" * 32,
    enctype: int = 18,
    times: tuple[int, int, int, int] = (1_000, 1_000, 2_000_000_000, 0),
    is_skey: int = 0,
    flags: int = 0,
    ticket: bytes = b"ticket",
    second: bytes = b"",
    authdata: Sequence[tuple[int, bytes]] = (),
) -> bytes:
    """A credential as FILE version 4 has it."""
    return b"".join(
        (
            principal(client),
            principal(server),
            struct.pack(">h", enctype) + lengthed(key),
            struct.pack(">4IBI", *times, is_skey, flags),
            u32(0),
            typed(authdata),
            lengthed(ticket),
            lengthed(second),
        )
    )


def typed(items: Sequence[tuple[int, bytes]]) -> bytes:
    return u32(len(items)) + b"".join(struct.pack(">H", t) + lengthed(c) for t, c in items)


def tag(
    server: str | None = None,
    *,
    client: str | None = None,
    enctype: int | None = None,
    times: tuple[int, int, int, int] = (0, 0, 0, 0),
    is_skey: int = 0,
    flags: int = 0,
    authdata: Sequence[tuple[int, bytes]] | None = None,
    ticket: bytes | None = None,
    second: bytes | None = None,
) -> bytes:
    """A matching credential, with those fields that are given."""
    parts = [
        (0x01, client is not None, principal(client or "")),
        (0x02, server is not None, principal(server or "")),
        (0x04, enctype is not None, struct.pack(">h", enctype or 0) + lengthed(b"")),
        (0x00, True, struct.pack(">4IBI", *times, is_skey, flags)),
        (0x20, authdata is not None, typed(authdata or ())),
        (0x08, ticket is not None, lengthed(ticket or b"")),
        (0x10, second is not None, lengthed(second or b"")),
    ]
    header = sum(bit for bit, there, _ in parts if there)
    return u32(header) + b"".join(data for _, there, data in parts if there)


def request(opcode: int, *payload: bytes) -> bytes:
    """A whole request, from its length on."""
    body = struct.pack(">BBH", 2, 0, opcode) + b"".join(payload)
    return lengthed(body)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answers."""

    status: int
    payload: bytes


def split(data: bytes) -> Reply:
    """A whole reply, from its length on."""
    length, outer, status = struct.unpack_from(">Iii", data)
    assert outer == 0
    assert len(data) == 8 + length
    return Reply(status, data[12:])


class RefusedError(Exception):
    """The server has answered with a code."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Client:
    """A connection that asks one thing after another; names are given without their NUL."""

    def __init__(self, path: str | Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))  # waits, as clients do, while there is a queue
        self.socket.settimeout(SECONDS)
        self.uid = os.geteuid()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> Reply:
        """The next reply; EOFError where the server has closed."""
        head = self._exactly(8)
        return split(head + self._exactly(struct.unpack_from(">I", head)[0]))

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self.socket.recv(min(size - len(data), 1 << 20))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)

    def ask(self, opcode: int, *payload: bytes) -> Reply:
        self.send(request(opcode, *payload))
        return self.receive()

    def call(self, opcode: int, *payload: bytes) -> bytes:
        """The payload of the reply; RefusedError for a code."""
        reply = self.ask(opcode, *payload)
        if reply.status:
            raise RefusedError(reply.status)
        return reply.payload

    def name(self, ccache: str) -> bytes:
        """The name of one's own ccache, with its NUL."""
        return f"{self.uid}:{ccache}".encode() + b"\0"

    def initialize(self, ccache: str, client: str = "alice@R") -> None:
        self.call(INITIALIZE, self.name(ccache), principal(client))

    def store(self, ccache: str, record: bytes) -> None:
        self.call(STORE, self.name(ccache), record)

    def replace(
        self, ccache: str, records: Sequence[bytes], client: str = "alice@R", offset: int = 0
    ) -> None:
        made = [u32(len(records)), *map(lengthed, records)]
        self.call(REPLACE, self.name(ccache), u32(offset), principal(client), *made)

    def records(self, ccache: str) -> list[bytes]:
        return entries(self.call(GET_CRED_LIST, self.name(ccache)))

    def default(self) -> str:
        return self.call(GET_DEFAULT_CACHE)[:-1].decode().partition(":")[2]

    def ccaches(self) -> list[str]:
        """The names of all that are listed."""
        found = uuids(self.call(GET_CACHE_UUID_LIST))
        names = [self.call(GET_CACHE_BY_UUID, uuid)[:-1].decode() for uuid in found]
        return [name.partition(":")[2] for name in names]


def entries(listing: bytes) -> list[bytes]:
    """What a GET_CRED_LIST has."""
    (count,) = struct.unpack_from(">I", listing)
    found, at = [], 4
    for _ in range(count):
        (length,) = struct.unpack_from(">I", listing, at)
        found.append(listing[at + 4 : at + 4 + length])
        at += 4 + length
    assert at == len(listing)
    return found


def uuids(data: bytes) -> list[bytes]:
    assert len(data) % 16 == 0
    return [data[at : at + 16] for at in range(0, len(data), 16)]
