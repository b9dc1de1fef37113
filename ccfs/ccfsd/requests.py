# SPDX-License-Identifier: MIT
"""What clients may ask of ccfsd: the words, which of them are root's alone, and what they do.

Knows the words of `ccfs.control.messages`; never how a mount is made.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ccfs.ccfsd import login
from ccfs.ccfsd.clients import Connection
from ccfs.ccfsd.mounts import Mounts
from ccfs.ccfsd.registry import Owner
from ccfs.control import messages
from ccfs.control.messages import MalformedError, Message
from ccfs.errors import DeniedError, UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Requests:
    """Carries requests out.

    `restart`: carries out `restart`.  `end`: ends ccfsd.
    """

    mounts: Mounts
    restart: Callable[[Connection], Awaitable[None]]
    end: Callable[[], None]

    async def handle(self, connection: Connection, request: Message) -> None:
        """Do what a request asks for, and reply.  Raises MalformedError, UserError, OSError."""
        word = WORDS.get(request.word)
        if word is None:
            raise MalformedError("unknown request")
        if word.root and connection.peer.uid != 0:
            raise DeniedError("only root may ask for that")
        if self.mounts.stopping:
            raise UserError("ccfsd is ending")
        await word.act(self, connection, request)

    async def open(self, connection: Connection, request: Message) -> None:
        """Begin a session."""
        await login.open_session(self.mounts, connection, request)

    async def close(self, connection: Connection, request: Message) -> None:
        """End a session."""
        self.mounts.close(request.number("session"))
        await connection.reply(messages.encode("ok"))

    async def mount(self, connection: Connection, request: Message) -> None:
        """Have the mount of the client's uid answer, without a session."""
        uid = connection.peer.uid
        name, owner = str(uid), Owner(uid, connection.peer.gid)
        if why := self.mounts.admit(name, owner):
            raise UserError(why)
        with connection.while_connected():
            seconds = login.seconds_of(request, of_root=uid == 0)
            served = await self.mounts.ready(name, owner, seconds)
            path = self.mounts.runtime.mountpoint(name)
            await connection.reply(messages.encode("ok", path=path, device=served.device))

    async def status(self, connection: Connection, request: Message) -> None:
        """Say how many daemons and sessions there are."""
        daemons = sum(served.process is not None for served in self.mounts.served.values())
        sessions = len(self.mounts.registry.sessions)
        reply = messages.encode("ok", pid=os.getpid(), daemons=daemons, sessions=sessions)
        await connection.reply(reply)

    async def stop(self, connection: Connection, request: Message) -> None:
        """End all mounts, then ccfsd."""
        log.info("ending all mounts")
        await self.mounts.stop()
        await connection.reply(messages.encode("ok"))
        self.end()

    async def restart_ccfsd(self, connection: Connection, request: Message) -> None:
        """Execute the program that is installed now in place of this one."""
        await self.restart(connection)


@dataclass(frozen=True, slots=True)
class Word:
    """What a request does; `root`: only for root."""

    act: Callable[[Requests, Connection, Message], Awaitable[None]]
    root: bool = True


WORDS: dict[str, Word] = {
    "open": Word(Requests.open),
    "close": Word(Requests.close),
    "mount": Word(Requests.mount, root=False),
    "status": Word(Requests.status),
    "stop": Word(Requests.stop),
    "restart": Word(Requests.restart_ccfsd),
}
