"""The KCM side of a mount: who serves at its socket, and how many clients may connect.

Knows the socket, and whether somebody else keeps it; never what a client asks.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from ccfs.kcm.listener import KcmListener
from ccfs.linux import descriptors

if TYPE_CHECKING:
    import trio

    from ccfs.daemon.fuse_loop import Loop
    from ccfs.daemon.options import MountOptions
    from ccfs.service.commit import Committer
    from ccfs.service.info import Owner

MOST_CONNECTIONS = 1024
OWN_DESCRIPTORS = 64
"""What a daemon has open besides connections, and more."""


class KcmEndpoint:
    """KCM over the store of one mount."""

    def __init__(
        self,
        committer: Committer,
        owner: Owner,
        listening: KcmListener | None = None,
        keeper: socket.socket | None = None,
        *,
        takes_over: bool = False,
    ) -> None:
        """Serve who connects at `listening`, None for nowhere.

        `keeper`: a socket to the process that has made that one and accepts clients there.
        `takes_over`: there are connections of an earlier daemon, which are given first.
        """
        from ccfs.kcm.server import KcmServer
        from ccfs.kcm.service import KcmService

        limits = committer.store.limits
        self._listening = listening
        self._keeper = keeper
        self._kcm = KcmServer(
            KcmService(committer, owner),
            limit=limits.ccache_bytes + limits.ccache_bytes // 4,
            budget=limits.total_bytes,
            max_connections=_most_connections(),
            takes_over=takes_over,
        )

    @classmethod
    def of(cls, options: MountOptions, committer: Committer, owner: Owner) -> KcmEndpoint | None:
        """The one that the options ask for: a socket, or somebody who hands connections over.

        Raises KcmSocketError where there is to be a socket, and can't be.
        """
        if options.kcm_listener:
            keeper = socket.socket(fileno=options.kcm_acceptor)
            return cls(committer, owner, options.kcm_listener, keeper, takes_over=True)
        if options.kcm_socket:
            return cls(committer, owner, KcmListener(options.kcm_socket))
        takes_over = options.takes_over and options.handover is not None
        return None if options.control < 0 else cls(committer, owner, takes_over=takes_over)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return self._kcm.connections

    async def run(self, loop: Loop, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve until cancelled, by the loop where it does that."""
        driven = loop.answer(self._kcm.fileno(), self._kcm.answer_all)
        self._kcm.open(self._listening.listener if self._listening else None, self._keeper)
        await self._kcm.run(driven=driven, task_status=task_status)

    def serve_connection(self, client: socket.socket) -> None:
        """Serve a client that is connected already; only while `run` runs."""
        self._kcm.serve_connection(client)

    def begin(self) -> None:
        """All connections of the daemon before were given."""
        self._kcm.start()

    def close(self, *, wanted: bool) -> None:
        """Serve there no more.  `wanted`: nobody will, so that the socket goes from its place.

        Where nobody keeps it, it goes in any case.
        """
        self._kcm.close(ends=wanted)
        if self._listening is None:
            return
        if wanted or not self._keeper:
            self._listening.remove()
        self._listening.close()


def _most_connections() -> int:
    """How many connections there are descriptors for, once we have what we may have."""
    return descriptors.raise_limit(MOST_CONNECTIONS, OWN_DESCRIPTORS)
