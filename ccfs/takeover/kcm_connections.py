# SPDX-License-Identifier: MIT
"""KCM connections that are served by a daemon, and stay open when it dies.

The supervisor (or ccfsd) keeps a descriptor of each, and gives it to one daemon after another.  A
connection has ended when the client has closed it, or the daemon has shut it down.

Knows descriptors; never which daemon serves them, nor what is sent on them.
"""

from __future__ import annotations

import select
import socket


class KcmConnections:
    """Connections, until they end.  `mount`: the mount of each, where there is more than one."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._sockets: dict[int, tuple[socket.socket, str]] = {}

    def fileno(self) -> int:
        """Return a descriptor that is readable when some have ended."""
        return self._epoll.fileno()

    def __len__(self) -> int:
        return len(self._sockets)

    def add(self, client: socket.socket, mount: str = "") -> None:
        """Keep one open until it ends."""
        self._sockets[client.fileno()] = client, mount
        self._epoll.register(client, 0)  # the kernel reports the end unasked (EPOLLHUP)

    def of_mount(self, mount: str = "") -> list[socket.socket]:
        """Return those of a mount; each socket is closed once its connection has ended."""
        return [client for client, of in self._sockets.values() if of == mount]

    def close_ended(self) -> None:
        """Close those that have ended."""
        for descriptor, _ in self._epoll.poll(0):
            self._close(descriptor)

    def close(self, client: socket.socket) -> None:
        """Close one, unless it has ended already."""
        if client.fileno() in self._sockets:
            self._close(client.fileno())

    def close_all(self, mount: str = "") -> None:
        """Close those of a mount that no daemon will serve."""
        for client in self.of_mount(mount):
            self._close(client.fileno())

    def _close(self, descriptor: int) -> None:
        self._epoll.unregister(descriptor)
        self._sockets.pop(descriptor)[0].close()
