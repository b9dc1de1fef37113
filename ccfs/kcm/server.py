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
from contextlib import suppress
from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM

import trio

from ccfs.kcm import wire
from ccfs.kcm.connection import Connection, is_midway
from ccfs.kcm.service import Service
from ccfs.linux import peer_credentials

CONNECTIONS = 1024
"""How many there may be; the one that has asked for nothing for longest makes room for another."""
AT_ONCE = 16
"""Connections that have a turn before it is looked who else has asked."""
PATIENCE = 0.001
"""Seconds after which a call answers nobody more: there is more to do here than KCM."""
STALLED = 60.0
"""Seconds, or up to twice that, after which a client that stops in the middle is let go."""
FULL = 0.1
"""Seconds that a part of a request stays in its socket, where the rest may not fit beside it."""
ALL = b"all"
"""What a keeper says after the connections of the daemon before."""

_SHORT = {EMFILE, ENFILE, ENOBUFS, ENOMEM}


class KcmServer:
    """Serves connections, those that it accepts and those that it is given.

    `limit`: the most bytes of a request; `room`: what all connections may hold of large messages;
    `most`: how many connections there may be.  `takes_over`: no request is read before
    `begin`, which tells that all connections of the daemon before were given.
    """

    def __init__(
        self,
        service: Service,
        *,
        limit: int,
        room: int,
        most: int = CONNECTIONS,
        takes_over: bool = False,
    ) -> None:
        self._service = service
        self._limit = limit
        self._most = most
        self._ready = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._asking: list[tuple[int, int]] = []
        self._listener: socket.socket | None = None
        self._keeper: socket.socket | None = None
        self._hears = False
        self._begun = not takes_over
        self._parts = trio.Event()
        self._tick = 0
        self.room = wire.Room(room)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    def fileno(self) -> int:
        """What is readable when `answer_all` has something to do."""
        return self._ready.fileno()

    def open(
        self, listener: socket.socket | None = None, keeper: socket.socket | None = None
    ) -> None:
        """Serve who connects at `listener`.

        `keeper`: a socket to the process that accepts them there
        (ccfs.supervisor.kcm_acceptor); we accept them where there is none, or when it has gone.
        """
        self._listener, self._keeper = listener, keeper
        for one in (listener, keeper):
            if one is not None:
                one.setblocking(False)
        self._hear(True)

    async def run(
        self,
        *,
        attended: bool = False,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled.

        `attended`: somebody else calls `answer_all` whenever there is something to answer.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_after)
            nursery.start_soon(self._make_room)
            task_status.started()
            while not attended:
                await trio.lowlevel.wait_readable(self._ready.fileno())
                self.answer_all()

    def close(self, *, ends: bool = True) -> None:
        """Serve no more.  `ends`: no other daemon will, so that clients are told."""
        for connection in list(self._connections.values()) if ends else ():
            self._close(connection)
        self._ready.close()

    def serve_connection(self, client: socket.socket) -> None:
        """Serve a connected client from now on; one who has nothing to ask here is let go.

        The kernel says who it is, also of a socket that was handed over.
        """
        told = peer_credentials.peer(client)
        peer = self._service.peer(told.uid, told.pid)
        if peer is None or is_midway(client):
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            client.close()
            return
        if self.connections >= self._most:
            self._dismiss()
        client.setblocking(False)
        made = Connection(client, peer, self._service, self._ready, self._limit, self.room)
        self._connections[client.fileno()] = made
        self._tick += 1
        made.used = self._tick
        if self._begun:
            made.attend()

    def begin(self) -> None:
        """Finish what the daemon before has begun, then serve all that were given."""
        if self._begun:
            return
        self._begun = True
        inflight = self._service.inflight
        for connection in list(self._connections.values()):
            connection.attend()
            if connection.cookie == inflight.cookie and not connection.take_over():
                self._close(connection)
        inflight.end()

    def answer_all(self) -> int:
        """Answer who has asked, each one request, for PATIENCE; never waits, never raises.

        Returns how many have had a turn, 0 only where nobody had asked.
        """
        asking = self._asking or self._ready.poll(0, AT_ONCE)
        if len(asking) > 1:
            return self._answer_some(asking)
        self._asking = []
        for descriptor, events in asking:
            self._turn(descriptor, events)
        return len(asking)

    def _answer_some(self, asking: list[tuple[int, int]]) -> int:
        """Answer for PATIENCE, at least one; the next call is for those who are left.

        The epoll tells first of those it has not told of for longest, and is not asked again before
        all of them have had their turn: so everybody has one.
        """
        until, turns = time.monotonic() + PATIENCE, 0
        for descriptor, events in asking:
            self._turn(descriptor, events)
            turns += 1
            if time.monotonic() >= until:
                break
        self._asking = asking[turns:]
        return turns

    def _turn(self, descriptor: int, events: int) -> None:
        """The turn of a client, or of who connects; of nobody where one was let go since."""
        connection = self._connections.get(descriptor)
        if connection is None:
            self._take(descriptor)
            return
        self._tick += 1
        connection.used = self._tick
        if not connection.turn(events):
            self._close(connection)
        elif connection.fills:
            self._parts.set()

    def _take(self, descriptor: int) -> None:
        """Take who is there: of who isn't we might hear that there is no descriptor."""
        if self._keeper and descriptor == self._keeper.fileno():
            self._hear_keeper(self._keeper)
        elif self._listener and descriptor == self._listener.fileno():
            try:
                client, _ = self._listener.accept()
            except OSError as error:
                self._endure(error)
            else:
                self.serve_connection(client)

    def _hear_keeper(self, keeper: socket.socket) -> None:
        """Take what the keeper says: a connection, or that there are no more of before."""
        try:
            os.close(os.dup(keeper.fileno()))  # without a descriptor a connection would be lost
            said, given, _, _ = socket.recv_fds(keeper, 16, 1)
        except BlockingIOError:
            return
        except OSError as error:
            self._endure(error)
            return
        if not said:
            self._do_without_keeper(keeper)
        for descriptor in given:
            os.set_inheritable(descriptor, False)
            self.serve_connection(socket.socket(fileno=descriptor))
        if said == ALL:
            self.begin()

    def _do_without_keeper(self, keeper: socket.socket) -> None:
        """Accept clients ourselves: the process that did has gone."""
        self._hear(False)
        self._keeper = None
        keeper.close()
        self.begin()
        if self._listener:
            self._listener.listen(CONNECTIONS)
        self._hear(True)

    def _endure(self, error: OSError) -> None:
        """No client, one who has gone already, or no descriptor for one.

        Where there is nobody whose descriptor could be taken, the next try is after a while.
        """
        if error.errno in _SHORT and not self._dismiss():
            self._hear(False)

    def _hear(self, clients: bool) -> None:
        """Look whether anybody connects, or don't."""
        door = self._keeper or self._listener
        if door and clients is not self._hears:
            if clients:
                self._ready.register(door, select.EPOLLIN)
            else:
                self._ready.unregister(door)
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
        del self._connections[connection.fileno()]
        connection.close()

    async def _look_after(self) -> None:
        """Let go of who stalls, and try again what could not be done for want of descriptors."""
        while True:
            await trio.sleep(STALLED)
            for connection in list(self._connections.values()):
                if connection.stalls():
                    self._close(connection)
            self._hear(True)

    async def _make_room(self) -> None:
        """Take in parts of requests that may keep their clients from sending the rest."""
        while True:
            await self._parts.wait()
            await trio.sleep(FULL)
            self._parts = trio.Event()
            for connection in list(self._connections.values()):
                if connection.fills:
                    connection.take_in()
