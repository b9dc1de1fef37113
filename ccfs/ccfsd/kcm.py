"""KCM clients: whoever connects is handed over to the daemon of their own uid.

Knows who the kernel says a client is, and how a descriptor is passed on; never a byte of what it
asks: that is between it and the daemon.
"""

from __future__ import annotations

import logging
import socket
from collections import Counter

from ccfs import control
from ccfs.ccfsd.host import Host
from ccfs.ccfsd.registry import Owner
from ccfs.ccfsd.served import Served
from ccfs.control import Message

log = logging.getLogger(__name__)

SECONDS = 10.0
"""That a client waits for its daemon, at most."""
MOST = 512
MOST_OF_ONE = 32
"""Clients that wait, of all users and of one."""
IN_A_ROW = 64


class Handover:
    """The socket where KCM clients connect."""

    def __init__(self, host: Host, listener: socket.socket) -> None:
        self._host = host
        self._listener = listener
        self._waiting: Counter[int] = Counter()
        listener.setblocking(False)
        host.loop.watch(listener.fileno(), self._accept)

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
        peer = control.peer(client)
        owner = Owner(peer.uid, peer.gid)
        busy = self._waiting[peer.uid] >= MOST_OF_ONE or self._waiting.total() >= MOST
        if busy or self._host.stopping or not self._host.asked(str(peer.uid), owner):
            client.close()
            return
        self._waiting[peer.uid] += 1

        def ready(served: Served) -> None:
            served.ask(control.encode("kcm"), answer, SECONDS, (client.fileno(),))

        def answer(reply: Message | None, why: str) -> None:
            if reply is None:
                failed(why)
            else:
                over()

        def failed(why: str) -> None:
            log.warning("a KCM client of uid %d is turned away: %s", owner.uid, why)
            over()

        def over() -> None:
            client.close()
            self._waiting[owner.uid] -= 1
            if not self._waiting[owner.uid]:
                del self._waiting[owner.uid]

        self._host.want(str(peer.uid), owner, SECONDS, ready, failed)
