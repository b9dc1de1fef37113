# SPDX-License-Identifier: MIT
"""Clients of the control socket: how many, for how long, and one request at a time.

Each connection is one coroutine.  A client that misbehaves gets an error and is disconnected; none
costs another anything by being quiet, slow or fast.

Knows packets and the uid of the process that sends them; never what a request asks.
"""

from __future__ import annotations

import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable

import trio

from ccfs.ccfsd import listening
from ccfs.ccfsd.background import Background, logged
from ccfs.ccfsd.listening import Gate
from ccfs.ccfsd.subuids import Users
from ccfs.control import messages
from ccfs.control.messages import MalformedError, Message
from ccfs.errors import UserError
from ccfs.linux import peer_credentials
from ccfs.linux.peer_credentials import Peer

log = logging.getLogger(__name__)

MOST = 1024
"""Connections of all users but root."""
MOST_OF_ONE = 16
"""Connections of one user who isn't root."""
MOST_OF_ROOT = 4096
QUIET = 10.0
"""Seconds that a client may stay without a request."""

Answer = Callable[["Connection"], Awaitable[None]]
"""Carries a request out, and sends the reply."""


class Connection:
    """The connection of one client.

    `user`: the user behind its uid (`Users.behind`).  `is_busy`: it waits for a reply.
    """

    def __init__(
        self,
        connected: socket.socket,
        peer: Peer,
        user: int | str,
        save: Callable[[], Awaitable[object]],
    ) -> None:
        self.socket = connected
        self.peer = peer
        self.user = user
        self.is_busy = False
        self.is_closed = False
        self._save = save
        self._until_closed: trio.CancelScope | None = None

    def while_connected(self) -> trio.CancelScope:
        """Return a scope that is cancelled when the client disconnects."""
        self._until_closed = trio.CancelScope()
        return self._until_closed

    async def reply(self, data: bytes) -> bool:
        """Send the reply, once what it promises is saved; False where the client is gone."""
        await self._save()
        return self.send(data)

    def send(self, data: bytes) -> bool:
        """Send the reply now; False where the client is gone, or doesn't read."""
        if self.is_closed:
            return False
        self.is_busy = False
        try:
            self.socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            self.close()
            return False
        if data.startswith(b"error"):
            self.close()
        return True

    def receive(self) -> bytes | None:
        """Receive a packet; b"" at the end of the connection, None where there is no packet."""
        try:
            return self.socket.recv(messages.MESSAGE_MAX + 1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def close(self) -> None:
        """Disconnect the client."""
        self.is_closed = True
        self.is_busy = False
        if self.socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self.socket)
            self.socket.close()
        if self._until_closed is not None:
            self._until_closed.cancel()


class Clients:
    """All connections.

    `handle` carries a request out.  `save` is called before a reply is sent.
    """

    def __init__(
        self,
        background: Background,
        gate: Gate,
        handle: Callable[[Connection, Message], Awaitable[None]],
        save: Callable[[], Awaitable[object]],
    ) -> None:
        self.all: set[Connection] = set()
        self._background = background
        self._gate = gate
        self._handle = handle
        self._save = save
        self._count: Counter[int | str] = Counter()
        self._users = Users()

    async def accept(self, listener: socket.socket) -> None:
        """Serve the clients that connect, for ever."""
        await listening.accept(listener, self._gate, self.welcome)

    def welcome(self, connected: socket.socket, answer: Answer | None = None) -> None:
        """Serve one more client, or turn it away; `answer`: of a request that was taken already."""
        peer = peer_credentials.peer(connected)
        user = self._users.behind(peer.uid)
        if self._is_too_much(user):
            with connected:
                _turn_away(connected)
            return
        connection = Connection(connected, peer, user, self._save)
        self._count[user] += 1
        self.all.add(connection)
        self._background.start(self._serve, connection, answer)

    def _is_too_much(self, user: int | str) -> bool:
        if user == 0:
            return self._count[0] >= MOST_OF_ROOT
        return self._count[user] >= MOST_OF_ONE or self._count.total() - self._count[0] >= MOST

    async def _serve(self, connection: Connection, answer: Answer | None) -> None:
        try:
            while True:
                if answer is not None:
                    await self._answer(connection, answer)
                if connection.is_closed or not (data := await self._next(connection)):
                    return
                answer = self._answer_to(data)
        finally:
            connection.close()
            self.all.discard(connection)
            self._count[connection.user] -= 1
            if not self._count[connection.user]:
                del self._count[connection.user]

    async def _next(self, connection: Connection) -> bytes:
        """The next request; b"" where the client is gone, or was quiet for too long."""
        with trio.move_on_after(QUIET):
            while True:
                if self._gate.is_open and (data := connection.receive()) is not None:
                    return data
                await self._gate.wait_readable(connection.socket)
        return b""

    async def _answer(self, connection: Connection, answer: Answer) -> None:
        """Have a request answered, and see meanwhile whether the client disconnects."""
        connection.is_busy = True
        async with trio.open_nursery() as tasks:
            tasks.start_soon(_watch, connection)
            with logged() as failure:
                await answer(connection)
            if failure:
                connection.send(messages.refusal("unexpected failure"))
            tasks.cancel_scope.cancel()

    def _answer_to(self, data: bytes) -> Answer:
        async def answer(connection: Connection) -> None:
            try:
                await self._handle(connection, messages.decode(data))
            except MalformedError as error:
                refusal = str(error)
            except UserError as error:
                refusal = error.reason
            except OSError as error:  # no descriptor is left for what it takes
                refusal = (error.strerror or str(error)).lower()
            else:
                return
            await connection.reply(messages.refusal(refusal))

        return answer


async def _watch(connection: Connection) -> None:
    """Disconnect a client that sends a second request, or goes, before it has the reply."""
    data = None
    while data is None:
        if connection.is_closed:
            return
        try:
            await trio.lowlevel.wait_readable(connection.socket)
        except trio.ClosedResourceError:
            return
        data = connection.receive()
    if data:
        connection.send(messages.refusal("one request at a time"))
    connection.close()


def _turn_away(connected: socket.socket) -> None:
    """Refuse a connection; a request is read first, or the client would see a reset instead."""
    try:
        connected.send(messages.refusal("too many connections"), socket.MSG_DONTWAIT)
        connected.recv(1, socket.MSG_DONTWAIT)
    except OSError:
        return
