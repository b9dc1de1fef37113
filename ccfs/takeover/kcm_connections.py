"""Connections that are served by a daemon, and stay open when it dies.

Whoever keeps the daemons keeps a descriptor of each, and gives it to one daemon after another.  A
connection has ended when the client has closed it, or the daemon has shut it down.

Knows descriptors; never who serves them, nor what is said there.
"""

from __future__ import annotations

import select
import socket


class KcmConnections:
    """Connections, until they end.  `of`: whose they are, where there is more than one daemon."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._kept: dict[int, tuple[socket.socket, str]] = {}

    def fileno(self) -> int:
        """What is readable when some have ended."""
        return self._epoll.fileno()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, client: socket.socket, of: str = "") -> None:
        """Keep one until it ends."""
        self._kept[client.fileno()] = client, of
        self._epoll.register(client, 0)  # of its end the kernel tells always (EPOLLHUP)

    def all(self, of: str = "") -> list[socket.socket]:
        """Those that are kept; each is closed once it has ended."""
        return [client for client, whose in self._kept.values() if whose == of]

    def drop_ended(self) -> None:
        """Let go of those that have ended."""
        for descriptor, _ in self._epoll.poll(0):
            self._drop(descriptor)

    def let_go(self, client: socket.socket) -> None:
        """Keep one no longer, unless it has ended already."""
        if client.fileno() in self._kept:
            self._drop(client.fileno())

    def drop(self, of: str = "") -> None:
        """Let go of those that nobody will serve."""
        for client in self.all(of):
            self._drop(client.fileno())

    def _drop(self, descriptor: int) -> None:
        self._epoll.unregister(descriptor)
        self._kept.pop(descriptor)[0].close()
