# SPDX-License-Identifier: MIT
"""The store's values: frozen; knows nothing else of the store."""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

MIB = 1024 * 1024
NAME_MAX = 255
DEFAULT_NAME = b"tkt"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a mount may hold.  Sizes in bytes of the FILE format, scratch files included.

    `credentials`: records in all ccaches, with configuration entries and placeholders of removed
    records.  `events`: how many lines the event log has; `handles`: how many files and directories
    may be open at a time.
    """

    ccaches: int = 1024
    ccache_bytes: int = 8 * MIB
    total_bytes: int = 64 * MIB
    credentials: int = 100_000
    events: int = 10_000
    handles: int = 32_768


class Client(NamedTuple):
    """The process that asked for a step, as the kernel names it.  `pid` 0: the daemon itself."""

    uid: int
    pid: int
    command: str


class Stamp(NamedTuple):
    """The time of a step, in seconds since the epoch, and the client that asked for it."""

    now: float
    client: Client


class EventKind(Enum):
    """The kind of an event; the values are those in the file `events`."""

    CREATED = "created"
    DESTROYED = "destroyed"
    INITIALISED = "initialised"
    UNINITIALISED = "uninitialised"
    REPLACED = "replaced"
    MOVED = "moved"
    RENAMED = "renamed"
    DEFAULT = "default"
    PRINCIPAL = "principal"
    OFFSET = "kdc-offset"
    STORED = "stored"
    REMOVED = "removed"
    DROPPED = "dropped"
    KEPT = "kept"
    REFUSED = "refused"
    EXPIRING = "expiring"
    EXPIRED = "expired"


class Stored(NamedTuple):
    """The identity of one stored credential or configuration entry; never its secrets.

    `serial` is never reused; `name`: its file name, fixed when it was stored; `endtime`: seconds
    since the epoch, 0 for none.
    """

    serial: int
    name: str
    config: bool
    tgt: bool
    endtime: int

    @property
    def ident(self) -> str:
        """The identifier that users see."""
        return ident(self.serial)


def ident(serial: int) -> str:
    """The text form of a serial number, as in `info`, `by-id/` and `~ID`."""
    return format(serial, "x")
