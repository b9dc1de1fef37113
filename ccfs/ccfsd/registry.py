# SPDX-License-Identifier: MIT
"""What ccfsd must know of mounts and sessions, also after a restart.

Knows values, and steps from one to the next; never a process, a socket, a clock or a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ccfs.linux.processes import Process


@dataclass(frozen=True, slots=True)
class Owner:
    """The user that a mount belongs to.  `user`: the login name, "" where no login has named it."""

    uid: int
    gid: int
    user: str = ""


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount.

    `name`: the uid, or UID.SESSION for a session's own.  `daemon`: the process that serves it, None
    for none.  `device`: the device number as mountinfo has it.  `requested`: a client without a
    session has asked for it.  `doomed`: ccaches of sessions that have ended, until the daemon has
    destroyed them.
    """

    name: str
    owner: Owner
    daemon: Process | None = None
    device: str = ""
    requested: bool = False
    doomed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Session:
    """One login.  `leader`: the session ends with it.  `ccache`: the session's own, "" for none."""

    number: int
    mount: str
    leader: Process
    ccache: str = ""
    service: str = ""


@dataclass(frozen=True, slots=True)
class Registry:
    """All mounts and sessions.  `next_number`: of the next session; no number is used twice."""

    next_number: int = 1
    mounts: Mapping[str, Mount] = field(default_factory=dict)
    sessions: Mapping[int, Session] = field(default_factory=dict)

    def take_number(self) -> tuple[Registry, int]:
        """Return a registry with another next number, and the number of a session."""
        return replace(self, next_number=self.next_number + 1), self.next_number

    def with_session(self, session: Session) -> Registry:
        """Add a session."""
        return replace(self, sessions={**self.sessions, session.number: session})

    def without_session(self, number: int) -> Registry:
        """Remove a session, if it is there."""
        left = {n: s for n, s in self.sessions.items() if n != number}
        return replace(self, sessions=left)

    def with_mount(self, mount: Mount) -> Registry:
        """Add a mount, or replace that of the same name."""
        return replace(self, mounts={**self.mounts, mount.name: mount})

    def with_doomed(self, name: str, ccache: str) -> Registry:
        """Note that a ccache of a mount is to be destroyed: its session has ended."""
        mount = self.mounts[name]
        return self.with_mount(replace(mount, doomed=(*mount.doomed, ccache)))

    def without_doomed(self, name: str, ccache: str) -> Registry:
        """Note that a ccache is destroyed; its mount may be removed already."""
        mount = self.mounts.get(name)
        if mount is None:
            return self
        return self.with_mount(replace(mount, doomed=tuple(c for c in mount.doomed if c != ccache)))

    def without_mount(self, name: str) -> Registry:
        """Remove a mount."""
        return replace(self, mounts={n: m for n, m in self.mounts.items() if n != name})

    def sessions_of(self, name: str) -> list[Session]:
        """Return the sessions of a mount."""
        return [session for session in self.sessions.values() if session.mount == name]
