"""A session on its way: a mount that answers, what the login brought moved into it, the reply.

Knows the request `open` and its deadline; never how a mount is made.
"""

from __future__ import annotations

import logging
import os
import time

from ccfs.ccfsd.clients import Connection
from ccfs.ccfsd.mount import Served
from ccfs.ccfsd.mounts import Host
from ccfs.ccfsd.registry import Owner, Session
from ccfs.control import messages
from ccfs.control.messages import MalformedError, Message
from ccfs.linux import processes

log = logging.getLogger(__name__)

DEADLINE = 1000
LONGEST = 60_000
LONGEST_OF_USERS = 20_000
"""Milliseconds; a user's client may not have ccfsd remember it for longer."""
EARLIER = 0.9
"""The part of a client's deadline within which it is answered."""
NOBODY = (1 << 32) - 1
"""The uid, or gid, that is none (chown(2))."""
SCOPES = ("user", "session")
IMPORTS = ("if-empty", "session", "never")
DEFAULT = "default"


def seconds_of(request: Message, *, of_root: bool = True) -> float:
    """How long a request may take."""
    given = request.number("deadline") if "deadline" in request.values else DEADLINE
    return min(max(given, 1), LONGEST if of_root else LONGEST_OF_USERS) / 1000 * EARLIER


class Opening:
    """One `open`, from the request to the reply."""

    def __init__(self, host: Host, connection: Connection, request: Message) -> None:
        self._host = host
        self._connection = connection
        self._request = request
        self._end = time.monotonic() + seconds_of(request)
        self._import = _choice(request, "import", IMPORTS)
        own = _choice(request, "scope", SCOPES) == "session"
        uid, gid = request.number("uid", NOBODY - 1), request.number("gid", NOBODY - 1)
        self._number = host.number(new=own or str(uid) not in host.registry.mounts)
        leader = processes.peer(connection.socket)
        if leader is None:
            raise MalformedError("who asks has ended")
        self._leader, self._pidfd = leader
        self._own = own
        self._own_ccache = ""
        self._name = f"{uid}.{self._number}" if own else str(uid)
        host.coming[self._name] += 1
        owner = Owner(uid, gid, request.values.get("user", ""))
        host.want(self._name, owner, self._left(), self._ready, self._fail)

    def _left(self) -> float:
        return max(self._end - time.monotonic(), 0.0)

    def _ready(self, served: Served) -> None:
        """The mount answers: bring in what the login has left for it."""
        source = self._request.values.get("ccache", "")
        if not source or self._import == "never":
            self._reply(served, "")
            return
        into, when = self._target()
        # The daemon is to know first that it is too late: what it has not moved stays where it was.
        limit = int(self._left() * 1000 * EARLIER)
        try:
            data = messages.encode("import", ccache=source, into=into, when=when, deadline=limit)
        except MalformedError as error:
            log.warning("uid %d: nothing imported: %s", served.owner.uid, error)
            self._reply(served, "")
            return
        # Whatever is heard of it: what may have come there goes with the session.
        self._own_ccache = into if into != DEFAULT else ""

        def answer(reply: Message | None, why: str) -> None:
            if reply is None:
                log.warning("uid %d: nothing imported: %s", served.owner.uid, why)
            imported = reply is not None and "into" in reply.values
            self._reply(served, into if imported else "")

        served.ask(data, answer, self._left())

    def _target(self) -> tuple[str, str]:
        """Where the login's credentials go, and when."""
        if self._import == "session" and not self._own:
            return f"session-{self._number}", "always"
        return DEFAULT, "always" if self._own else "if-empty"

    def _reply(self, served: Served, imported: str) -> None:
        own = imported if imported != DEFAULT else ""
        values = {"ccache": own} if own else {}
        if imported == DEFAULT:
            values = {"imported": DEFAULT}
        path = self._host.runtime.mountpoint(self._name)
        data = messages.encode(
            "ok", session=self._number, path=path, device=served.device, **values
        )
        self._begin()
        self._connection.reply(data, self._unheard)

    def _begin(self) -> None:
        service, user = (self._request.values.get(key, "") for key in ("service", "user"))
        session = Session(self._number, self._name, self._leader, self._own_ccache, service)
        self._host.open(session, self._pidfd, user)
        self._over()
        log.info("session %d of uid %s begins (%s)", self._number, self._name, service or "-")

    def _unheard(self) -> None:
        """Whoever wanted the session has gone before it was theirs."""
        log.info("session %d: nobody waits for it any more", self._number)
        self._host.close(self._number)

    def _fail(self, why: str) -> None:
        os.close(self._pidfd)
        self._over()
        self._connection.refuse(why)
        self._host.consider(self._name)

    def _over(self) -> None:
        self._host.coming[self._name] -= 1
        if not self._host.coming[self._name]:
            del self._host.coming[self._name]


def _choice(request: Message, key: str, known: tuple[str, ...]) -> str:
    """The value of a key, or the first of those it may have.  Raises MalformedError."""
    value = request.values.get(key, known[0])
    if value not in known:
        raise MalformedError(f"{key} is none of {', '.join(known)}")
    return value
