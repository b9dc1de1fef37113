"""KCM clients: each connection is handed over to the daemon of the client's uid.

Where daemons take connections over, a descriptor of each stays here as long as it lasts, and is
handed to the next daemon.  Where they don't, no descriptor may stay here: it would keep the dead
daemon's connections open, and their clients would wait instead of connecting again.

Knows who the kernel says a client is, and how a descriptor is passed on; never a byte of what it
asks: that is between it and the daemon.
"""

from __future__ import annotations

import logging
import socket
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from ccfs.ccfsd.asking import LATE
from ccfs.ccfsd.mount import Served
from ccfs.ccfsd.mounts import Host
from ccfs.ccfsd.registry import Owner
from ccfs.control import messages
from ccfs.control.messages import Message
from ccfs.linux import peer_credentials
from ccfs.takeover.kcm_connections import KcmConnections

log = logging.getLogger(__name__)

SECONDS = 10.0
"""That a client waits for its daemon, at most."""
IN_A_ROW = 64
KEPT, KEPT_OF_ONE = 2048, 64
"""Connections that are kept here, of all and of one user; more end with their daemon."""


class Handover:
    """The socket where KCM clients connect.

    `kept`: descriptors of those that another ccfsd has kept, by their mounts.
    """

    def __init__(
        self, host: Host, listener: socket.socket, kept: Mapping[str, Sequence[int]]
    ) -> None:
        self._host = host
        self._listener = listener
        self._waiting: Counter[int | str] = Counter()
        self._said = 0.0
        self._kept = KcmConnections()
        for name, some in kept.items():
            for one in some:
                self._kept.add(socket.socket(fileno=one), name)
        host.passes.append(self._to_pass_on)
        listener.setblocking(False)
        host.loop.watch(listener.fileno(), self._accept)
        host.loop.watch(self._kept.fileno(), self._kept.close_ended)

    def _to_pass_on(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for name in self._host.served:
            if clients := self._kept.of_mount(name):
                found[f"kcm-client:{name}"] = [client.fileno() for client in clients]
        return found

    def drop(self, served: Served) -> None:
        """Let go of all connections of a mount: it will have no other daemon."""
        self._kept.close_all(served.name)

    def give_all(self, served: Served) -> None:
        """Hand all connections of a mount to its next daemon, then say that these were all."""
        left = self._kept.of_mount(served.name)

        def go_on(reply: Message | None, why: str) -> None:
            if reply is None:
                log.warning("a KCM client of %s is lost: %s", served.name, why)
            if left:
                served.ask(messages.encode("kcm"), go_on, SECONDS, (left.pop().fileno(),))
            else:
                served.ask(messages.encode("kcm-given"), lambda reply, why: None, SECONDS)

        go_on(Message("ok"), "")

    def _accept(self) -> None:
        for _ in range(IN_A_ROW):
            try:
                client, _address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError:  # no descriptor left for one
                self._host.loop.rest(self._listener.fileno(), self._accept)
                return
            self._take(client)

    def _take(self, client: socket.socket) -> None:
        peer = peer_credentials.peer(client)
        owner = Owner(peer.uid, peer.gid)
        user = self._host.users.behind(peer.uid)
        why = self._why_not(user, owner)
        if why:
            self._refuse(owner.uid, why)
            client.close()
            return
        self._waiting[user] += 1

        def ready(served: Served) -> None:
            kept = self._keep(client, served)

            def answer(reply: Message | None, why: str) -> None:
                has_died = not question.refused and why != LATE
                if reply is None and not (kept and has_died):  # or the next daemon is given it
                    if kept:
                        self._kept.close(kept)
                    failed(why)
                else:
                    over()

            question = served.ask(messages.encode("kcm"), answer, SECONDS, (client.fileno(),))

        def failed(why: str) -> None:
            log.warning("a KCM client of uid %d is turned away: %s", owner.uid, why)
            over()

        def over() -> None:
            client.close()
            self._waiting[user] -= 1
            if not self._waiting[user]:
                del self._waiting[user]

        self._host.want(str(peer.uid), owner, SECONDS, ready, failed)

    def _keep(self, client: socket.socket, served: Served) -> socket.socket | None:
        """A copy for the next daemon, where one can take over and there is room."""
        name = served.name
        has_room = len(self._kept) < KEPT and len(self._kept.of_mount(name)) < KEPT_OF_ONE
        if served.link is None or not has_room:
            return None
        try:
            copy = client.dup()
        except OSError:  # no descriptor left
            return None
        self._kept.add(copy, name)
        return copy

    def _why_not(self, user: int | str, owner: Owner) -> str:
        """Why a client isn't served; "" where it is."""
        if self._host.stopping:
            return "ccfsd is ending"
        of_user, of_all = self._waiting[user], self._waiting.total()
        quota, registry = self._host.quota, self._host.registry
        why = quota.kcm(owner.uid, of_user, of_all, registry)
        return why or self._host.asked(str(owner.uid), owner)

    def _refuse(self, uid: int, why: str) -> None:
        """Say so in the log, once a second at most: the protocol has no words for it."""
        now = time.monotonic()
        if now - self._said >= 1.0:
            self._said = now
            log.warning("a KCM client of uid %d is turned away: %s", uid, why)
