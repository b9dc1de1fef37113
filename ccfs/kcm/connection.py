# SPDX-License-Identifier: MIT
"""One client's connection to the KCM service: its socket, and the bytes in and out of it.

A turn answers one request at most, so that no client has more of a round than others, however many
requests it has written at once.  A request stays in the socket until its reply is sent, so that the
next daemon finds it there if this one is killed (ccfs.kcm.request_progress).  Three things can't:

    a request of more than SMALL bytes
    a request in parts so small that they fill the socket's buffer
    the rest of a reply that the client doesn't read

These are in this daemon's memory.  SO_PRIORITY of the socket, which nothing else uses, says so, and
the next daemon closes such a connection.

Knows what is complete, what is to be sent, and what the epoll waits for; never other clients, nor
what a request asks.
"""

import logging
import select
import socket
from contextlib import suppress

from ccfs.errors import redaction
from ccfs.kcm import wire
from ccfs.kcm.request_progress import MAX_IN_SOCKET, cookie
from ccfs.kcm.service import TOO_LARGE, KcmService, Responder

log = logging.getLogger(__name__)

PEEK = 4096
"""Bytes to peek at for a request: clients send one and wait for its reply."""
PART = 256 * 1024
"""Bytes to read at a time of a request that is read in parts."""
FITS = 128
"""Bytes that fit into any socket, also one by one: the kernel uses 768 bytes for each then."""

_READABLE = select.EPOLLIN | select.EPOLLRDHUP
_MORE_READABLE = _READABLE | select.EPOLLET
_CLOSED = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class Connection:
    """One client's connection.

    `used`: when its last turn was, in the server's ticks.  `cookie`: of its socket.
    """

    __slots__ = (
        "_budget",
        "_descriptor",
        "_epoll",
        "_events",
        "_in_memory",
        "_limit",
        "_partial",
        "_peeked",
        "_progress",
        "_progressed",
        "_reserved",
        "_responder",
        "_socket",
        "_unsent",
        "cookie",
        "used",
    )

    def __init__(
        self,
        client: socket.socket,
        responder: Responder,
        service: KcmService,
        epoll: select.epoll,
        limit: int,
        budget: wire.MemoryBudget,
    ) -> None:
        self._socket = client
        self._descriptor = client.fileno()
        self._responder = responder
        self._progress = service.progress
        self._epoll = epoll
        self._limit = limit
        self._budget = budget
        self._partial: wire.PartialRequest | None = None
        self._unsent = memoryview(b"")
        self._reserved = 0
        self._peeked = 0
        self._in_memory = False
        self._progressed = False
        self._events = 0
        self.used = 0
        self.cookie = cookie(client)

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._descriptor

    def register(self) -> None:
        """Have the epoll wait for requests."""
        self._events = _READABLE
        self._epoll.register(self._socket, self._events)

    def turn(self, events: int) -> bool:
        """Do what is possible without waiting, one request at most; False to close the connection.

        That is so when the client closes it or violates the protocol, and after an unexpected
        exception.
        """
        try:
            if self._in_memory:
                return self._continue()
            data = self._socket.recv(PEEK, socket.MSG_PEEK)
            if wire.is_one_request(data):
                return self._answer(data[4:], len(data))
            return self._examine(data, events)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            log.debug("a client has disconnected")
        except wire.ProtocolError as error:
            log.debug("a client violates the protocol: expected %s", error)
        except Exception as error:
            log.error("a connection failed: %s", redaction.describe(error))
        return False

    def take_over(self) -> bool:
        """Finish the request that the last daemon began; False to close the connection."""
        progress, descriptor = self._progress, self._descriptor
        reply = progress.reply
        try:
            if not progress.sent:
                if reply is None:
                    return self._retry()
                progress.answer_made(descriptor, reply)
            if not progress.sent_all:
                return False
            progress.remove(descriptor)
            return True
        except OSError:
            log.debug("a client has disconnected")
            return False

    def is_stalled(self) -> bool:
        """Whether a reply or a request has made no progress since the last call."""
        progressed, self._progressed = self._progressed, False
        return (self._in_memory or self._peeked > 0) and not progressed

    @property
    def may_fill(self) -> bool:
        """Whether the part of a request in the socket may leave no space for the rest."""
        return self._peeked > FITS

    def read_parts(self) -> None:
        """Read the request in parts from now on."""
        data = self._socket.recv(FITS, socket.MSG_PEEK)
        self._start_partial(wire.size_of(data))

    def close(self) -> None:
        """Close the connection for its client, too, though other processes have the socket."""
        if self._partial:
            self._partial.close()
        self._release()
        if self._events:
            self._epoll.unregister(self._socket)
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._progress.cookie == self.cookie:
            self._progress.end()
        self._socket.close()

    def _retry(self) -> bool:
        """Answer a request that one daemon has died on; refuse one that two have died on."""
        progress = self._progress
        if not progress.start_retry():
            opcode = wire.opcode_of(self._socket.recv(PEEK, socket.MSG_PEEK))
            log.error("two daemons have died on a KCM request (opcode %d), it is refused", opcode)
            return False
        open_still = self.turn(0)
        progress.end_retry()
        return open_still

    def _examine(self, data: bytes, events: int) -> bool:
        """Handle what is not exactly one request: more, less, or the end of the stream."""
        if not data:
            return False
        size = wire.size_of(data)
        if PEEK < size <= MAX_IN_SOCKET and len(data) == PEEK:
            data = self._socket.recv(size, socket.MSG_PEEK)
        if 0 < size <= len(data):
            return self._answer(data[4:size], size)
        if events & _CLOSED:
            return False
        self._progressed = self._progressed or len(data) != self._peeked
        if size > MAX_IN_SOCKET:
            self._start_partial(size)
            return True
        self._peeked = len(data)
        self._wait_for(_MORE_READABLE)
        return True

    def _answer(self, request: bytes, size: int) -> bool:
        """Answer the first request in the socket, of `size` bytes."""
        progress, descriptor = self._progress, self._descriptor
        progress.begin(self.cookie, size)
        reply = self._responder.answer(request)
        if len(reply) > wire.SMALL:
            reply = self._reserve(reply)
        sent = progress.answer(descriptor, reply)
        if sent < len(reply):
            self._send_later(reply, sent)
            progress.remove(descriptor)
            progress.end()
        elif self._reserved:
            self._release()
        if self._peeked:
            self._peeked = 0
            if not self._unsent:
                self._wait_for(_READABLE)
        return True

    def _continue(self) -> bool:
        """Continue with a reply, or with a request in parts, that an earlier turn has begun."""
        if self._unsent:
            self._send_more()
        elif not self._read_more():
            return False
        if not self._unsent and self._partial is None:
            self._mark(in_memory=False)
            self._wait_for(_READABLE)
        return True

    def _read_more(self) -> bool:
        """Read more of a request, and answer it if it is complete; False at the stream's end."""
        partial = self._partial
        assert partial is not None
        data = self._socket.recv(min(partial.missing, PART))
        if not data:
            return False
        self._progressed = True
        partial.feed(data)
        if not partial.missing:
            request = partial.finish()
            self._partial = None
            if isinstance(request, wire.TooLarge):
                self._send_later(TOO_LARGE, 0)
            else:
                self._send_later(self._reserve(self._responder.answer(request)), 0)
            self._send_more()
        return True

    def _start_partial(self, size: int) -> None:
        """Begin to read a request of `size` bytes in parts."""
        self._partial = wire.PartialRequest(size, self._limit, self._budget)
        self._peeked = 0
        self._mark(in_memory=True)
        self._wait_for(_READABLE)

    def _reserve(self, reply: bytes) -> bytes:
        """Reserve memory for a large reply and return it; TOO_LARGE where there is none."""
        if len(reply) > wire.SMALL and not self._budget.reserve(len(reply)):
            return TOO_LARGE
        self._reserved = len(reply) if len(reply) > wire.SMALL else 0
        return reply

    def _send_later(self, reply: bytes, sent: int) -> None:
        """Buffer what the kernel did not accept of a reply until the client reads."""
        self._mark(in_memory=True)
        self._unsent, self._progressed = memoryview(reply)[sent:], True
        self._wait_for(select.EPOLLOUT)

    def _send_more(self) -> None:
        """Send more of a buffered reply."""
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            return
        self._unsent, self._progressed = self._unsent[sent:], self._progressed or sent > 0
        if not self._unsent:
            self._release()

    def _mark(self, *, in_memory: bool) -> None:
        """Note at the socket whether this daemon has bytes of the stream in its memory."""
        if in_memory is not self._in_memory:
            self._in_memory = in_memory
            mark_in_memory(self._socket, in_memory=in_memory)

    def _wait_for(self, events: int) -> None:
        """Have the epoll report these events.

        With an incomplete request in the socket it is edge-triggered: it reports only more bytes.
        """
        if events != self._events:
            self._events = events
            self._epoll.modify(self._socket, events)

    def _release(self) -> None:
        self._budget.release(self._reserved)
        self._reserved = 0


def mark_in_memory(client: socket.socket, *, in_memory: bool) -> None:
    """Note at a socket whether a daemon has bytes of its stream in memory."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, in_memory)


def is_in_memory(client: socket.socket) -> bool:
    """Whether `mark_in_memory` was set: bytes of the stream are lost with that daemon."""
    return client.getsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY) != 0
