"""The KCM clients of one mount, for whoever keeps its daemons: accepted there, served by a daemon.

A client that has connected stays connected when the daemon dies, as does one that connects while
there is none.  The daemon has a socket on which it is given connections: each in a message of its
own, those that there were before it first, then a word that says that these were all.

Knows connections and that socket; never what is said on a connection.
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

MOST = 1024
"""Connections; a daemon lets go of the one that is idle for longest when there is another."""
OWN_DESCRIPTORS = 32
"""What we have open besides, so that there is room for some more than a daemon serves."""
IN_A_ROW = 16
ALL, ONE = b"all", b"one"


class KcmAcceptor:
    """Who connects at a socket, given to one daemon after another."""

    def __init__(self, listening: KcmListener, connections: Sequence[int] = ()) -> None:
        """`connections`: the descriptors of those that are there already."""
        descriptors.raise_limit(MOST, OWN_DESCRIPTORS)
        self._listener, self._file = listening.listener, listening.file
        self._listener.setblocking(False)
        self._hears = True
        self._kept = KcmConnections()
        # None: here ends what was there before the daemon.
        self._unsent: deque[socket.socket | None] = deque()
        self._daemon: socket.socket | None = None
        self._epoll = select.epoll()
        self._epoll.register(self._listener, select.EPOLLIN)
        self._epoll.register(self._kept, select.EPOLLIN)
        for descriptor in connections:
            self._kept.keep(socket.socket(fileno=descriptor))

    def to_pass_on(self) -> dict[str, Any]:
        """The socket and its connections by descriptors of their own, for whoever is to be next."""
        clients = [os.dup(client.fileno()) for client in self._kept.all() if client.fileno() >= 0]
        listener = os.dup(self._listener.fileno())
        return {"listener": listener, "file": self._file, "connections": clients}

    def fileno(self) -> int:
        """What is readable when there is anything to do."""
        return self._epoll.fileno()

    def descriptors_for_daemon(self) -> list[int]:
        """The listening socket, and one that gives a new daemon all connections; to be passed on.

        The second is to be closed afterwards.
        """
        self._drop_daemon()
        self._daemon, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._daemon.setblocking(False)
        self._unsent = deque([*self._kept.all(), None])
        self._epoll.register(self._daemon, 0)
        self._pass_on()
        return [self._listener.fileno(), theirs.detach()]

    def attend(self) -> None:
        """Do what is to be done, without waiting."""
        for descriptor, events in self._epoll.poll(0):
            if descriptor == self._kept.fileno():
                self._kept.drop_ended()
                self._hear(True)
            elif descriptor == self._listener.fileno():
                self._accept()
            elif events & select.EPOLLHUP:
                self._drop_daemon()
            else:
                self._pass_on()

    def _accept(self) -> None:
        for _ in range(IN_A_ROW):
            try:
                client, _address = self._listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError:  # no descriptor: they wait for one
                self._hear(False)
                return
            self._kept.keep(client)
            self._unsent.append(client)
            self._pass_on()

    def _hear(self, clients: bool) -> None:
        """Look whether anybody connects, or don't."""
        if clients is not self._hears:
            self._hears = clients
            self._epoll.modify(self._listener, select.EPOLLIN if clients else 0)

    def _pass_on(self) -> None:
        """Give the daemon what it has room for; the kernel tells when there is more."""
        daemon = self._daemon
        if daemon is None:
            self._unsent.clear()  # the next one is given all
            return
        while self._unsent:
            try:
                self._give(daemon, self._unsent[0])
            except BlockingIOError:
                self._epoll.modify(daemon, select.EPOLLOUT)
                return
            self._unsent.popleft()
        self._epoll.modify(daemon, 0)

    def _give(self, daemon: socket.socket, client: socket.socket | None) -> None:
        """Give the daemon one connection.  Raises BlockingIOError where there is no room."""
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
            except OSError:  # the user has too many descriptors on their way
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)

    def _drop_daemon(self) -> None:
        if self._daemon is not None:
            self._epoll.unregister(self._daemon)
            self._daemon.close()
            self._daemon = None
