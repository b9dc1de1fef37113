"""Names of the table that a client has removed.

`rm -r` of a ccache must get through, and what it removes is part of the mount and stays.  So a
removal is accepted, and the name is gone for a moment: long enough for a client to make it anew,
as `tar x`, `install` and `mv` do, which opens what is there.

Knows directories, names and times; never what a name stands for.
"""

from collections.abc import Mapping
from struct import Struct

from ccfs.ops.handles import Note
from ccfs.ops.inodes import Ref, Slot

_KEY = b"removed"
_ONE = Struct(">QBdH")
LASTS = 2.0
"""Seconds for which a removed name is gone, unless its directory is listed before."""


class RemovedNames:
    """The removed names, and when they come back.

    `notes`: what an earlier daemon has noted down; `note`: notes it for the next.
    """

    def __init__(self, note: Note, notes: Mapping[bytes, bytes]) -> None:
        self._note = note
        self._until: dict[tuple[Ref, bytes], float] = {}
        noted, at = notes.get(_KEY, b""), 0
        while at < len(noted):
            serial, slot, until, size = _ONE.unpack_from(noted, at)
            at += _ONE.size + size
            self._until[Ref(serial, Slot(slot)), noted[at - size : at]] = until

    def add(self, parent: Ref, name: bytes, now: float) -> None:
        """A client has removed a name."""
        self._until = {key: until for key, until in self._until.items() if until > now}
        self._until[parent, name] = now + LASTS
        names = self._until.items()
        self._note(_KEY, b"".join(_ONE.pack(*ref, until, len(n)) + n for (ref, n), until in names))

    def has(self, parent: Ref, name: bytes, now: float) -> bool:
        """Whether a name is gone."""
        return bool(self._until) and self._until.get((parent, name), 0.0) > now

    def take_back(self, parent: Ref, name: bytes, now: float) -> bool:
        """A client makes a name; whether it had been removed."""
        return bool(self._until) and self._until.pop((parent, name), 0.0) > now

    def show(self, parent: Ref) -> None:
        """A client lists a directory: all that is there is there."""
        if self._until:
            self._until = {key: until for key, until in self._until.items() if key[0] != parent}
