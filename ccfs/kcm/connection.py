"""One client of the KCM service: its socket, and the bytes on their way in and out of it.

Knows what is complete, what waits to be sent, and what the epoll has to be told of; never other
clients, nor what a message says.

A turn answers one request at most, so that nobody has more of a round than others, however many
requests were written at once.  What has come behind that one is answered in later turns, and until
then nothing more is read.
"""

import logging
import select
import socket

from ccfs import unforeseen
from ccfs.kcm import wire
from ccfs.kcm.service import TOO_LARGE, Peer

log = logging.getLogger(__name__)

FIRST = 4096
"""Bytes that are read where a request may begin: nobody has many in there."""
PIECE = 256 * 1024
"""Bytes that are read at a time of one that is known to be longer."""


class Connection:
    """One client's.

    `used`: when it last asked for something, in the server's ticks.  `goes_on`: a request is here
    already, so that it needs another turn, of which the epoll says nothing.
    """

    __slots__ = (
        "_events",
        "_held",
        "_midway",
        "_moved",
        "_peer",
        "_ready",
        "_requests",
        "_rest",
        "_room",
        "_socket",
        "goes_on",
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
        self._midway = False
        self._moved = False
        self.used = 0
        self.goes_on = False
        self._events = select.EPOLLIN
        ready.register(client, self._events)

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def turn(self) -> bool:
        """Do what can be done without waiting, a request at most; False where this is the end.

        That is so when the client leaves or breaks the protocol; and when something fails in a way
        that nobody thought of.
        """
        try:
            if self._midway:
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
        return self._midway and not moved

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
        """Where the last turn has ended in the middle of a reply, or with more of requests here."""
        if self._rest:
            self._send_more()
        elif not self._answer_held():
            return self._feed(self._socket.recv(min(self._requests.missing, PIECE) or FIRST))
        self._watch()
        return True

    def _feed(self, data: bytes) -> bool:
        """Bytes of a request, or of more than one; False where there are no more to come."""
        if not data:
            return False
        self._moved = True
        self._requests.feed(data)
        self._answer_held()
        self._watch()
        return True

    def _answer_held(self) -> bool:
        """Answer the first request of what has come; whether there was one."""
        request = self._requests.take()
        if request is None:
            return False
        self._moved = True
        if isinstance(request, wire.TooLarge):
            self._reply(TOO_LARGE)
        else:
            self._reply(self._peer.answer(request))
        return True

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
            self._watch()
        elif self._held:
            self._release()

    def _send_more(self) -> None:
        """Go on sending."""
        sent = self._send(self._rest)
        self._rest, self._moved = self._rest[sent:], self._moved or sent > 0
        if not self._rest:
            self._release()

    def _watch(self) -> None:
        """Have the epoll tell when the next turn can do anything.

        While we go on it tells of the client's end alone: of what comes it would tell at each look.
        """
        requests = self._requests
        self._midway = bool(self._rest) or not requests.idle
        self.goes_on = self._midway and not (self._rest or requests.missing)
        events = select.EPOLLOUT if self._rest else 0 if self.goes_on else select.EPOLLIN
        if events != self._events:
            self._events = events
            self._ready.modify(self._socket, events)

    def _send(self, data: bytes | memoryview) -> int:
        """How many bytes the kernel has taken."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    def _release(self) -> None:
        self._room.give(self._held)
        self._held = 0
