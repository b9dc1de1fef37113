"""Those who are connected to the control socket: how many, how long, and one request at a time.

Knows packets and who sends them; never what a request asks.  Whoever misbehaves is told so and let
go; nobody's quiet, slowness or haste costs anybody else anything.
"""

from __future__ import annotations

import logging
import socket
from collections import Counter
from collections.abc import Callable

from ccfs.ccfsd.loop import Loop, Timer
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
"""Connections of one user, who isn't root."""
MOST_OF_ROOT = 4096
IN_A_ROW = 64
"""Connections taken before others have their turn."""
QUIET = 10.0
"""Seconds that a client may stay without a request."""

Handle = Callable[["Connection", Message], None]


class Connection:
    """One client.  `reply` answers its request; `closed` says that nobody is there any more.

    `user` is behind its uid (`Users.behind`).
    `abandoned` is called when the client goes without having waited for the reply.
    """

    def __init__(
        self,
        clients: Clients,
        connected: socket.socket,
        peer: Peer,
        user: int | str,
        *,
        busy: bool,
    ) -> None:
        self.socket = connected
        self.peer = peer
        self.user = user
        self.closed = False
        self.abandoned: Callable[[], None] | None = None
        self._clients = clients
        self._busy = busy
        self._limit: Timer | None = None
        self.listen()
        self._expect()

    @property
    def busy(self) -> bool:
        """Whether it waits for a reply."""
        return self._busy and not self.closed

    def listen(self) -> None:
        """Take what it sends."""
        self._clients.loop.forget(self.socket.fileno())
        self._clients.loop.watch(self.socket.fileno(), self._hear)

    def reply(self, data: bytes, unheard: Callable[[], None] = lambda: None) -> None:
        """Answer, once what is to be remembered is; `unheard` is called where nobody hears it."""
        self.abandoned = None
        self._clients.outbox.append((self, data, unheard))

    def refuse(self, why: str) -> None:
        """Say no."""
        self.reply(messages.refusal(why))

    def send(self, data: bytes) -> bool:
        """Have the reply to the request go out now; whether it has."""
        self._busy = False
        if self.closed:
            return False
        try:
            self.socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:  # gone, or doesn't read what it is told
            self.close()
            return False
        if data.startswith(b"error"):
            self.close()
        else:
            self._expect()
        return True

    def close(self) -> None:
        """Let the client go."""
        if self.closed:
            return
        self.closed = True
        if self._limit is not None:
            self._limit.cancel()
        self._clients.loop.forget(self.socket.fileno())
        self.socket.close()
        self._clients.left(self)
        if self.abandoned is not None:
            self.abandoned()

    def _expect(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
        self._limit = self._clients.loop.after(QUIET, self._too_quiet)

    def _too_quiet(self) -> None:
        if not self._busy:
            self.close()

    def _hear(self) -> None:
        if self._clients.holding:
            self._clients.loop.forget(self.socket.fileno())
            return
        try:
            data = self.socket.recv(messages.MESSAGE_MAX + 1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
        elif self._busy:
            self.send(messages.refusal("one request at a time"))  # and closes
        else:
            self._busy = True
            self._handle(data)

    def _handle(self, data: bytes) -> None:
        try:
            self._clients.handle(self, messages.decode(data))
        except MalformedError as error:
            self.refuse(str(error))
        except UserError as error:
            self.refuse(error.reason)
        except OSError as error:  # no descriptor left for what it takes
            self.refuse((error.strerror or str(error)).lower())


class Clients:
    """All of them.

    `outbox`: replies that go out when what they promise is remembered.  `holding`: nothing new is
    taken from any of them.
    """

    def __init__(self, loop: Loop, listener: socket.socket, handle: Handle) -> None:
        self.loop = loop
        self.handle = handle
        self.outbox: list[tuple[Connection, bytes, Callable[[], None]]] = []
        self.all: set[Connection] = set()
        self.holding = False
        self._of: Counter[int | str] = Counter()
        self._users = Users()
        self._listener = listener
        listener.setblocking(False)
        loop.watch(listener.fileno(), self._accept)

    def flush(self) -> None:
        """Send the replies."""
        while self.outbox:
            replies, self.outbox = self.outbox, []
            for connection, data, unheard in replies:
                if not connection.send(data):
                    unheard()

    def left(self, connection: Connection) -> None:
        """One is gone."""
        self.all.discard(connection)
        user = connection.user
        self._of[user] -= 1
        if not self._of[user]:
            del self._of[user]

    def release(self) -> None:
        """Take again what they send."""
        self.holding = False
        for connection in self.all:
            connection.listen()

    def welcome(self, connected: socket.socket, *, busy: bool = False) -> Connection | None:
        """Have one more; None where it is turned away.  `busy`: it waits for a reply already."""
        peer = peer_credentials.peer(connected)
        user = self._users.behind(peer.uid)
        if self._is_too_much(user):
            with connected:
                _turn_away(connected)
            return None
        self._of[user] += 1
        connection = Connection(self, connected, peer, user, busy=busy)
        self.all.add(connection)
        return connection

    def _accept(self) -> None:
        for _ in range(IN_A_ROW):
            try:
                connected, _address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError:  # no descriptor left for one
                self.loop.rest(self._listener.fileno(), self._accept)
                return
            self.welcome(connected)

    def _is_too_much(self, user: int | str) -> bool:
        if user == 0:
            return self._of[0] >= MOST_OF_ROOT
        return self._of[user] >= MOST_OF_ONE or self._of.total() - self._of[0] >= MOST


def _turn_away(connected: socket.socket) -> None:
    """Say why; what was asked already is taken first, or the client would see a reset instead."""
    try:
        connected.send(messages.refusal("too many connections"), socket.MSG_DONTWAIT)
        connected.recv(1, socket.MSG_DONTWAIT)
    except OSError:
        return
