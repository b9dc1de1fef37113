# SPDX-License-Identifier: MIT
"""A login: wait for the user's mount, import what the login brought, begin the session, reply.

Knows the request `open` and its deadline; never how a mount is made.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

import trio

from ccfs.ccfsd import daemon_request
from ccfs.ccfsd.clients import Connection
from ccfs.ccfsd.mount import ServedMount
from ccfs.ccfsd.mounts import Mounts
from ccfs.ccfsd.registry import Owner, Session
from ccfs.ccfsd.waiters import NotServedError
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
NO_ID = (1 << 32) - 1
"""The uid, or gid, that is none (chown(2))."""
SCOPES = ("user", "session")
IMPORTS = ("if-empty", "session", "never")
DEFAULT = "default"


def seconds_of(request: Message, *, of_root: bool = True) -> float:
    """The seconds that a request may take.  Raises MalformedError."""
    deadline = request.number("deadline") if "deadline" in request.values else DEADLINE
    return min(max(deadline, 1), LONGEST if of_root else LONGEST_OF_USERS) / 1000 * EARLIER


@dataclass(frozen=True, slots=True)
class _Login:
    """One login.

    `number`: of its session.  `is_own`: the mount is the session's own.  `due`: when the reply is
    to be sent, on trio's clock.  `imports`: one of IMPORTS.  `source`: the ccache that the login
    brought, "" for none.
    """

    number: int
    name: str
    is_own: bool
    due: float
    imports: str
    source: str

    @property
    def seconds_left(self) -> float:
        return max(self.due - trio.current_time(), 0.0)

    @property
    def target(self) -> tuple[str, str]:
        """Which ccache the imported credentials go into, and when."""
        if self.imports == "session" and not self.is_own:
            return f"session-{self.number}", "always"
        return DEFAULT, "always" if self.is_own else "if-empty"


async def open_session(mounts: Mounts, connection: Connection, request: Message) -> None:
    """Carry out `open`.  Raises MalformedError, UserError, OSError.

    It goes on when the client disconnects, so that an imported ccache ends with the session.
    """
    due = trio.current_time() + seconds_of(request)
    imports = _choice(request, "import", IMPORTS)
    is_own = _choice(request, "scope", SCOPES) == "session"
    uid, gid = request.number("uid", NO_ID - 1), request.number("gid", NO_ID - 1)
    service, user = (request.values.get(key, "") for key in ("service", "user"))
    number = mounts.number(new=is_own or str(uid) not in mounts.registry.mounts)
    peer = processes.peer(connection.socket)
    if peer is None:
        raise MalformedError("the client has ended")
    leader, pidfd = peer
    name = f"{uid}.{number}" if is_own else str(uid)
    login = _Login(number, name, is_own, due, imports, request.values.get("ccache", ""))
    try:
        with mounts.login(name):
            served = await mounts.ready(name, Owner(uid, gid, user), login.seconds_left)
            own_ccache, values = await _import(login, served)
            mounts.open(Session(number, name, leader, own_ccache, service), pidfd, user)
            pidfd = -1
    except NotServedError:
        mounts.end_unused(name)
        raise
    finally:
        if pidfd >= 0:
            os.close(pidfd)
    log.info("session %d of uid %s begins (%s)", number, name, service or "-")
    path = mounts.runtime.mountpoint(name)
    reply = messages.encode("ok", session=number, path=path, device=served.device, **values)
    if not await connection.reply(reply):
        log.info("session %d: its client does not wait for it any more", number)
        mounts.close(number)


async def _import(login: _Login, served: ServedMount) -> tuple[str, dict[str, str]]:
    """Move what the login brought into the mount.

    Returns the ccache that is destroyed with the session ("" for none), and the values of the
    reply.
    """
    if not login.source or login.imports == "never":
        return "", {}
    into, when = login.target
    # The daemon is to know first that it is too late: what it has not moved stays where it was.
    limit = int(login.seconds_left * 1000 * EARLIER)
    try:
        data = messages.encode("import", ccache=login.source, into=into, when=when, deadline=limit)
    except MalformedError as error:
        log.warning("uid %d: nothing imported: %s", served.owner.uid, error)
        return "", {}
    # Whatever the daemon replies: a ccache that may have been made goes with the session.
    own_ccache = into if into != DEFAULT else ""
    try:
        reply = await served.ask(data, login.seconds_left)
    except daemon_request.FAILURES as error:
        log.warning("uid %d: nothing imported: %s", served.owner.uid, error)
        return own_ccache, {}
    if "into" not in reply.values:
        return own_ccache, {}
    return own_ccache, {"ccache": own_ccache} if own_ccache else {"imported": DEFAULT}


def _choice(request: Message, key: str, known: tuple[str, ...]) -> str:
    """The value of a key, or the first of those it may have.  Raises MalformedError."""
    value = request.values.get(key, known[0])
    if value not in known:
        raise MalformedError(f"{key} is none of {', '.join(known)}")
    return value
