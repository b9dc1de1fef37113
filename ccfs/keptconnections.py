"""Connections that are served by a daemon, and stay open when it dies.

Whoever keeps the daemons keeps a descriptor of each, and gives it to one daemon after another.  A
connection has ended when the client has closed it, or the daemon has shut it down.

Knows descriptors; never who serves them, nor what is said there.
"""

from __future__ import annotations

import select
import socket


class KeptConnections:
    """Connections by their descriptors, until they end."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._kept: dict[int, socket.socket] = {}

    def fileno(self) -> int:
        """What is readable when some have ended."""
        return self._epoll.fileno()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, client: socket.socket) -> None:
        """Keep one until it ends."""
        self._kept[client.fileno()] = client
        self._epoll.register(client, 0)  # of its end the kernel tells always (EPOLLHUP)

    def all(self) -> list[socket.socket]:
        """Those that are kept; each is closed once it has ended."""
        return [*self._kept.values()]

    def drop_ended(self) -> bool:
        """Let go of those that have ended; whether there were any."""
        ended = self._epoll.poll(0)
        for descriptor, _ in ended:
            self._drop(descriptor)
        return bool(ended)

    def close(self) -> None:
        """Let go of all: nobody will serve them."""
        for descriptor in [*self._kept]:
            self._drop(descriptor)
        self._epoll.close()

    def _drop(self, descriptor: int) -> None:
        self._epoll.unregister(descriptor)
        self._kept.pop(descriptor).close()
