# SPDX-License-Identifier: MIT
"""All mounts and sessions of the host, and what connects them.

Knows which mount a session needs, and what the next ccfsd must know; never sockets, nor words.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

import trio

from ccfs.ccfsd import daemon_request, state_file
from ccfs.ccfsd.background import Background
from ccfs.ccfsd.fork_client import ForkClient
from ccfs.ccfsd.mount import ServedMount
from ccfs.ccfsd.quota import Quota
from ccfs.ccfsd.registry import Mount, Owner, Registry, Session
from ccfs.ccfsd.runtime_dir import Runtime
from ccfs.ccfsd.settings import Settings
from ccfs.ccfsd.start_limit import StartLimit
from ccfs.ccfsd.subuids import Users
from ccfs.ccfsd.waiters import NotServedError
from ccfs.control import messages
from ccfs.errors import UserError

log = logging.getLogger(__name__)

DESTROY = 60.0
"""Seconds to destroy the ccache of a session that has ended, by this daemon or the next."""
AHEAD = 1000
"""Sessions that can begin while the state file can't be written."""
PINGS = 20
"""The most pings a second, of all daemons together."""
SOONEST = 2.0
"""The fewest seconds between two pings of a daemon."""
SAVE_AGAIN = 1.0
"""Seconds until the next try to save the registry."""


class UnwritableError(UserError):
    """What the next ccfsd must know can't be saved."""


class KcmClients(Protocol):
    """The connections of KCM clients."""

    async def give_all(self, mount: ServedMount) -> None:
        """Hand the connections of a mount to its next daemon."""

    def drop(self, mount: ServedMount) -> None:
        """Close the connections of a mount."""


class Mounts:
    """The mounts by their names, the sessions by their numbers.

    `served`: all mounts of which anything is left.  `guessed`: mounts that are not in the state
    file, whose `requested` is a guess.  `stopping`: all mounts end, and nothing is begun.
    """

    def __init__(
        self, background: Background, runtime: Runtime, settings: Settings, forks: ForkClient
    ) -> None:
        self.background = background
        self.runtime = runtime
        self.settings = settings
        self.forks = forks
        self.starts = StartLimit(settings.starting, self.is_used)
        self.users = Users()
        self.quota = Quota(settings.limits, self.users)
        self.served: dict[str, ServedMount] = {}
        self.guessed: set[str] = set()
        self.stopping = False
        self.kcm: KcmClients | None = None
        self._registry = Registry()
        self._changed = trio.Event()
        self._saved: Registry | None = None
        self._first_unsaved = 0
        self._save_failure = ""
        self._logins: Counter[str] = Counter()
        self._leaders: dict[int, trio.CancelScope] = {}
        self._graces: dict[str, trio.CancelScope] = {}
        self._destroying: dict[tuple[str, str], trio.CancelScope] = {}
        self._all_removed = trio.Event()

    @property
    def registry(self) -> Registry:
        """What the next ccfsd must know; each change is saved."""
        return self._registry

    @registry.setter
    def registry(self, registry: Registry) -> None:
        self._registry = registry
        self._changed.set()

    def add(self, mount: ServedMount) -> None:
        """Add a mount, and run it."""
        self.served[mount.name] = mount
        self.background.start(mount.run)

    async def ready(self, name: str, owner: Owner, seconds: float) -> ServedMount:
        """Wait until a mount answers, which is made if need be.  Raises NotServedError."""
        if self.stopping:
            raise NotServedError("ccfsd is ending")
        if name not in self.served:
            self.add(ServedMount(self, name, owner))
        mount = self.served[name]
        await mount.ready(seconds)
        return mount

    def admit(self, name: str, owner: Owner) -> str:
        """Note that a user asks for a mount without a session; else return why they get none."""
        mount = self.registry.mounts.get(name)
        if mount is not None and (mount.requested or self.registry.sessions_of(name)):
            return ""
        why = self.quota.start(owner.uid, self.registry, time.monotonic())
        if not why:
            mount = replace(mount or Mount(name, owner), requested=True)
            self.registry = self.registry.with_mount(mount)
        return why

    @contextmanager
    def login(self, name: str) -> Iterator[None]:
        """Note for the time of the `with` that a login waits for a mount."""
        self._logins[name] += 1
        try:
            yield
        finally:
            self._logins[name] -= 1
            if not self._logins[name]:
                del self._logins[name]

    def number(self, *, new: bool) -> int:
        """Return the number of a new session.  `new`: its mount is not in the registry yet.

        Raises UnwritableError where the next ccfsd would not know of the mount, or might give the
        number to another session.
        """
        self.registry, number = self.registry.take_number()
        if (new or number >= self._first_unsaved) and not self.save():
            raise UnwritableError(f"cannot write {self.runtime.state}: {self._save_failure}")
        return number

    def open(self, session: Session, pidfd: int, user: str) -> None:
        """Begin a session, which ends with its leader."""
        mount = self.registry.mounts[session.mount]
        if user and not mount.owner.user:
            mount = replace(mount, owner=replace(mount.owner, user=user))
            self.registry = self.registry.with_mount(mount)
        self.registry = self.registry.with_session(session)
        self.watch_leader(session, pidfd)
        self.destroy_doomed(session.mount)

    def watch_leader(self, session: Session, pidfd: int) -> None:
        """End a session when its leader ends; `pidfd` is closed then."""
        scope = self._leaders[session.number] = trio.CancelScope()
        self.background.start(self._watch_leader, session.number, pidfd, scope)

    async def _watch_leader(self, number: int, pidfd: int, scope: trio.CancelScope) -> None:
        try:
            with scope:
                await trio.lowlevel.wait_readable(pidfd)
        finally:
            os.close(pidfd)
        if not scope.cancelled_caught:
            log.info("session %d has ended with its leader", number)
            self.close(number)

    def close(self, number: int) -> None:
        """End a session, and with the last one its mount."""
        session = self.registry.sessions.get(number)
        if session is None:
            return
        self.registry = self.registry.without_session(number)
        if number in self._leaders:
            self._leaders.pop(number).cancel()
        self._forget_guess(session.mount)
        self.begin_grace(session.mount)
        if not self.end_unused(session.mount) and session.ccache:
            self.registry = self.registry.with_doomed(session.mount, session.ccache)
            self.destroy_doomed(session.mount)

    def end_unused(self, name: str) -> bool:
        """End a mount that nothing needs any more; returns whether that is so.

        One that was asked for without a session stays, whatever sessions come and go: it ends when
        it is idle and has no valid credential.
        """
        served, mount = self.served.get(name), self.registry.mounts.get(name)
        if served is None:
            return True
        if self.is_used(served) or name in self._graces or (mount and mount.requested):
            return False
        if self.lingers(mount):
            return False
        for key in [key for key in self._destroying if key[0] == name]:
            self._destroying.pop(key).cancel()
        served.end()
        return True

    def _forget_guess(self, name: str) -> None:
        """Count a guessed mount as not requested, once its last session has ended."""
        if name in self.guessed and not self.registry.sessions_of(name):
            self.guessed.discard(name)
            mount = replace(self.registry.mounts[name], requested=False)
            self.registry = self.registry.with_mount(mount)

    def begin_grace(self, name: str) -> None:
        """Keep the mount for a while for jobs that outlive the last session (nohup, tmux)."""
        if name in self._graces:
            self._graces.pop(name).cancel()
        if self.settings.grace and "." not in name and not self.stopping:
            scope = self._graces[name] = trio.CancelScope()
            self.background.start(self._end_after_grace, name, scope)

    async def _end_after_grace(self, name: str, scope: trio.CancelScope) -> None:
        with scope:
            await trio.sleep(self.settings.grace)
            self._graces.pop(name, None)
            self.end_unused(name)

    def destroy_doomed(self, name: str) -> None:
        """Have the daemon of a mount destroy the ccaches of sessions that have ended.

        This daemon or the one that replaces it; what can't be destroyed now is at the next session.
        """
        mount = self.registry.mounts[name]
        for ccache in mount.doomed:
            if (name, ccache) not in self._destroying:
                scope = self._destroying[name, ccache] = trio.CancelScope()
                self.background.start(self._destroy, mount, ccache, scope)

    async def _destroy(self, mount: Mount, ccache: str, scope: trio.CancelScope) -> None:
        try:
            with scope:
                served = await self.ready(mount.name, mount.owner, DESTROY)
                await served.ask(messages.encode("destroy", ccache=ccache), DESTROY)
                self.registry = self.registry.without_doomed(mount.name, ccache)
        except (NotServedError, *daemon_request.FAILURES) as error:
            log.warning("cannot destroy %s of %s: %s", ccache, mount.name, error)
        finally:
            if self._destroying.get((mount.name, ccache)) is scope:
                del self._destroying[mount.name, ccache]

    def lingers(self, mount: Mount | None) -> bool:
        """Return whether the mount's user lingers (loginctl(1)): it outlives their sessions."""
        user = mount.owner.user if mount and "." not in mount.name else ""
        if not user or "/" in user or user in (".", ".."):
            return False
        return os.path.lexists(f"{self.settings.linger}/{user}")

    async def stop(self) -> None:
        """End all mounts; returns when nothing of them is left."""
        self.stopping = True
        for scope in self._graces.values():
            scope.cancel()
        self._graces.clear()
        for number in [*self.registry.sessions]:
            self.close(number)
        for served in [*self.served.values()]:
            served.refuse("ccfsd is ending")
            served.end()
        if self.served:
            await self._all_removed.wait()

    def save(self) -> bool:
        """Have the registry in the state file; returns whether it is there."""
        if self.registry is self._saved:
            return True
        before, self._save_failure = self._save_failure, ""
        try:
            first_unsaved = self.registry.next_number + AHEAD
            state_file.write(self.runtime.state, replace(self.registry, next_number=first_unsaved))
        except OSError as error:
            self._save_failure = (error.strerror or str(error)).lower()
            if self._save_failure != before:  # it is tried again and again
                log.error("cannot write %s: %s", self.runtime.state, self._save_failure)
            return False
        self._saved, self._first_unsaved = self.registry, first_unsaved
        return True

    async def save_before_reply(self) -> None:
        """Save what has changed, with what other coroutines change in this moment."""
        if self.registry is not self._saved:
            await trio.lowlevel.checkpoint()
            self.save()

    async def keep_saved(self) -> None:
        """Save each change of the registry, also one that no client waits for."""
        while True:
            await self._changed.wait()
            if self.save():
                self._changed = trio.Event()
            else:
                await trio.sleep(SAVE_AGAIN)

    # What a mount needs (mount.Host).

    @property
    def ping_period(self) -> float:
        """Seconds between two pings of a daemon: at most PINGS a second for all of them."""
        return min(self.settings.period, max(SOONEST, len(self.served) / PINGS))

    def is_used(self, served: ServedMount) -> bool:
        """True if a session has the mount, or a login waits for it."""
        return bool(self._logins[served.name] or self.registry.sessions_of(served.name))

    def check(self, served: ServedMount) -> None:
        """End a mount whose user lingered, and doesn't any more."""
        if served.name in self.registry.mounts and not served.is_waited_for and not self.stopping:
            self.end_unused(served.name)

    def daemon_changed(self, served: ServedMount) -> None:
        """Note the daemon of a mount in the registry."""
        before = self.registry.mounts.get(served.name) or Mount(served.name, served.owner)
        mount = replace(before, daemon=served.process, device=served.device)
        self.registry = self.registry.with_mount(mount)

    def taken_over(self, served: ServedMount) -> None:
        """Hand the KCM clients of a dead daemon to the one that has taken over."""
        if self.kcm is not None:
            self.background.start(self.kcm.give_all, served)

    def connection_lost(self, served: ServedMount) -> None:
        """End the connections of KCM clients of a dead daemon that gets no successor."""
        if self.kcm is not None:
            self.kcm.drop(served)

    def removed(self, served: ServedMount) -> None:
        """Forget a mount of which nothing is left."""
        del self.served[served.name]
        self.registry = self.registry.without_mount(served.name)
        if not self.served:
            self._all_removed.set()
