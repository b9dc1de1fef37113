"""What clients may ask of ccfsd: the words, who may use them, and what they do.

Knows the words of `ccfs.control.messages`; never how a mount is made.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

from ccfs.ccfsd.clients import Connection
from ccfs.ccfsd.login import Opening, seconds_of
from ccfs.ccfsd.mount import Served
from ccfs.ccfsd.mounts import Host
from ccfs.ccfsd.registry import Owner
from ccfs.control import messages
from ccfs.control.messages import MalformedError, Message

log = logging.getLogger(__name__)

Act = Callable[[Host, Connection, Message], None]


@dataclass(frozen=True, slots=True)
class Word:
    """What a request does; `root`: only for root."""

    act: Act
    root: bool = True


def handle(host: Host, connection: Connection, request: Message) -> None:
    """Do what a request asks for.  Raises MalformedError."""
    word = WORDS.get(request.word)
    if word is None:
        raise MalformedError("unknown request")
    if word.root and connection.peer.uid != 0:
        connection.refuse("only root may ask for that")
    elif host.stopping:
        connection.refuse("ccfsd is ending")
    else:
        word.act(host, connection, request)


def _open(host: Host, connection: Connection, request: Message) -> None:
    Opening(host, connection, request)


def _close(host: Host, connection: Connection, request: Message) -> None:
    host.close(request.number("session"))
    connection.reply(messages.encode("ok"))


def _mount(host: Host, connection: Connection, request: Message) -> None:
    name, owner = str(connection.peer.uid), Owner(connection.peer.uid, connection.peer.gid)
    if why := host.asked(name, owner):
        connection.refuse(why)
        return

    def ready(served: Served) -> None:
        path = host.runtime.mountpoint(served.name)
        connection.reply(messages.encode("ok", path=path, device=served.device))

    seconds = seconds_of(request, of_root=connection.peer.uid == 0)
    drop = host.want(name, owner, seconds, ready, connection.refuse)
    connection.abandoned = drop


def _status(host: Host, connection: Connection, request: Message) -> None:
    connection.reply(
        messages.encode(
            "ok",
            pid=os.getpid(),
            daemons=sum(served.process is not None for served in host.served.values()),
            sessions=len(host.registry.sessions),
        )
    )


def _stop(host: Host, connection: Connection, request: Message) -> None:
    log.info("ending all mounts")

    def stopped() -> None:
        connection.reply(messages.encode("ok"))
        host.loop.stop()

    host.stop(stopped)


def _restart(host: Host, connection: Connection, request: Message) -> None:
    host.restart(connection)


WORDS: dict[str, Word] = {
    "open": Word(_open),
    "close": Word(_close),
    "mount": Word(_mount, root=False),
    "status": Word(_status),
    "stop": Word(_stop),
    "restart": Word(_restart),
}
