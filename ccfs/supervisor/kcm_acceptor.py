# SPDX-License-Identifier: MIT
"""Accept the KCM clients of one mount in the supervisor, and give their connections to daemons.

A client that has connected stays connected when the daemon dies, and one may connect while there is
no daemon.  The daemon has a socket on which it receives connections: each in a message of its own,
those that were there before the daemon first, then a message that says that these were all.

Knows connections and that socket; never what is sent on a connection.
"""

from __future__ import annotations

import os
import select
import socket
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ccfs.kcm.listener import KcmListener
from ccfs.linux import descriptors
from ccfs.takeover.kcm_connections import KcmConnections

CONNECTIONS_MAX = 1024
"""A daemon closes the connection that is idle for longest when there is another."""
OWN_DESCRIPTORS = 32
"""What the supervisor has open besides, so that there is room for more than a daemon serves."""
ACCEPTS_MAX = 16
"""Connections that are accepted at one event."""
ALL, ONE = b"all", b"one"


class KcmAcceptor:
    """Clients that connect at a socket, given to one daemon after another."""

    def __init__(self, listening: KcmListener, connections: Sequence[int] = ()) -> None:
        """`connections`: descriptors of those that are there already."""
        descriptors.raise_limit(CONNECTIONS_MAX, OWN_DESCRIPTORS)
        self._listener, self._file = listening.listener, listening.file
        self._listener.setblocking(False)
        self._accepts = True
        self._connections = KcmConnections()
        # None marks the end of those that were there before the daemon.
        self._unsent: deque[socket.socket | None] = deque()
        self._daemon: socket.socket | None = None
        self._epoll = select.epoll()
        self._epoll.register(self._listener, select.EPOLLIN)
        self._epoll.register(self._connections, select.EPOLLIN)
        for descriptor in connections:
            self._connections.add(socket.socket(fileno=descriptor))

    def to_state(self) -> dict[str, Any]:
        """Return duplicated descriptors, of which another version of this code makes the same."""
        clients = self._connections.of_mount()
        copies = [os.dup(client.fileno()) for client in clients if client.fileno() >= 0]
        listener = os.dup(self._listener.fileno())
        return {"listener": listener, "file": self._file, "connections": copies}

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is anything to do."""
        return self._epoll.fileno()

    def descriptors_for_daemon(self) -> list[int]:
        """Return the listening socket, and one on which a new daemon receives all connections.

        The second is to be closed once the daemon has it.
        """
        self._drop_daemon()
        self._daemon, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._daemon.setblocking(False)
        self._unsent = deque([*self._connections.of_mount(), None])
        self._epoll.register(self._daemon, 0)
        self._send_to_daemon()
        return [self._listener.fileno(), theirs.detach()]

    def handle_events(self) -> None:
        """Do what there is to do, without waiting."""
        for descriptor, events in self._epoll.poll(0):
            if descriptor == self._connections.fileno():
                self._connections.close_ended()
                self._watch_listener(True)
            elif descriptor == self._listener.fileno():
                self._accept()
            elif events & select.EPOLLHUP:
                self._drop_daemon()
            else:
                self._send_to_daemon()

    def _accept(self) -> None:
        for _ in range(ACCEPTS_MAX):
            try:
                client, _address = self._listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError:  # no free descriptor: clients wait until a connection has ended
                self._watch_listener(False)
                return
            self._connections.add(client)
            self._unsent.append(client)
            self._send_to_daemon()

    def _watch_listener(self, accepts: bool) -> None:
        if accepts is not self._accepts:
            self._accepts = accepts
            self._epoll.modify(self._listener, select.EPOLLIN if accepts else 0)

    def _send_to_daemon(self) -> None:
        """Send connections as far as the socket has room; EPOLLOUT reports more room."""
        daemon = self._daemon
        if daemon is None:
            self._unsent.clear()  # the next daemon gets all of them
            return
        while self._unsent:
            try:
                _send(daemon, self._unsent[0])
            except BlockingIOError:
                self._epoll.modify(daemon, select.EPOLLOUT)
                return
            self._unsent.popleft()
        self._epoll.modify(daemon, 0)

    def _drop_daemon(self) -> None:
        if self._daemon is not None:
            self._epoll.unregister(self._daemon)
            self._daemon.close()
            self._daemon = None


def _send(daemon: socket.socket, client: socket.socket | None) -> None:
    """Send a daemon one connection.  Raises BlockingIOError where there is no room."""
    if client is None:
        with suppress(ConnectionError):
            daemon.send(ALL)
    elif client.fileno() >= 0:  # it has not ended
        try:
            socket.send_fds(daemon, [ONE], [client.fileno()])
        except BlockingIOError:
            raise
        except ConnectionError:
            return
        except OSError:  # the user has too many descriptors in flight (unix(7), ETOOMANYREFS)
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
