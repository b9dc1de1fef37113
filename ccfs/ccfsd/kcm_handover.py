# SPDX-License-Identifier: MIT
"""KCM clients: each connection is handed over to the daemon of the client's uid.

Where daemons take connections over, a descriptor of each stays here as long as it lasts, and is
handed to the next daemon.  Where they don't, no descriptor may stay here: it would keep the dead
daemon's connections open, and their clients would wait instead of connecting again.

Knows the uid of a client, by the kernel's word, and how a descriptor is passed on; never a byte of
what a client asks: that is between it and the daemon.
"""

from __future__ import annotations

import logging
import socket
from collections import Counter
from collections.abc import Mapping, Sequence

import trio

from ccfs.ccfsd import listening
from ccfs.ccfsd.daemon_request import LateError, NoReplyError
from ccfs.ccfsd.listening import Gate
from ccfs.ccfsd.mount import ServedMount
from ccfs.ccfsd.mounts import Mounts
from ccfs.ccfsd.registry import Owner
from ccfs.ccfsd.waiters import NotServedError
from ccfs.control import messages
from ccfs.control.messages import RefusedError
from ccfs.linux import peer_credentials
from ccfs.linux.peer_credentials import Peer
from ccfs.takeover.kcm_connections import KcmConnections

log = logging.getLogger(__name__)

SECONDS = 10.0
"""Seconds that a client waits for its daemon, at most."""
KEPT, KEPT_OF_ONE = 2048, 64
"""Connections whose descriptors stay here, of all and of one mount; more end with their daemon."""


class KcmHandover:
    """Hands connections over.

    `passed`: descriptors of connections that the ccfsd before had here, by their mounts.
    """

    def __init__(self, mounts: Mounts, gate: Gate, passed: Mapping[str, Sequence[int]]) -> None:
        self._mounts = mounts
        self._gate = gate
        self._waiting: Counter[int | str] = Counter()
        self._logged_at = -1.0
        self._connections = KcmConnections()
        for name, descriptors in passed.items():
            for descriptor in descriptors:
                self._connections.add(socket.socket(fileno=descriptor), name)

    async def accept(self, listener: socket.socket) -> None:
        """Hand the clients that connect to their daemons, for ever."""
        await listening.accept(listener, self._gate, self._welcome)

    async def drop_ended(self) -> None:
        """Close the descriptors of connections that have ended, for ever."""
        while True:
            await trio.lowlevel.wait_readable(self._connections.fileno())
            self._connections.close_ended()

    def detach(self) -> dict[str, list[int]]:
        """Give up the descriptors that stay here; returns them by their mounts, for the restart."""
        names = self._mounts.served
        found = {name: [one.detach() for one in self._connections.of_mount(name)] for name in names}
        return {name: descriptors for name, descriptors in found.items() if descriptors}

    def drop(self, mount: ServedMount) -> None:
        """Close all connections of a mount: no daemon takes it over."""
        self._connections.close_all(mount.name)

    async def give_all(self, mount: ServedMount) -> None:
        """Hand all connections of a mount to its next daemon, then tell it that these were all."""
        for client in reversed(self._connections.of_mount(mount.name)):
            if client.fileno() < 0:  # it has ended meanwhile
                continue
            try:
                await mount.ask(messages.encode("kcm"), SECONDS, (client.fileno(),))
            except (NoReplyError, RefusedError) as error:
                log.warning("a KCM client of %s is lost: %s", mount.name, error)
        try:
            await mount.ask(messages.encode("kcm-given"), SECONDS)
        except (NoReplyError, RefusedError) as error:
            log.info("the daemon of %s has not taken KCM clients over: %s", mount.name, error)

    def _welcome(self, client: socket.socket) -> None:
        peer = peer_credentials.peer(client)
        user = self._mounts.users.behind(peer.uid)
        why = self._why_not(user, Owner(peer.uid, peer.gid))
        if why:
            client.close()
            self._log_refusal(peer.uid, why)
            return
        self._waiting[user] += 1
        self._mounts.background.start(self._serve, client, peer, user)

    async def _serve(self, client: socket.socket, peer: Peer, user: int | str) -> None:
        try:
            with client:
                await self._hand_over(client, peer)
        except (NotServedError, NoReplyError, RefusedError) as error:
            log.warning("a KCM client of uid %d is turned away: %s", peer.uid, error)
        finally:
            self._waiting[user] -= 1
            if not self._waiting[user]:
                del self._waiting[user]

    async def _hand_over(self, client: socket.socket, peer: Peer) -> None:
        """Raises NotServedError, NoReplyError, RefusedError."""
        owner = Owner(peer.uid, peer.gid)
        mount = await self._mounts.ready(str(peer.uid), owner, SECONDS)
        copy = self._keep_copy(client, mount)
        try:
            await mount.ask(messages.encode("kcm"), SECONDS, (client.fileno(),))
        except (NoReplyError, RefusedError) as error:
            has_died = isinstance(error, NoReplyError) and not isinstance(error, LateError)
            if copy is None:
                raise
            if not has_died:
                self._connections.close(copy)
                raise
            # The next daemon is given the copy.

    def _keep_copy(self, client: socket.socket, mount: ServedMount) -> socket.socket | None:
        """Keep a copy for the next daemon, where one can take over and there is room."""
        connections = self._connections
        has_room = len(connections) < KEPT and len(connections.of_mount(mount.name)) < KEPT_OF_ONE
        if mount.fuse_connection is None or not has_room:
            return None
        try:
            copy = client.dup()
        except OSError:  # no descriptor is left
            return None
        connections.add(copy, mount.name)
        return copy

    def _why_not(self, user: int | str, owner: Owner) -> str:
        """Why a client isn't served; "" where it is."""
        if self._mounts.stopping:
            return "ccfsd is ending"
        of_user, of_all = self._waiting[user], self._waiting.total()
        quota, registry = self._mounts.quota, self._mounts.registry
        why = quota.kcm(owner.uid, of_user, of_all, registry)
        return why or self._mounts.admit(str(owner.uid), owner)

    def _log_refusal(self, uid: int, why: str) -> None:
        """Log a refusal, once a second at most: the protocol has no words for it."""
        now = trio.current_time()
        if now - self._logged_at >= 1.0:
            self._logged_at = now
            log.warning("a KCM client of uid %d is turned away: %s", uid, why)
