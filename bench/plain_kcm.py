# SPDX-License-Identifier: MIT
"""A KCM server in the plainest Python: a thread for each connection, blocking reads, all in memory.

    python -m bench.plain_kcm SOCKET

The baseline to measure against, about a day's work: it trusts its clients, has no
limits and no files, announces no change and persists nothing.
"""

import os
import socket
import struct
import sys
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

NOFILE, NOTFOUND, END, INTERNAL = -1765328189, -1765328243, -1765328242, -1765328188


class KcmError(Exception):
    """A code to answer."""


@dataclass
class Cache:
    """A ccache: its principal and its credentials, as they came."""

    principal: bytes
    offset: int = 0
    uuid: bytes = field(default_factory=lambda: uuid.uuid4().bytes)
    creds: dict[bytes, bytes] = field(default_factory=dict)


class Server:
    """All ccaches, shared by all clients."""

    def __init__(self) -> None:
        self.caches: dict[bytes, Cache] = {}
        self.default = b"%d:default" % os.geteuid()
        self.lock = threading.Lock()
        self.unique = 0

    def cache(self, name: bytes) -> Cache:
        if name not in self.caches:
            raise KcmError(NOFILE)
        return self.caches[name]

    def gen_new(self, data: bytes) -> bytes:
        self.unique += 1
        return b"%d:unique%d\0" % (os.geteuid(), self.unique)

    def initialize(self, data: bytes) -> bytes:
        name, principal = data.split(b"\0", 1)
        self.caches[name] = Cache(principal[: skip_principal(principal, 0)])
        return b""

    def destroy(self, data: bytes) -> bytes:
        name = data.split(b"\0", 1)[0]
        self.cache(name)
        del self.caches[name]
        return b""

    def store(self, data: bytes) -> bytes:
        name, cred = data.split(b"\0", 1)
        self.cache(name).creds[uuid.uuid4().bytes] = cred
        return b""

    def retrieve(self, data: bytes) -> bytes:
        name, rest = data.split(b"\0", 1)
        cache, wanted = self.cache(name), Tag(rest[4:])
        for cred in cache.creds.values():
            if wanted.matches(cred):
                return cred
        raise KcmError(NOTFOUND)

    def remove(self, data: bytes) -> bytes:
        name, rest = data.split(b"\0", 1)
        cache, wanted = self.cache(name), Tag(rest[4:])
        found = [key for key, cred in cache.creds.items() if wanted.matches(cred)]
        if not found:
            raise KcmError(NOTFOUND)
        for key in found:
            del cache.creds[key]
        return b""

    def get_principal(self, data: bytes) -> bytes:
        return self.cache(data.split(b"\0", 1)[0]).principal

    def cred_uuids(self, data: bytes) -> bytes:
        return b"".join(self.cache(data.split(b"\0", 1)[0]).creds)

    def cred_by_uuid(self, data: bytes) -> bytes:
        name, key = data.split(b"\0", 1)
        cache = self.cache(name)
        if key[:16] not in cache.creds:
            raise KcmError(END)
        return cache.creds[key[:16]]

    def set_flags(self, data: bytes) -> bytes:
        return b""

    def move(self, data: bytes) -> bytes:
        old, new = data.split(b"\0")[:2]
        self.cache(old)
        self.caches[new] = self.caches.pop(old)
        return b""

    def cache_uuids(self, data: bytes) -> bytes:
        return b"".join(cache.uuid for cache in self.caches.values())

    def cache_by_uuid(self, data: bytes) -> bytes:
        for name, cache in self.caches.items():
            if cache.uuid == data[:16]:
                return name + b"\0"
        raise KcmError(END)

    def get_default(self, data: bytes) -> bytes:
        return self.default + b"\0"

    def set_default(self, data: bytes) -> bytes:
        self.default = data.split(b"\0", 1)[0]
        return b""

    def get_offset(self, data: bytes) -> bytes:
        return struct.pack(">i", self.cache(data.split(b"\0", 1)[0]).offset)

    def set_offset(self, data: bytes) -> bytes:
        name, seconds = data.split(b"\0", 1)
        self.cache(name).offset = struct.unpack_from(">i", seconds)[0]
        return b""

    def cred_list(self, data: bytes) -> bytes:
        creds = self.cache(data.split(b"\0", 1)[0]).creds.values()
        parts = [struct.pack(">I", len(creds))]
        for cred in creds:
            parts += (struct.pack(">I", len(cred)), cred)
        return b"".join(parts)

    def replace(self, data: bytes) -> bytes:
        name, rest = data.split(b"\0", 1)
        end = skip_principal(rest, 4)
        made = Cache(rest[4:end], struct.unpack_from(">i", rest)[0])
        (count,) = struct.unpack_from(">I", rest, end)
        at = end + 4
        for _ in range(count):
            (length,) = struct.unpack_from(">I", rest, at)
            made.creds[uuid.uuid4().bytes] = rest[at + 4 : at + 4 + length]
            at += 4 + length
        self.caches[name] = made
        return b""


class Tag:
    """The principals of a matching credential; nothing else of it counts here."""

    def __init__(self, data: bytes) -> None:
        (header,) = struct.unpack_from(">I", data)
        at = 4
        self.client = self.server = b""
        if header & 1:
            end = skip_principal(data, at)
            self.client, at = data[at + 4 : end], end
        if header & 2:
            self.server = data[at + 4 : skip_principal(data, at)]

    def matches(self, cred: bytes) -> bool:
        server = skip_principal(cred, 0)
        end = skip_principal(cred, server)
        return (not self.client or cred[4:server] == self.client) and (
            not self.server or cred[server + 4 : end] == self.server
        )


def skip_principal(data: bytes, at: int) -> int:
    """The offset behind a principal."""
    (count,) = struct.unpack_from(">I", data, at + 4)
    at += 8
    for _ in range(count + 1):
        at += 4 + int(struct.unpack_from(">I", data, at)[0])
    return at


OPERATIONS: dict[int, Callable[[Server, bytes], bytes]] = {
    3: Server.gen_new,
    4: Server.initialize,
    5: Server.destroy,
    6: Server.store,
    7: Server.retrieve,
    8: Server.get_principal,
    9: Server.cred_uuids,
    10: Server.cred_by_uuid,
    11: Server.remove,
    12: Server.set_flags,
    17: Server.move,
    18: Server.cache_uuids,
    19: Server.cache_by_uuid,
    20: Server.get_default,
    21: Server.set_default,
    22: Server.get_offset,
    23: Server.set_offset,
    13001: Server.cred_list,
    13002: Server.replace,
}


def exactly(client: socket.socket, size: int) -> bytes:
    """`size` bytes; fewer where the client has gone."""
    data = b""
    while len(data) < size:
        piece = client.recv(size - len(data))
        if not piece:
            break
        data += piece
    return data


def serve(server: Server, client: socket.socket) -> None:
    """Answer one client until it goes."""
    with client:
        while head := exactly(client, 4):
            request = exactly(client, *struct.unpack(">I", head))
            (opcode,) = struct.unpack_from(">H", request, 2)
            try:
                if opcode not in OPERATIONS:
                    raise KcmError(INTERNAL)
                with server.lock:
                    code, payload = 0, OPERATIONS[opcode](server, request[4:])
            except KcmError as error:
                code, payload = error.args[0], b""
            client.sendall(struct.pack(">Iii", 4 + len(payload), 0, code) + payload)


def main() -> None:
    """Serve until killed."""
    server, listener = Server(), socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen(128)
    print("ready", flush=True)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(server, client), daemon=True).start()


if __name__ == "__main__":
    main()
