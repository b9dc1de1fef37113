# SPDX-License-Identifier: MIT
"""Fixed names that a client has removed.

`rm -r` of a ccache must succeed, but its fixed names (`principal`, `credentials`...) can't be
removed.  So an unlink is accepted and the name is hidden for HIDDEN_SECONDS: long enough for `tar
x`, `install` and `mv` to create it again, which opens the file that is there.

Knows directories, names and times; never what a name stands for.
"""

from struct import Struct

from ccfs.ops.inodes import Ref, Slot
from ccfs.service.notes import Notes

_KEY = b"removed"
_HEAD = Struct(">QBdH")
HIDDEN_SECONDS = 2.0
"""For how long a removed name is hidden, unless its directory is listed before."""


class RemovedNames:
    """The removed names, and until when they are hidden.  A note keeps them over a take-over."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._until: dict[tuple[Ref, bytes], float] = {}
        data, at = notes.get(_KEY), 0
        while at < len(data):
            serial, slot, until, size = _HEAD.unpack_from(data, at)
            at += _HEAD.size + size
            self._until[Ref(serial, Slot(slot)), data[at - size : at]] = until

    def add(self, parent: Ref, name: bytes, now: float) -> None:
        """Hide a name that a client removes."""
        self._until = {key: until for key, until in self._until.items() if until > now}
        self._until[parent, name] = now + HIDDEN_SECONDS
        items = self._until.items()
        records = [_HEAD.pack(*ref, until, len(n)) + n for (ref, n), until in items]
        self._notes.save(_KEY, b"".join(records))

    def has(self, parent: Ref, name: bytes, now: float) -> bool:
        """Whether a name is hidden."""
        return bool(self._until) and self._until.get((parent, name), 0.0) > now

    def restore(self, parent: Ref, name: bytes, now: float) -> bool:
        """Show a name that a client creates; returns whether it was hidden."""
        return bool(self._until) and self._until.pop((parent, name), 0.0) > now

    def restore_all(self, parent: Ref) -> None:
        """Show all names of a directory that a client lists."""
        if self._until:
            self._until = {key: until for key, until in self._until.items() if key[0] != parent}
