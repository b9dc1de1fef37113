"""KCM on Unix sockets: a task for each connection, none of which holds up another.

Knows sockets and the event loop; never what a message says.

A request is read and answered without trio's streams: as a rule that is one recv and one send.  A
client that does not read its replies is read from no more; of what is too large to be held for all
connections at a time there is an answer that says so.
"""

import logging
import socket
import struct
from contextlib import suppress
from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM

import trio
from trio.lowlevel import checkpoint, wait_readable, wait_writable

from ccfs import unforeseen
from ccfs.kcm import wire
from ccfs.kcm.service import TOO_LARGE, Peer, Service

log = logging.getLogger(__name__)

CONNECTIONS = 1024
"""How many there may be; the one that has asked for nothing for longest makes room for another."""
PIECE = 64 * 1024
"""Bytes that are read at a time."""
IN_A_ROW = 16
"""Requests that are answered before others have their turn."""
STALLED = 60.0
"""Seconds after which a client that takes nothing of its reply is given up."""
PAUSE = 0.1
"""Seconds until the next try where the system has no descriptors left."""

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
        self._nursery: trio.Nursery | None = None
        self._connections: set[Connection] = set()
        self._tick = 0
        self.room = wire.Room(room)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    def tick(self) -> int:
        """A number that grows with every sign of life."""
        self._tick += 1
        return self._tick

    async def run(
        self,
        listener: socket.socket | None = None,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled; `listener`: where clients connect, if it is for us to accept."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            if listener is None:
                await trio.sleep_forever()
            else:
                await self._accept(listener)

    def serve_connection(self, client: socket.socket) -> None:
        """Serve a connected client from now on; one who has nothing to ask here is let go.

        Only while `run` runs.  The kernel says who it is, also of a socket that was handed over.
        """
        assert self._nursery is not None
        pid, uid, _ = _CREDENTIALS.unpack(
            client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        peer = self._service.peer(uid, pid)
        if peer is None:
            client.close()
            return
        if self.connections >= self._most:
            self._dismiss()
        client.setblocking(False)
        requests = wire.Requests(self._limit, self.room)
        connection = Connection(self, client, peer, requests)
        self._connections.add(connection)
        self._nursery.start_soon(connection.run)

    def leave(self, connection: "Connection") -> None:
        """A connection is closed."""
        self._connections.discard(connection)

    def _dismiss(self) -> bool:
        """Close the connection that was quiet for longest; False where there is none.

        Clients know servers that close idle connections, and connect again.
        """
        if not self._connections:
            return False
        oldest = min(self._connections, key=lambda connection: connection.used)
        self._connections.discard(oldest)
        oldest.scope.cancel()
        return True

    async def _accept(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        while True:
            await wait_readable(listener)
            for _ in range(IN_A_ROW):
                try:
                    client, _address = listener.accept()
                except BlockingIOError:
                    break
                except OSError as error:
                    await self._endure(error)
                    break
                self.serve_connection(client)

    async def _endure(self, error: OSError) -> None:
        """A client that has gone already, or no descriptor for one: there may be one in a moment.

        Raises what won't pass.
        """
        if error.errno in _SHORT:
            self._dismiss()
            await trio.sleep(PAUSE)
        elif not isinstance(error, ConnectionError):
            raise error


class Connection:
    """One client's.  `used`: when it last asked for something, in the server's ticks."""

    __slots__ = ("_peer", "_requests", "_server", "_socket", "_turns", "scope", "used")

    def __init__(
        self, server: KcmServer, client: socket.socket, peer: Peer, requests: wire.Requests
    ) -> None:
        self._server = server
        self._socket = client
        self._peer = peer
        self._requests = requests
        self._turns = 0
        self.scope = trio.CancelScope()
        self.used = server.tick()

    async def run(self) -> None:
        """Answer until the client leaves, breaks the protocol, or has to make room."""
        try:
            with self.scope:
                await self._serve()
        except OSError:
            log.debug("a client has gone")
        except wire.ProtocolError as error:
            log.debug("a client breaks the protocol: it wants %s", error)
        except Exception as error:
            log.error("a connection failed: %s", unforeseen.describe(error))
        finally:
            self._requests.close()
            self._server.leave(self)
            self._socket.close()

    async def _serve(self) -> None:
        receive, requests, answer = self._socket.recv, self._requests, self._peer.answer
        while True:
            try:
                data = receive(PIECE)
            except BlockingIOError:
                await wait_readable(self._socket)
                self._turns = 0
                self.used = self._server.tick()
                continue
            if not data:
                return
            if requests.idle and wire.single(data):
                await self._reply(answer(data[4:]))
            else:
                await self._serve_pieces(data)

    async def _serve_pieces(self, data: bytes) -> None:
        """Whatever is complete with `data`."""
        requests = self._requests
        requests.feed(data)
        while (request := requests.take()) is not None:
            if isinstance(request, wire.TooLarge):
                await self._reply(TOO_LARGE)
            else:
                await self._reply(self._peer.answer(request))

    async def _reply(self, reply: bytes) -> None:
        """Send a reply; returns once the kernel has it."""
        large = len(reply) if len(reply) > wire.SMALL else 0
        if large and not self._server.room.take(large):
            reply, large = TOO_LARGE, 0
        try:
            sent = self._send(reply)
            if sent < len(reply):
                await self._send_rest(memoryview(reply)[sent:])
        finally:
            self._server.room.give(large)
        self._turns += 1
        if self._turns >= IN_A_ROW:
            self._turns = 0
            await checkpoint()

    def _send(self, data: bytes | memoryview) -> int:
        """How many bytes the kernel has taken."""
        with suppress(BlockingIOError):
            return self._socket.send(data)
        return 0

    async def _send_rest(self, rest: memoryview) -> None:
        while rest:
            with trio.move_on_after(STALLED) as waiting:
                await wait_writable(self._socket)
            if waiting.cancelled_caught:
                raise TimeoutError
            rest = rest[self._send(rest) :]
