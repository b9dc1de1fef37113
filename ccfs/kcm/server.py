"""KCM on Unix sockets: many connections, none of which holds up another.

Knows who has asked and whose turn it is; never what a message says, nor where one ends.

There is one descriptor that is readable when anybody has something to ask, and one function that
answers them without waiting: a task of trio waits for the descriptor, unless whoever runs the
server has a shorter way than a pass through trio and does so itself.  Who has asked is answered one
request, then whoever else has asked is; after PATIENCE the rest of them have their turn in the next
call.  A client that does not read its reply is read from no more until it does, and one that stops
in the middle of anything is let go after a while; of what is too large to be held for all
connections at a time there is an answer that says so.
"""

import os
import select
import socket
import time
from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM
from io import FileIO
from itertools import islice

import trio

from ccfs.kcm import wire
from ccfs.kcm.connection import Connection
from ccfs.kcm.service import Service
from ccfs.linux import peers

CONNECTIONS = 1024
"""How many there may be; the one that has asked for nothing for longest makes room for another."""
AT_ONCE = 16
"""Connections that have a turn before it is looked who else has asked."""
PATIENCE = 0.001
"""Seconds after which a call answers nobody more: there is more to do here than KCM."""
STALLED = 60.0
"""Seconds, or up to twice that, after which a client that stops in the middle is let go."""

_SHORT = {EMFILE, ENFILE, ENOBUFS, ENOMEM}


class KcmServer:
    """Serves connections, those that it accepts and those that it is given.

    `limit`: the most bytes of a request; `room`: what all connections may hold of large messages;
    `most`: how many connections there may be.
    """

    def __init__(self, service: Service, *, limit: int, room: int, most: int = CONNECTIONS) -> None:
        self._service = service
        self._limit = limit
        self._most = most
        self._ready = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._asking: list[tuple[int, int]] = []
        self._going_on: dict[int, None] = {}
        self._bell = FileIO(os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
        self._ready.register(self._bell, 0)
        self._rings = False  # the bell, since there is somebody who goes on
        self._listener: socket.socket | None = None
        self._hears = False
        self._tick = 0
        self.room = wire.Room(room)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    def fileno(self) -> int:
        """What is readable when `answer_all` has something to do."""
        return self._ready.fileno()

    async def run(
        self,
        listener: socket.socket | None = None,
        *,
        attended: bool = False,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled; `listener`: where clients connect, if it is for us to accept.

        `attended`: somebody else calls `answer_all` whenever there is something to answer.
        """
        if listener is not None:
            listener.setblocking(False)
            self._listener = listener
            self._hear(True)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._look_after)
                task_status.started()
                while not attended:
                    await trio.lowlevel.wait_readable(self._ready.fileno())
                    self.answer_all()
        finally:
            for connection in list(self._connections.values()):
                self._close(connection)
            self._bell.close()
            self._ready.close()

    def serve_connection(self, client: socket.socket) -> None:
        """Serve a connected client from now on; one who has nothing to ask here is let go.

        The kernel says who it is, also of a socket that was handed over.
        """
        told = peers.peer(client)
        peer = self._service.peer(told.uid, told.pid)
        if peer is None:
            client.close()
            return
        if self.connections >= self._most:
            self._dismiss()
        client.setblocking(False)
        requests = wire.Requests(self._limit, self.room)
        connection = Connection(client, peer, requests, self._ready, self.room)
        self._connections[client.fileno()] = connection
        self._tick += 1
        connection.used = self._tick

    def answer_all(self) -> int:
        """Answer who has asked, each one request, for PATIENCE; never waits, never raises.

        Returns how many have had a turn, 0 only where nobody had asked.
        """
        if self._asking or self._rings:
            return self._answer_some(self._asking or self._who_asks())
        asking = self._ready.poll(0, AT_ONCE)
        if len(asking) > 1:
            return self._answer_some(asking)
        for descriptor, _ in asking:
            self._turn(descriptor)
        return len(asking)

    def _answer_some(self, asking: list[tuple[int, int]]) -> int:
        """Answer for PATIENCE, at least one; the next call is for those who are left.

        The epoll tells first of those it has not told of for longest, and is not asked again before
        all of them have had their turn: so everybody has one.
        """
        until, turns = time.monotonic() + PATIENCE, 0
        for descriptor, _ in asking:
            self._turn(descriptor)
            turns += 1
            if time.monotonic() >= until:
                break
        self._asking = asking[turns:]
        return turns

    def _who_asks(self) -> list[tuple[int, int]]:
        """Who asks while the bell rings: when it is its turn, some of those it rings for as well.

        They come behind those who have asked newly.
        """
        asking, bell = self._ready.poll(0, AT_ONCE), self._bell.fileno()
        newly = [one for one in asking if one[0] != bell]
        if len(newly) == len(asking):
            return newly
        return newly + [(descriptor, 0) for descriptor in islice(self._going_on, AT_ONCE)]

    def _turn(self, descriptor: int) -> None:
        """The turn of a client, or of who connects; of nobody where one was let go since."""
        connection = self._connections.get(descriptor)
        if connection is None:
            self._accept(descriptor)
            return
        self._tick += 1
        connection.used = self._tick
        if not connection.turn():
            self._close(connection)
        elif connection.goes_on or self._rings:
            self._note(descriptor, goes_on=connection.goes_on)

    def _note(self, descriptor: int, *, goes_on: bool) -> None:
        """Whether one goes on, behind those who do already; the bell rings while anybody does.

        It could be read from always: the epoll looks at it while it rings.
        """
        self._going_on.pop(descriptor, None)
        if goes_on:
            self._going_on[descriptor] = None
        if self._rings is not bool(self._going_on):
            self._rings = not self._rings
            self._ready.modify(self._bell, select.EPOLLIN if self._rings else 0)

    def _accept(self, descriptor: int) -> None:
        """Take one that is there: of one that isn't we might hear that there is no descriptor."""
        if self._listener is None or descriptor != self._listener.fileno():
            return
        try:
            client, _ = self._listener.accept()
        except OSError as error:
            self._endure(error)
        else:
            self.serve_connection(client)

    def _endure(self, error: OSError) -> None:
        """No client, one who has gone already, or no descriptor for one.

        Where there is nobody whose descriptor could be taken, the next try is after a while.
        """
        if error.errno in _SHORT and not self._dismiss():
            self._hear(False)

    def _hear(self, clients: bool) -> None:
        """Look whether anybody connects, or don't."""
        if self._listener and clients is not self._hears:
            (self._ready.register if clients else self._ready.unregister)(self._listener)
            self._hears = clients

    def _dismiss(self) -> bool:
        """Close the connection that was quiet for longest; False where there is none.

        Clients know servers that close idle connections, and connect again.
        """
        if not self._connections:
            return False
        self._close(min(self._connections.values(), key=lambda connection: connection.used))
        return True

    def _close(self, connection: Connection) -> None:
        descriptor = connection.fileno()
        del self._connections[descriptor]
        if self._rings:
            self._note(descriptor, goes_on=False)
        connection.close()

    async def _look_after(self) -> None:
        """Let go of who stalls, and try again what could not be done for want of descriptors."""
        while True:
            await trio.sleep(STALLED)
            for connection in list(self._connections.values()):
                if connection.stalls():
                    self._close(connection)
            self._hear(True)
