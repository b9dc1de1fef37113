"""KCM on Unix sockets: many connections, none of which holds up another.

Knows sockets and when they are ready; never what a message says.

There is one descriptor that is readable when anybody has something to ask, and one function that
answers them all without waiting: a task of trio waits for the descriptor, unless whoever runs the
server has a shorter way than a pass through trio and does so itself.  A client that does not read
its reply is read from no more until it does, and one that stops in the middle of anything is let
go after a while; of what is too large to be held for all connections at a time there is an answer
that says so.
"""

import logging
import select
import socket
import struct
from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM

import trio

from ccfs import unforeseen
from ccfs.kcm import wire
from ccfs.kcm.service import TOO_LARGE, Peer, Service

log = logging.getLogger(__name__)

CONNECTIONS = 1024
"""How many there may be; the one that has asked for nothing for longest makes room for another."""
FIRST = 4096
"""Bytes that are read where a request may begin: nobody has many in there."""
PIECE = 256 * 1024
"""Bytes that are read at a time of one that is known to be longer."""
AT_ONCE = 16
"""Connections that are answered before others have their turn."""
STALLED = 60.0
"""Seconds, or up to twice that, after which a client that stops in the middle is let go."""

_CREDENTIALS = struct.Struct("3i")
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
            self._ready.close()

    def serve_connection(self, client: socket.socket) -> None:
        """Serve a connected client from now on; one who has nothing to ask here is let go.

        The kernel says who it is, also of a socket that was handed over.
        """
        told = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(told)
        peer = self._service.peer(uid, pid)
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
        """Answer whoever has asked, as far as that can be done now; never waits, never raises.

        Returns how many there were.
        """
        asking = self._ready.poll(0, AT_ONCE)
        for descriptor, _ in asking:
            connection = self._connections.get(descriptor)
            if connection is None:
                self._accept()
                continue
            self._tick += 1
            connection.used = self._tick
            if not connection.turn():
                self._close(connection)
        return len(asking)

    def _accept(self) -> None:
        """Take one that is there: of one that isn't we might hear that there is no descriptor."""
        assert self._listener is not None
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

    def _close(self, connection: "Connection") -> None:
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


class Connection:
    """One client's.  `used`: when it last asked for something, in the server's ticks."""

    __slots__ = (
        "_held",
        "_moved",
        "_peer",
        "_ready",
        "_requests",
        "_rest",
        "_room",
        "_socket",
        "used",
    )

    def __init__(
        self,
        client: socket.socket,
        peer: Peer,
        requests: wire.Requests,
        ready: select.epoll,
        room: wire.Room,
    ) -> None:
        self._socket = client
        self._peer = peer
        self._requests = requests
        self._ready = ready
        self._room = room
        self._rest = memoryview(b"")
        self._held = 0
        self._moved = False
        self.used = 0
        ready.register(client, select.EPOLLIN)

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def turn(self) -> bool:
        """Do what can be done without waiting; False where the connection is at its end.

        That is so when the client leaves or breaks the protocol; and when something fails in a way
        that nobody thought of.
        """
        try:
            if self._rest or not self._requests.idle:
                return self._go_on()
            data = self._socket.recv(FIRST)
            if wire.single(data):
                self._reply(self._peer.answer(data[4:]))
                return True
            return self._feed(data)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            log.debug("a client has gone")
        except wire.ProtocolError as error:
            log.debug("a client breaks the protocol: wanted is %s", error)
        except Exception as error:
            log.error("a connection failed: %s", unforeseen.describe(error))
        return False

    def stalls(self) -> bool:
        """Whether a reply or a request is no further than when this was last asked."""
        moved, self._moved = self._moved, False
        return bool(self._rest or not self._requests.idle) and not moved

    def close(self) -> None:
        """The connection's end.

        Whoever has handed the socket over may have it open still, and the epoll watches it for as
        long as anybody has, unless told otherwise.
        """
        self._requests.close()
        self._release()
        self._ready.unregister(self._socket)
        self._socket.close()

    def _go_on(self) -> bool:
        """Where the last turn has ended in the middle of a reply or of a request."""
        if self._rest and not self._send_more():
            return True
        if not (self._requests.idle or self._answer_held()):
            return True
        return self._feed(self._socket.recv(min(self._requests.missing, PIECE) or FIRST))

    def _feed(self, data: bytes) -> bool:
        """Bytes of a request, or of more than one; False where there are no more to come."""
        if not data:
            return False
        self._moved = True
        self._requests.feed(data)
        self._answer_held()
        return True

    def _answer_held(self) -> bool:
        """Answer what is complete, as long as the replies are taken; whether all were."""
        while not self._rest:
            request = self._requests.take()
            if request is None:
                return True
            if isinstance(request, wire.TooLarge):
                self._reply(TOO_LARGE)
            else:
                self._reply(self._peer.answer(request))
        return False

    def _reply(self, reply: bytes) -> None:
        """Send a reply, or begin to: what the kernel can't take is kept until the client reads."""
        if len(reply) > wire.SMALL:
            if self._room.take(len(reply)):
                self._held = len(reply)
            else:
                reply = TOO_LARGE
        sent = self._send(reply)
        if sent < len(reply):
            self._rest, self._moved = memoryview(reply)[sent:], True
            self._ready.modify(self._socket, select.EPOLLOUT)
        elif self._held:
            self._release()

    def _send_more(self) -> bool:
        """Go on sending; whether that was all of it."""
        sent = self._send(self._rest)
        self._rest, self._moved = self._rest[sent:], self._moved or sent > 0
        if self._rest:
            return False
        self._ready.modify(self._socket, select.EPOLLIN)
        self._release()
        return True

    def _send(self, data: bytes | memoryview) -> int:
        """How many bytes the kernel has taken."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    def _release(self) -> None:
        self._room.give(self._held)
        self._held = 0
