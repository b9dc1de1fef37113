# SPDX-License-Identifier: MIT
"""Between KCM clients and their server: passes everything on, and writes the opcodes down.

Knows lengths and opcodes; never what a message holds.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

SECONDS = 30.0


class Recording:
    """The opcodes since the last look, in the order in which the requests came."""

    def __init__(self) -> None:
        self._opcodes: list[int] = []

    def note(self, opcode: int) -> None:
        self._opcodes.append(opcode)

    def take(self) -> list[int]:
        taken, self._opcodes = self._opcodes, []
        return taken


@contextlib.contextmanager
def recorded(path: Path, server: Path) -> Iterator[Recording]:
    """Listen at `path` for the server at `server`."""
    recording = Recording()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(64)
        thread = threading.Thread(target=_accept, args=(listener, server, recording))
        thread.start()
        try:
            yield recording
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(SECONDS)


def _accept(listener: socket.socket, server: Path, recording: Recording) -> None:
    threads = []
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            thread = threading.Thread(target=_serve, args=(client, server, recording))
            thread.start()
            threads.append(thread)
    for thread in threads:
        thread.join(SECONDS)


def _serve(client: socket.socket, path: Path, recording: Recording) -> None:
    with client, socket.socket(socket.AF_UNIX) as server, contextlib.suppress(OSError, EOFError):
        for one in (client, server):
            one.settimeout(SECONDS)
        server.connect(str(path))
        while True:
            request = _exactly(client, 4)
            request += _exactly(client, struct.unpack(">I", request)[0])
            recording.note(struct.unpack_from(">H", request, 6)[0])
            server.sendall(request)
            reply = _exactly(server, 4)
            client.sendall(reply + _exactly(server, 4 + struct.unpack(">I", reply)[0]))


def _exactly(stream: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = stream.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)
