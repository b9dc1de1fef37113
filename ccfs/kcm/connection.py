"""One client of the KCM service: its socket, and the bytes on their way in and out of it.

Knows what is complete, what waits to be sent, and what the epoll has to be told of; never other
clients, nor what a message says.

A turn answers one request at most, so that nobody has more of a round than others, however many
requests were written at once.  A request stays in the socket until its reply is sent, so that the
next daemon finds it where this one is killed (ccfs.kcm.request_progress).  Three have no room there: a
request of more than SMALL bytes, one whose pieces are so small that they fill the socket, and the
rest of a reply that the client doesn't read.  They are in our memory; the socket says so by its
priority, which nothing else uses, and the next daemon ends that connection.
"""

import logging
import select
import socket
from contextlib import suppress

from ccfs.errors import redaction
from ccfs.kcm import wire
from ccfs.kcm.request_progress import MOST, cookie
from ccfs.kcm.service import TOO_LARGE, Peer, Service

log = logging.getLogger(__name__)

FIRST = 4096
"""Bytes that are looked at where a request may begin: clients send one after the other."""
PIECE = 256 * 1024
"""Bytes that are read at a time of a request that is taken in pieces."""
LITTLE = 128
"""Bytes that fit into any socket, a byte at a time: each of them takes 768 there."""

_ASKS = select.EPOLLIN | select.EPOLLRDHUP
_ASKS_MORE = _ASKS | select.EPOLLET
_ENDED = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class Connection:
    """One client's.

    `used`: when it last asked for something, in the server's ticks.  `cookie`: of its socket.
    """

    __slots__ = (
        "_descriptor",
        "_events",
        "_have",
        "_held",
        "_inflight",
        "_limit",
        "_midway",
        "_moved",
        "_peer",
        "_pieces",
        "_ready",
        "_rest",
        "_room",
        "_socket",
        "cookie",
        "used",
    )

    def __init__(
        self,
        client: socket.socket,
        peer: Peer,
        service: Service,
        ready: select.epoll,
        limit: int,
        room: wire.Room,
    ) -> None:
        self._socket = client
        self._descriptor = client.fileno()
        self._peer = peer
        self._inflight = service.inflight
        self._ready = ready
        self._limit = limit
        self._room = room
        self._pieces: wire.Pieces | None = None
        self._rest = memoryview(b"")
        self._held = 0
        self._have = 0
        self._midway = False
        self._moved = False
        self._events = 0
        self.used = 0
        self.cookie = cookie(client)

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._descriptor

    def attend(self) -> None:
        """Have the epoll tell when it asks."""
        self._events = _ASKS
        self._ready.register(self._socket, self._events)

    def turn(self, events: int) -> bool:
        """Do what can be done without waiting, a request at most; False where this is the end.

        That is so when the client leaves or breaks the protocol; and when something fails in a way
        that nobody thought of.
        """
        try:
            if self._midway:
                return self._go_on()
            data = self._socket.recv(FIRST, socket.MSG_PEEK)
            if wire.single(data):
                return self._answer(data[4:], len(data))
            return self._look(data, events)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            log.debug("a client has gone")
        except wire.ProtocolError as error:
            log.debug("a client breaks the protocol: wanted is %s", error)
        except Exception as error:
            log.error("a connection failed: %s", redaction.describe(error))
        return False

    def take_over(self) -> bool:
        """Finish what another daemon has begun; False where this is the end."""
        inflight, descriptor = self._inflight, self._descriptor
        reply = inflight.reply
        try:
            if not inflight.sent:
                if reply is None:
                    return self._try_again()
                inflight.answer_made(descriptor, reply)
            if not inflight.sent_all:
                return False
            inflight.take_out(descriptor)
            return True
        except OSError:
            log.debug("a client has gone")
            return False

    def stalls(self) -> bool:
        """Whether a reply or a request is no further than when this was last asked."""
        moved, self._moved = self._moved, False
        return (self._midway or self._have > 0) and not moved

    @property
    def fills(self) -> bool:
        """Whether a part of a request waits in the socket, and may leave no room for the rest."""
        return self._have > LITTLE

    def take_in(self) -> None:
        """Take a request in pieces, from now on."""
        data = self._socket.recv(LITTLE, socket.MSG_PEEK)
        self._take_pieces(wire.size_of(data))

    def close(self) -> None:
        """End the connection for its client, too, though other processes have its socket."""
        if self._pieces:
            self._pieces.close()
        self._release()
        if self._events:
            self._ready.unregister(self._socket)
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._inflight.cookie == self.cookie:
            self._inflight.end()
        self._socket.close()

    def _try_again(self) -> bool:
        """Answer a request that a daemon has died on, but no second one."""
        inflight = self._inflight
        if not inflight.try_again():
            opcode = wire.opcode_of(self._socket.recv(FIRST, socket.MSG_PEEK))
            log.error("two daemons have died on a KCM request (opcode %d), it is refused", opcode)
            return False
        alive = self.turn(0)
        inflight.has_lived()
        return alive

    def _look(self, data: bytes, events: int) -> bool:
        """What has come is not one request: it is more, or less, or the end."""
        if not data:
            return False
        size = wire.size_of(data)
        if FIRST < size <= MOST and len(data) == FIRST:
            data = self._socket.recv(size, socket.MSG_PEEK)
        if 0 < size <= len(data):
            return self._answer(data[4:size], size)
        if events & _ENDED:
            return False
        self._moved = self._moved or len(data) != self._have
        if size > MOST:
            self._take_pieces(size)
            return True
        self._have = len(data)
        self._watch(_ASKS_MORE)
        return True

    def _answer(self, request: bytes, size: int) -> bool:
        """Answer the request that the socket has first, `size` bytes of it."""
        inflight, descriptor = self._inflight, self._descriptor
        inflight.begin(self.cookie, size)
        reply = self._peer.answer(request)
        if len(reply) > wire.SMALL:
            reply = self._hold(reply)
        sent = inflight.answer(descriptor, reply)
        if sent < len(reply):
            self._keep_rest(reply, sent)
            inflight.take_out(descriptor)
            inflight.end()
        elif self._held:
            self._release()
        if self._have:
            self._have = 0
            if not self._rest:
                self._watch(_ASKS)
        return True

    def _go_on(self) -> bool:
        """Where the last turn has ended in the middle of a reply, or of a request in pieces."""
        if self._rest:
            self._send_more()
        elif not self._read_more():
            return False
        if not self._rest and self._pieces is None:
            self._mark(midway=False)
            self._watch(_ASKS)
        return True

    def _read_more(self) -> bool:
        """More of a request in pieces, and the answer where it is complete; False at the end."""
        pieces = self._pieces
        assert pieces is not None
        data = self._socket.recv(min(pieces.missing, PIECE))
        if not data:
            return False
        self._moved = True
        pieces.feed(data)
        if not pieces.missing:
            request = pieces.whole()
            self._pieces = None
            if isinstance(request, wire.TooLarge):
                self._keep_rest(TOO_LARGE, 0)
            else:
                self._keep_rest(self._hold(self._peer.answer(request)), 0)
            self._send_more()
        return True

    def _take_pieces(self, size: int) -> None:
        """Take what is in the socket, and what will come, of a request of `size` bytes."""
        self._pieces = wire.Pieces(size, self._limit, self._room)
        self._have = 0
        self._mark(midway=True)
        self._watch(_ASKS)

    def _hold(self, reply: bytes) -> bytes:
        """A reply, which takes some of the room where it is large; another where there is none."""
        if len(reply) > wire.SMALL and not self._room.take(len(reply)):
            return TOO_LARGE
        self._held = len(reply) if len(reply) > wire.SMALL else 0
        return reply

    def _keep_rest(self, reply: bytes, sent: int) -> None:
        """Keep what the kernel can't take of a reply until the client reads."""
        self._mark(midway=True)
        self._rest, self._moved = memoryview(reply)[sent:], True
        self._watch(select.EPOLLOUT)

    def _send_more(self) -> None:
        """Go on sending."""
        try:
            sent = self._socket.send(self._rest)
        except BlockingIOError:
            return
        self._rest, self._moved = self._rest[sent:], self._moved or sent > 0
        if not self._rest:
            self._release()

    def _mark(self, *, midway: bool) -> None:
        """Note at the socket itself whether the next daemon could go on with it."""
        if midway is not self._midway:
            self._midway = midway
            mark_midway(self._socket, midway=midway)

    def _watch(self, events: int) -> None:
        """Have the epoll tell when the next turn can do anything.

        Of a request that is complete in part it is to tell only when more of it comes.
        """
        if events != self._events:
            self._events = events
            self._ready.modify(self._socket, events)

    def _release(self) -> None:
        self._room.give(self._held)
        self._held = 0


def mark_midway(client: socket.socket, *, midway: bool) -> None:
    """Note at a socket that the daemon has bytes of it in its memory."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, midway)


def is_midway(client: socket.socket) -> bool:
    """Whether a daemon has noted that."""
    return client.getsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY) != 0
