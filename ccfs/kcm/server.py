# SPDX-License-Identifier: MIT
"""KCM on Unix sockets: many connections, none of which delays another.

An epoll descriptor is readable when any client has sent something, and `answer_all` answers without
waiting.  A task of trio waits for the descriptor, unless the daemon's own loop does, which is
faster than a pass through trio.  Each client that has sent a request has a turn of one request;
after TURN_SECONDS the others have theirs in the next call.  While a client does not read its reply
no request of it is read.  A client that stops in the middle of a request or a reply is
disconnected.  A request or reply that exceeds the memory for all connections is answered with an
error.

Knows connections and whose turn it is; never what a message means, nor where one ends.
"""

import os
import select
import socket
import time
from contextlib import suppress
from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM

import trio

from ccfs.kcm import wire
from ccfs.kcm.connection import Connection, is_in_memory
from ccfs.kcm.service import KcmService
from ccfs.linux import peer_credentials

CONNECTIONS = 1024
"""How many there may be; for one more the one that was idle longest is closed."""
BATCH = 16
"""Connections that have a turn before the epoll is asked again."""
TURN_SECONDS = 0.001
"""Seconds after which `answer_all` returns: the same thread serves FUSE requests."""
STALL_SECONDS = 60.0
"""A client that stops in the middle is disconnected after this time, or up to twice of it."""
PART_SECONDS = 0.1
"""Seconds until an incomplete request is read out of a socket that is too small for all of it."""
ALL = b"all"
"""The acceptor's message after the connections of the last daemon."""

_NO_DESCRIPTORS = {EMFILE, ENFILE, ENOBUFS, ENOMEM}


class KcmServer:
    """Serves connections that it accepts, and others that it gets from the acceptor or ccfsd.

    `limit`: bytes of the largest request; `budget`: bytes of large messages of all connections;
    `max_connections`: how many there may be.  `takes_over`: no request is read before `start`,
    which says that all connections of the last daemon are here.
    """

    def __init__(
        self,
        service: KcmService,
        *,
        limit: int,
        budget: int,
        max_connections: int = CONNECTIONS,
        takes_over: bool = False,
    ) -> None:
        self._service = service
        self._limit = limit
        self._max_connections = max_connections
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._waiting: list[tuple[int, int]] = []
        self._listener: socket.socket | None = None
        self._acceptor: socket.socket | None = None
        self._accepts = False
        self._started = not takes_over
        self._parts_waiting = trio.Event()
        self._tick = 0
        self.budget = wire.MemoryBudget(budget)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    def fileno(self) -> int:
        """Return the epoll, which is readable when `answer_all` has something to do."""
        return self._epoll.fileno()

    def open(
        self, listener: socket.socket | None = None, acceptor: socket.socket | None = None
    ) -> None:
        """Serve the clients that connect to `listener`.

        `acceptor`: a socket to the process that accepts them (ccfs.supervisor.kcm_acceptor).  This
        process accepts them where there is none, and when it has ended.
        """
        self._listener, self._acceptor = listener, acceptor
        for source in (listener, acceptor):
            if source is not None:
                source.setblocking(False)
        self._set_accepting(True)

    async def run(
        self,
        *,
        driven: bool = False,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled.

        `driven`: the daemon's loop calls `answer_all` when the epoll is readable.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._close_stalled)
            nursery.start_soon(self._read_parts)
            task_status.started()
            while not driven:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                self.answer_all()

    def close(self, *, ends: bool = True) -> None:
        """Stop serving.  `ends`: no other daemon follows, so that the connections are closed."""
        for connection in list(self._connections.values()) if ends else ():
            self._close(connection)
        self._epoll.close()

    def serve_connection(self, client: socket.socket) -> None:
        """Serve a connected client from now on; disconnect one that has no access.

        Also one whose request or reply was partly in a dead daemon's memory (`is_in_memory`).

        SO_PEERCRED identifies the client, also of a socket that another process has accepted.
        """
        peer = peer_credentials.peer(client)
        responder = self._service.responder(peer.uid, peer.pid)
        if responder is None or is_in_memory(client):
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            client.close()
            return
        if self.connections >= self._max_connections:
            self._close_idlest()
        client.setblocking(False)
        connection = Connection(
            client, responder, self._service, self._epoll, self._limit, self.budget
        )
        self._connections[client.fileno()] = connection
        self._tick += 1
        connection.used = self._tick
        if self._started:
            connection.register()

    def start(self) -> None:
        """Finish the request that the last daemon began, then serve all its connections."""
        if self._started:
            return
        self._started = True
        progress = self._service.progress
        for connection in list(self._connections.values()):
            connection.register()
            if connection.cookie == progress.cookie and not connection.take_over():
                self._close(connection)
        progress.end()

    def answer_all(self) -> int:
        """Answer a request of each client that waits, for TURN_SECONDS; never waits, never raises.

        Returns the number of turns: 0 only where no client waits.
        """
        waiting = self._waiting or self._epoll.poll(0, BATCH)
        if len(waiting) > 1:
            return self._answer_some(waiting)
        self._waiting = []
        for descriptor, events in waiting:
            self._turn(descriptor, events)
        return len(waiting)

    def _answer_some(self, waiting: list[tuple[int, int]]) -> int:
        """Answer for TURN_SECONDS, at least one request; the next call goes on with the others.

        The epoll reports descriptors in the order of their last report, and is not asked again
        before all have had their turn: so each client gets one.
        """
        until, turns = time.monotonic() + TURN_SECONDS, 0
        for descriptor, events in waiting:
            self._turn(descriptor, events)
            turns += 1
            if time.monotonic() >= until:
                break
        self._waiting = waiting[turns:]
        return turns

    def _turn(self, descriptor: int, events: int) -> None:
        """Handle an event of a connection, or of a source of new ones.

        The descriptor may have been closed since the epoll reported it.
        """
        connection = self._connections.get(descriptor)
        if connection is None:
            self._accept(descriptor)
            return
        self._tick += 1
        connection.used = self._tick
        if not connection.turn(events):
            self._close(connection)
        elif connection.may_fill:
            self._parts_waiting.set()

    def _accept(self, descriptor: int) -> None:
        """Accept a connection that the epoll has reported.

        Only then: accept(2) fails with EMFILE before it looks whether there is a connection.
        """
        if self._acceptor and descriptor == self._acceptor.fileno():
            self._receive(self._acceptor)
        elif self._listener and descriptor == self._listener.fileno():
            try:
                client, _ = self._listener.accept()
            except OSError as error:
                self._accept_failed(error)
            else:
                self.serve_connection(client)

    def _receive(self, acceptor: socket.socket) -> None:
        """Receive a connection from the acceptor, or ALL."""
        try:
            # Fails where no descriptor is free: recvmsg(2) would drop the connection then.
            os.close(os.dup(acceptor.fileno()))
            message, descriptors, _, _ = socket.recv_fds(acceptor, 16, 1)
        except BlockingIOError:
            return
        except OSError as error:
            self._accept_failed(error)
            return
        if not message:
            self._acceptor_ended(acceptor)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
            self.serve_connection(socket.socket(fileno=descriptor))
        if message == ALL:
            self.start()

    def _acceptor_ended(self, acceptor: socket.socket) -> None:
        """Accept connections in this process from now on."""
        self._set_accepting(False)
        self._acceptor = None
        acceptor.close()
        self.start()
        if self._listener:
            self._listener.listen(CONNECTIONS)
        self._set_accepting(True)

    def _accept_failed(self, error: OSError) -> None:
        """Handle that the client has disconnected already, or that no descriptor is free for it.

        In the latter case a connection is closed; where there is none, `_close_stalled` tries
        again.
        """
        if error.errno in _NO_DESCRIPTORS and not self._close_idlest():
            self._set_accepting(False)

    def _set_accepting(self, accepts: bool) -> None:
        """Have the epoll report new connections (`accepts`), or not."""
        source = self._acceptor or self._listener
        if source and accepts is not self._accepts:
            if accepts:
                self._epoll.register(source, select.EPOLLIN)
            else:
                self._epoll.unregister(source)
            self._accepts = accepts

    def _close_idlest(self) -> bool:
        """Close the connection that was idle longest; False where there is none.

        Clients connect again: other KCM servers close idle connections, too.
        """
        if not self._connections:
            return False
        self._close(min(self._connections.values(), key=lambda connection: connection.used))
        return True

    def _close(self, connection: Connection) -> None:
        del self._connections[connection.fileno()]
        connection.close()

    async def _close_stalled(self) -> None:
        """Close stalled connections, and accept again after a lack of descriptors."""
        while True:
            await trio.sleep(STALL_SECONDS)
            for connection in list(self._connections.values()):
                if connection.is_stalled():
                    self._close(connection)
            self._set_accepting(True)

    async def _read_parts(self) -> None:
        """Read parts of requests that leave no space in their sockets for the rest."""
        while True:
            await self._parts_waiting.wait()
            await trio.sleep(PART_SECONDS)
            self._parts_waiting = trio.Event()
            for connection in list(self._connections.values()):
                if connection.may_fill:
                    connection.read_parts()
