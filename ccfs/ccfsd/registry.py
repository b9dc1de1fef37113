"""What ccfsd has to remember: who has which mount, and which sessions keep it.

Values and steps between them, nothing else: no process, no socket, no clock, no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ccfs.linux.processes import Process


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose mount it is.  `user`: the login name, where somebody said it; "" where not."""

    uid: int
    gid: int
    user: str = ""


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount.

    `name`: the uid, or UID.SESSION for a session's own.  `daemon`: who serves it, None for nobody.
    `device`: its device number as mountinfo has it.  `asked`: somebody wants it who has no session.
    `doomed`: ccaches of sessions that have ended, until the daemon has destroyed them.
    """

    name: str
    owner: Owner
    daemon: Process | None = None
    device: str = ""
    asked: bool = False
    doomed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Session:
    """One login.  `leader`: its end is the session's; `ccache`: one of its own, "" for none."""

    number: int
    mount: str
    leader: Process
    ccache: str = ""
    service: str = ""


@dataclass(frozen=True, slots=True)
class Registry:
    """All of it.  `following`: the number of the next session; none is ever used again."""

    following: int = 1
    mounts: Mapping[str, Mount] = field(default_factory=dict)
    sessions: Mapping[int, Session] = field(default_factory=dict)

    def numbered(self) -> tuple[Registry, int]:
        """Take a number for a session."""
        return replace(self, following=self.following + 1), self.following

    def opened(self, session: Session) -> Registry:
        """A session begins; it has its number already."""
        return replace(self, sessions={**self.sessions, session.number: session})

    def closed(self, number: int) -> Registry:
        """A session ends; twice is once."""
        left = {n: s for n, s in self.sessions.items() if n != number}
        return replace(self, sessions=left)

    def has(self, mount: Mount) -> Registry:
        """A mount is, or is now, like this."""
        return replace(self, mounts={**self.mounts, mount.name: mount})

    def doomed(self, name: str, ccache: str) -> Registry:
        """A ccache has no session any more."""
        mount = self.mounts[name]
        return self.has(replace(mount, doomed=(*mount.doomed, ccache)))

    def destroyed(self, name: str, ccache: str) -> Registry:
        """A ccache is no more; nor may its mount be."""
        mount = self.mounts.get(name)
        if mount is None:
            return self
        return self.has(replace(mount, doomed=tuple(c for c in mount.doomed if c != ccache)))

    def lost(self, name: str) -> Registry:
        """A mount is no more."""
        return replace(self, mounts={n: m for n, m in self.mounts.items() if n != name})

    def sessions_of(self, name: str) -> list[Session]:
        """The sessions that keep a mount."""
        return [session for session in self.sessions.values() if session.mount == name]
