"""What one peer sees of the store: ccaches under KCM's names.

Knows the store and who asks; never opcodes, nor the bytes of messages and records.
"""

from collections.abc import Callable
from typing import Protocol

from ccfs.kcm import uuids
from ccfs.kcm.codes import EndError
from ccfs.kcm.names import Names
from ccfs.store import Client, Stamp, Store
from ccfs.store.ccache import Ccache
from ccfs.store.errors import NotFoundError
from ccfs.store.image import Image


class Host(Protocol):
    """Whose store it is, and who has to hear of changes: one user's file system.

    `asking`: who asks for the present step.  `requests`: how many there were, by kind.
    """

    store: Store
    asking: Client
    requests: dict[str, int]

    def clock(self) -> float:
        """Seconds since the epoch."""

    def stamp(self, uid: int, pid: int) -> Stamp:
        """When and by whom a step is made that a process asks for."""

    def settle(self, *, note: Callable[[int, int], None] | None = None) -> None:
        """Keep what the last steps have changed, then tell who has to know.

        `note` is told the mark of a step before it is made.  Raises where it can't be kept: its
        client may not hear that it is done.
        """

    def has_made(self, name: int, step: int) -> bool:
        """Whether a step was made, by its mark."""

    def refuse(self, error: Exception) -> None:
        """Have it in the log where a limit has stopped a step."""


class View:
    """The ccaches of `owner`, for the process `pid` that asks with the rights of `uid`."""

    __slots__ = ("_host", "_peer", "_who", "names", "store")

    def __init__(self, host: Host, owner: int, uid: int, pid: int) -> None:
        self._host = host
        self._peer = (uid, pid)
        self._who: Client | None = None
        self.store = host.store
        self.names = Names(owner)

    def stamp(self) -> Stamp:
        """The present time, and who asks: looked up once, at the first change."""
        if self._who is None:
            self._who = self._host.stamp(*self._peer).client
        self._host.asking = self._who
        return Stamp(self._host.clock(), self._who)

    def own_name(self, name: bytes) -> bytes:
        """The ccache's own name for what KCM calls `name`.  Raises BadNameError."""
        found = self.names.ccache(name)
        return self.store.collection.default.name if found is None else found

    def image(self, name: bytes) -> Image:
        """The content of the ccache of a KCM name.  Raises NotFoundError, BadNameError."""
        image = self.ccache(name).image
        assert image is not None
        return image

    def ccache(self, name: bytes) -> Ccache:
        """The initialised ccache of a KCM name.  Raises NotFoundError, BadNameError."""
        found = self.store.collection.find(self.own_name(name))
        if found is None or not found.initialised:
            raise NotFoundError("no such ccache")
        return found

    def by_uuid(self, uuid: bytes) -> Ccache:
        """The initialised ccache of a UUID.  Raises EndError."""
        found = self.store.collection.by_serial(uuids.serial(uuid))
        if found is None or not found.initialised:
            raise EndError("a ccache that is gone")
        return found
