# SPDX-License-Identifier: MIT
"""KCM on a mount: which socket it is served at, and how many clients may connect.

Knows the socket, and if another process accepts there; never what a client asks.
"""

from __future__ import annotations

import socket

import trio

from ccfs.daemon.fuse_loop import Loop
from ccfs.daemon.options import MountOptions
from ccfs.kcm.listener import KcmListener
from ccfs.kcm.server import KcmServer
from ccfs.kcm.service import KcmService
from ccfs.linux import descriptors
from ccfs.service.commit import Committer
from ccfs.service.info import Owner

CONNECTIONS_MAX = 1024
OWN_DESCRIPTORS = 64
"""What a daemon has open besides connections, and more."""


class KcmEndpoint:
    """KCM over the store of one mount."""

    def __init__(
        self,
        committer: Committer,
        owner: Owner,
        listening: KcmListener | None = None,
        acceptor: socket.socket | None = None,
        *,
        takes_over: bool = False,
    ) -> None:
        """Serve clients that connect at `listening`, None for no socket.

        `acceptor`: a socket to the process that has made `listening` and accepts clients there.
        `takes_over`: the first connections are those of an earlier daemon.
        """
        limits = committer.store.limits
        self._listening = listening
        self._acceptor = acceptor
        self._kcm = KcmServer(
            KcmService(committer, owner),
            limit=limits.ccache_bytes + limits.ccache_bytes // 4,
            budget=limits.total_bytes,
            max_connections=descriptors.raise_limit(CONNECTIONS_MAX, OWN_DESCRIPTORS),
            takes_over=takes_over,
        )

    @classmethod
    def of(cls, options: MountOptions, committer: Committer, owner: Owner) -> KcmEndpoint | None:
        """Make what the options ask for: a socket, or an endpoint that is handed connections.

        Raises KcmSocketError where the socket can't be made.
        """
        if options.kcm_listener:
            acceptor = socket.socket(fileno=options.kcm_acceptor)
            return cls(committer, owner, options.kcm_listener, acceptor, takes_over=True)
        if options.kcm_socket:
            return cls(committer, owner, KcmListener(options.kcm_socket))
        takes_over = options.takes_over and options.handover is not None
        return None if options.control < 0 else cls(committer, owner, takes_over=takes_over)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return self._kcm.connections

    async def run(self, loop: Loop, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve until cancelled, in the loop where it can do that."""
        driven = loop.serve_also(self._kcm.fileno(), self._kcm.answer_all)
        self._kcm.open(self._listening.listener if self._listening else None, self._acceptor)
        await self._kcm.run(driven=driven, task_status=task_status)

    def serve_connection(self, client: socket.socket) -> None:
        """Serve a client that is connected already; only while `run` runs."""
        self._kcm.serve_connection(client)

    def begin(self) -> None:
        """Serve the connections of the last daemon: all of them are here."""
        self._kcm.start()

    def close(self, *, final: bool) -> None:
        """Stop serving.  `final`: no other daemon follows, so that the socket is removed.

        A socket that this process has made is removed in any case.
        """
        self._kcm.close(ends=final)
        if self._listening is None:
            return
        if final or not self._acceptor:
            self._listening.remove()
        self._listening.close()
