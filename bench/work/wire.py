# SPDX-License-Identifier: MIT
"""KCM on a connection that is open already: one request and its reply, without libkrb5.

This file knows the KCM protocol (major 2, minor 0) as a client speaks it, and nothing of servers
but what they lack.
"""

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import credentials
from bench.measure import Bench, Case, Cell, reason
from bench.work.client import Client
from bench.work.operations import Sample, Servers, timed

PART = "KCM requests"
INITIALIZE, STORE, RETRIEVE, GET_PRINCIPAL = 4, 6, 7, 8
GET_CRED_UUID_LIST, GET_CRED_BY_UUID, GET_CRED_LIST = 9, 10, 13001
UNSUPPORTED = (-1765328188, -1765328137)
WORKS = ("GET_PRINCIPAL", "RETRIEVE", "GET_CRED_LIST", "GET_CRED_BY_UUID", "STORE", "INITIALIZE")
CACHED_ONLY, CLIENT_AND_SERVER = 1, 3
SECONDS = 30.0


class KcmError(Exception):
    """A reply other than success."""


@dataclass
class Wire:
    """A connection to a KCM server."""

    stream: socket.socket

    def call(self, opcode: int, payload: bytes) -> bytes:
        """The payload of the reply to a request."""
        request = struct.pack(">BBH", 2, 0, opcode) + payload
        self.stream.sendall(struct.pack(">I", len(request)) + request)
        length, outer = struct.unpack(">Ii", self._exactly(8))
        reply = self._exactly(length)
        code = outer or struct.unpack_from(">i", reply)[0]
        if code:
            what = "not supported" if code in UNSUPPORTED else f"code {code}"
            raise KcmError(what)
        return reply[4:]

    def _exactly(self, size: int) -> bytes:
        parts = []
        while size:
            part = self.stream.recv(size)
            if not part:
                raise KcmError("the connection was closed")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


@contextlib.contextmanager
def connected(path: Path) -> Iterator[Wire]:
    """A connection for as long as the block lasts."""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(SECONDS)
        stream.connect(str(path))
        yield Wire(stream)


def run(bench: Bench, servers: Servers, sizes: Sequence[int]) -> None:
    """All of WORKS on each server that has a socket."""
    with contextlib.ExitStack() as stack:
        bench.run(cases(bench, servers, sizes, stack), PART)


def cases(
    bench: Bench, servers: Servers, sizes: Sequence[int], stack: contextlib.ExitStack
) -> Iterator[Case]:
    """Every work at every size on every server."""
    for peer, server in servers.items():
        if server.socket is None:
            continue
        wire, client = stack.enter_context(connected(server.socket)), Client(server)
        for size in sizes:
            for work in WORKS:
                cell = Cell(PART, work, size, peer)
                try:
                    with bench.guard.watching(60, server.pids, server.connection):
                        case = Case(cell, server, sampler(client, wire, work, size))
                except Exception as error:
                    bench.results.failures[cell] = reason(error)
                else:
                    yield case


def sampler(client: Client, wire: Wire, work: str, size: int) -> Sample:
    """How a sample of a request is taken; GET_CRED_BY_UUID is a whole iteration by it."""
    written = work in ("STORE", "INITIALIZE")
    name = f"{work.lower()}-{size}" if written else f"wire-{size}"
    if not written or work == "STORE":
        client.fill(name, size)
    operation = request(wire, work, client.server.residual(name), size)
    there = size

    def sample() -> dict[str, float]:
        nonlocal there
        if work == "STORE" and there > size + max(10, size // 4):
            client.fill(name, size)
            there = size
        there += 6
        return timed(operation)

    operation()
    return sample


def request(wire: Wire, work: str, residual: str, size: int) -> Callable[[], object]:
    """What one work sends and reads."""
    name = residual.removeprefix("KCM:").encode() + b"\0"
    principal = credentials.principal(credentials.NT_PRINCIPAL, credentials.CLIENT)
    if work == "GET_PRINCIPAL":
        return lambda: wire.call(GET_PRINCIPAL, name)
    if work == "GET_CRED_LIST":
        return lambda: wire.call(GET_CRED_LIST, name)
    if work == "GET_CRED_BY_UUID":
        return lambda: one_by_one(wire, name)
    if work == "RETRIEVE":
        wanted = name + tag(credentials.server(size - 1), principal)
        return lambda: wire.call(RETRIEVE, wanted)
    if work == "STORE":
        new = name + credentials.credential(credentials.server(size))
        return lambda: wire.call(STORE, new)
    return lambda: wire.call(INITIALIZE, name + principal)


def tag(server: tuple[bytes, bytes], client: bytes) -> bytes:
    """Flags, and a matching credential of a client and a server principal alone."""
    principals = client + credentials.principal(credentials.NT_SRV_HST, *server)
    flags = struct.pack(">II", CACHED_ONLY, CLIENT_AND_SERVER)
    return flags + principals + bytes(16) + struct.pack(">BI", 0, 0)


def one_by_one(wire: Wire, name: bytes) -> None:
    """Every credential by a request of its own, as clients do without GET_CRED_LIST."""
    uuids = wire.call(GET_CRED_UUID_LIST, name)
    for start in range(0, len(uuids), 16):
        wire.call(GET_CRED_BY_UUID, name + uuids[start : start + 16])
