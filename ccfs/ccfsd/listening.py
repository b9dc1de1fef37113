# SPDX-License-Identifier: MIT
"""Sockets where clients connect, and the gate that holds new requests back during a restart.

Knows listening sockets; never what clients ask.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import trio

from ccfs.ccfsd.background import logged

IN_A_ROW = 64
"""Connections taken before other coroutines have their turn."""
NO_ROOM = 0.1
"""Seconds until the next try where no descriptor is left for a connection."""


class Gate:
    """Open: requests are taken from clients.  Closed: they wait in their sockets."""

    def __init__(self) -> None:
        self._opened = trio.Event()
        self._opened.set()

    @property
    def is_open(self) -> bool:
        """True if requests are taken."""
        return self._opened.is_set()

    def open(self) -> None:
        """Take requests again."""
        self._opened.set()

    def close(self) -> None:
        """Take no request any more."""
        if self._opened.is_set():
            self._opened = trio.Event()

    async def wait_readable(self, descriptor: socket.socket) -> None:
        """Wait until the gate is open and there is something to read."""
        while True:
            if not self.is_open:  # Event.wait takes a turn of the scheduler even when it is set
                await self._opened.wait()
            await trio.lowlevel.wait_readable(descriptor)
            if self.is_open:
                return


async def accept(
    listener: socket.socket, gate: Gate, welcome: Callable[[socket.socket], object]
) -> None:
    """Call `welcome` with each connection, for ever; an exception costs that connection alone."""
    listener.setblocking(False)
    while True:
        await gate.wait_readable(listener)
        for _ in range(IN_A_ROW):
            try:
                connection, _address = listener.accept()
            except BlockingIOError:
                break
            except OSError:  # no descriptor is left, or the client has gone
                await trio.sleep(NO_ROOM)
                break
            with logged() as failure:
                welcome(connection)
            if failure:
                connection.close()
