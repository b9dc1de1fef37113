"""All mounts and sessions of the host, and what connects them.

Knows which mount a session keeps, and what has to be remembered; never sockets' words.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ccfs.ccfsd import state_file
from ccfs.ccfsd.loop import Loop, Timer
from ccfs.ccfsd.mount import Phase, Served
from ccfs.ccfsd.passed_descriptors import Passed
from ccfs.ccfsd.quota import Quota
from ccfs.ccfsd.registry import Mount, Owner, Registry, Session
from ccfs.ccfsd.runtime_dir import Runtime
from ccfs.ccfsd.settings import Settings
from ccfs.ccfsd.subuids import Users
from ccfs.ccfsd.surroundings import Want
from ccfs.control import messages
from ccfs.control.messages import Message
from ccfs.errors import UserError
from ccfs.takeover.fork_server import ForkServer

if TYPE_CHECKING:
    from ccfs.ccfsd.clients import Connection
    from ccfs.ccfsd.kcm_handover import Handover

log = logging.getLogger(__name__)

DESTROY = 60.0
"""Seconds that a daemon has to destroy the ccache of a session that has ended; it may be another
one by then."""
AHEAD = 1000
"""Sessions that can begin while nothing can be written down."""
PINGS = 20
SOONEST = 2.0
"""Seconds between two pings of a daemon, where there are few daemons."""
SLOW = 2.0
"""Seconds that a daemon may start before it keeps no others from starting."""


class UnwritableError(UserError):
    """What the next ccfsd must know can't be written down."""


class Host:
    """The mounts by their names, the sessions by their numbers."""

    def __init__(
        self, loop: Loop, runtime: Runtime, settings: Settings, nursery: ForkServer
    ) -> None:
        self.loop = loop
        self.runtime = runtime
        self.settings = settings
        self.nursery = nursery
        self.registry = Registry()
        self.guessed: set[str] = set()
        self.users = Users()
        self.quota = Quota(settings.limits, self.users)
        self.served: dict[str, Served] = {}
        self.coming: Counter[str] = Counter()
        self.stopping: Callable[[], None] | None = None
        self.restart: Callable[[Connection], None] = _cannot_restart
        self.kcm: Handover | None = None
        self.passes: list[Callable[[], Passed]] = []
        """What else the next ccfsd gets at a restart: descriptors by names of their own."""
        self._leaders: dict[int, int] = {}
        self._graces: dict[str, Timer] = {}
        self._errands: dict[tuple[str, str], Callable[[], None]] = {}
        self._logins: deque[Served] = deque()
        self._others: deque[Served] = deque()
        self._starting: dict[Served, bool] = {}
        self._is_starting_next = False
        self._saved: Registry | None = None
        self._promised = 0
        self._unwritable = ""

    def want(
        self,
        name: str,
        owner: Owner,
        seconds: float,
        ready: Callable[[Served], None],
        failed: Callable[[str], None],
    ) -> Callable[[], None]:
        """Have one of the two called: when a mount answers, or with why it doesn't in time.

        Returns what to call where nobody waits for that any more.
        """
        served = self.served.get(name)
        if served is None:
            served = self.served[name] = Served(self, name, owner)
        want = Want(lambda: ready(served), failed)
        served.want(want, seconds)
        if served.phase is Phase.QUEUED:
            self.queue(served)  # somebody who logs in doesn't wait for those who don't
        return lambda: served.drop(want)

    def asked(self, name: str, owner: Owner) -> str:
        """Note that a mount is asked for without a session; else why its user gets none."""
        mount = self.registry.mounts.get(name)
        if mount is not None and (mount.asked or self.registry.sessions_of(name)):
            return ""
        why = self.quota.start(owner.uid, self.registry, time.monotonic())
        if not why:
            self.registry = self.registry.has(replace(mount or Mount(name, owner), asked=True))
        return why

    def number(self, *, new: bool) -> int:
        """The number of a new session; `new`: nobody has had its mount before.

        UnwritableError where the next ccfsd would not know of the mount, or might give the number
        to another.
        """
        self.registry, number = self.registry.numbered()
        if (new or number >= self._promised) and not self.save():
            raise UnwritableError(f"cannot write {self.runtime.state}: {self._unwritable}")
        return number

    def open(self, session: Session, pidfd: int, user: str) -> None:
        """A session begins, to end with its leader."""
        mount = self.registry.mounts[session.mount]
        if user and not mount.owner.user:
            mount = replace(mount, owner=replace(mount.owner, user=user))
            self.registry = self.registry.has(mount)
        self.registry = self.registry.opened(session)
        self.lead(session, pidfd)
        self.destroy_doomed(session.mount)

    def lead(self, session: Session, pidfd: int) -> None:
        """The end of a session's leader is that of the session."""
        self._leaders[session.number] = pidfd
        self.loop.watch(pidfd, lambda: self._leader_ended(session.number))

    def close(self, number: int) -> None:
        """A session ends, and with the last one its mount."""
        session = self.registry.sessions.get(number)
        if session is None:
            return
        self.registry = self.registry.closed(number)
        pidfd = self._leaders.pop(number, None)
        if pidfd is not None:
            self.loop.forget(pidfd)
            os.close(pidfd)
        self._stop_guessing(session.mount)
        self.begin_grace(session.mount)
        if not self.consider(session.mount) and session.ccache:
            self.registry = self.registry.doomed(session.mount, session.ccache)
            self.destroy_doomed(session.mount)

    def consider(self, name: str) -> bool:
        """End a mount that nothing keeps any more; whether that is so.

        One that was asked for without a session stays, whatever sessions come and go: it ends when
        it is idle and has no valid credential.
        """
        served, mount = self.served.get(name), self.registry.mounts.get(name)
        if served is None:
            return True
        if self.is_used(served) or name in self._graces or (mount and mount.asked):
            return False
        if self.lingers(mount):
            return False
        for errand in [one for one in self._errands if one[0] == name]:
            self._errands.pop(errand)()
        served.end()
        return True

    def _stop_guessing(self, name: str) -> None:
        """After a session, a mount of which it was only assumed that it was asked for isn't."""
        if name in self.guessed and not self.registry.sessions_of(name):
            self.guessed.discard(name)
            self.registry = self.registry.has(replace(self.registry.mounts[name], asked=False))

    def check(self, served: Served) -> None:
        """End a mount whose user lingered, and doesn't any more."""
        if served.name in self.registry.mounts and not served.is_wanted and not self.stopping:
            self.consider(served.name)

    def begin_grace(self, name: str) -> None:
        """Let jobs that outlive the last session (nohup, tmux) have the mount for a while."""
        before = self._graces.pop(name, None)
        if before is not None:
            before.cancel()
        if self.settings.grace and "." not in name and not self.stopping:
            self._graces[name] = self.loop.after(self.settings.grace, partial(self._past, name))

    def _past(self, name: str) -> None:
        self._graces.pop(name, None)
        self.consider(name)

    def destroy_doomed(self, name: str) -> None:
        """Have the daemon of a mount destroy what has no session any more.

        This daemon or the one that replaces it; what can't be destroyed now is at the next session.
        """
        mount = self.registry.mounts[name]
        for ccache in mount.doomed:
            if (name, ccache) not in self._errands:
                self._destroy(name, mount.owner, ccache)

    def _destroy(self, name: str, owner: Owner, ccache: str) -> None:
        errand = name, ccache

        def ready(served: Served) -> None:
            served.ask(messages.encode("destroy", ccache=ccache), answer, DESTROY)

        def answer(reply: Message | None, why: str) -> None:
            if reply is None:
                failed(why)
                return
            self._errands.pop(errand, None)
            self.registry = self.registry.destroyed(name, ccache)

        def failed(why: str) -> None:
            self._errands.pop(errand, None)
            log.warning("cannot destroy %s of %s: %s", ccache, name, why)

        def drop() -> None:
            cancel()

        self._errands[errand] = drop
        cancel = self.want(name, owner, DESTROY, ready, failed)

    def lingers(self, mount: Mount | None) -> bool:
        """Whether the mount's user has asked that what is theirs outlives their sessions."""
        user = mount.owner.user if mount and "." not in mount.name else ""
        if not user or "/" in user or user in (".", ".."):
            return False
        return os.path.lexists(f"{self.settings.linger}/{user}")

    def stop(self, stopped: Callable[[], None]) -> None:
        """End everything; `stopped` is called when that is done."""
        self.stopping = stopped
        self._graces.clear()
        for number in [*self.registry.sessions]:
            self.close(number)
        for served in [*self.served.values()]:
            served.refuse("ccfsd is ending")
            served.end()
        self._stop_when_empty()

    def save(self) -> bool:
        """Have in the file what the next ccfsd must know; whether it is there."""
        if self.registry is self._saved:
            return True
        before, self._unwritable = self._unwritable, ""
        try:
            promised = self.registry.following + AHEAD
            state_file.write(self.runtime.state, replace(self.registry, following=promised))
        except OSError as error:
            self._unwritable = (error.strerror or str(error)).lower()
            if self._unwritable != before:  # it is tried again and again
                log.error("cannot write %s: %s", self.runtime.state, self._unwritable)
            return False
        self._saved, self._promised = self.registry, promised
        return True

    # What a mount needs of us (served.Surroundings).

    @property
    def period(self) -> float:
        """Seconds between two pings of a daemon: at most PINGS a second for all of them."""
        return min(self.settings.period, max(SOONEST, len(self.served) / PINGS))

    def queue(self, served: Served) -> None:
        """It starts when there is room, which those who log in have of their own."""
        queue = self._logins if self.is_used(served) else self._others
        if served not in queue:
            queue.append(served)
        self._start_next()

    def started(self, served: Served) -> None:
        """There is room for the next."""
        self._starting.pop(served, None)
        self._start_next()

    def changed(self, served: Served) -> None:
        """Its daemon is another one, or none."""
        before = self.registry.mounts.get(served.name) or Mount(served.name, served.owner)
        mount = replace(before, daemon=served.process, device=served.device)
        self.registry = self.registry.has(mount)

    def succeeded(self, served: Served) -> None:
        """Its daemon has taken over from another: it is to have the KCM clients of that, too."""
        if self.kcm is not None:
            self.kcm.give_all(served)

    def lost(self, served: Served) -> None:
        """Its daemon is dead and gets no successor: end the connections of its KCM clients."""
        if self.kcm is not None:
            self.kcm.drop(served)

    def gone(self, served: Served) -> None:
        """Nothing is left of it.  A login that heard of its failure may have ended it before."""
        if self.served.get(served.name) is not served:
            return
        del self.served[served.name]
        self.registry = self.registry.lost(served.name)
        self._stop_when_empty()

    def is_used(self, served: Served) -> bool:
        """Whether a session keeps it, or a login that is under way."""
        return bool(self.coming[served.name] or self.registry.sessions_of(served.name))

    def _start_next(self) -> None:
        if self._is_starting_next:  # one that fails at once says so from in here
            return
        self._is_starting_next = True
        try:
            self._start_some(self._logins, login=True)
            self._start_some(self._others, login=False)
        finally:
            self._is_starting_next = False

    def _start_some(self, queue: deque[Served], *, login: bool) -> None:
        while queue and [*self._starting.values()].count(login) < self.settings.starting:
            served = queue.popleft()
            if served.phase is Phase.QUEUED:
                self._starting[served] = login
                self.loop.after(SLOW, partial(self.started, served))
                served.start()

    def _leader_ended(self, number: int) -> None:
        log.info("session %d has ended without a word", number)
        self.close(number)

    def _stop_when_empty(self) -> None:
        if self.stopping is not None and not self.served:
            self.stopping()


def _cannot_restart(connection: Connection) -> None:
    connection.refuse("this ccfsd cannot be restarted")
