# SPDX-License-Identifier: MIT
"""Record what each step changes: effects, change times, events.

Knows ccaches; calls nothing of the layers above.  After a step the layer above
takes the effects and passes them to the journal, the kernel and waiting clients.
"""

import math

from ccfs.store.ccache import Ccache
from ccfs.store.effects import Effects
from ccfs.store.event_log import EventLog
from ccfs.store.ids import Ids
from ccfs.store.values import EventKind, Limits, Stamp, Stored

REFUSAL_INTERVAL = 1.0
"""Seconds between two events that say that a limit was reached."""
NONE = "-"
"""Stands in an event for a ccache or a credential where there is none."""


class Changes:
    """The effects since they were last taken, the event log, and the notes of the layer above.

    `change_time`: when a ccache last changed, in whole seconds since the epoch; never the same
    twice.  `notes`: values that the layer above has set, which the journal keeps.
    """

    def __init__(self, limits: Limits, ids: Ids, now: float) -> None:
        self.change_time = int(now)
        self.effects = Effects()
        self.events = EventLog(limits.events, ids.new)
        self.notes: dict[bytes, bytes] = {}
        self._refused = -math.inf

    def take(self) -> Effects | None:
        """Return the effects since the last call; None for none."""
        if not self.effects:
            return None
        effects, self.effects = self.effects, Effects()
        return effects

    def changed(self, at: Stamp, kind: EventKind, ccache: Ccache, credential: str = NONE) -> None:
        """Note one change of a ccache: an event, and a new change time."""
        ccache.advance_change_time(at.now)
        self.change_time = max(int(at.now), self.change_time + 1, ccache.change_time)
        self.log(at, kind, ccache.name, credential)
        self.effects.changed.add(ccache.serial)

    def log(self, at: Stamp, kind: EventKind, ccache: bytes, credential: str = NONE) -> None:
        """Add an event that changes no ccache.  `ccache`: its raw name."""
        self.events.append(at, kind, ccache, credential)
        self.effects.logged = True

    def log_refusal(self, at: Stamp, reason: str) -> None:
        """Add an event that a limit was reached.

        At most one a second: a client that tries again and again must not push out all others.
        """
        if 0 <= at.now - self._refused < REFUSAL_INTERVAL:
            return
        self._refused = at.now
        self.log(at, EventKind.REFUSED, NONE.encode("ascii"), reason)

    def removed(self, at: Stamp, ccache: Ccache, removed: tuple[Stored, ...]) -> None:
        """Note removed records, with an event each."""
        for stored in removed:
            self.changed(at, EventKind.REMOVED, ccache, stored.name)
        self.removed_with_content(ccache, removed)

    def removed_with_content(self, ccache: Ccache, removed: tuple[Stored, ...]) -> None:
        """Note records that went with all of the content, for which there is one event."""
        if removed:
            serials = self.effects.removed_records.setdefault(ccache.serial, [])
            serials.extend(stored.serial for stored in removed)

    def scratch_file(self, number: int, unchanged: int) -> None:
        """Note that a scratch file changed, but for `unchanged` bytes at its beginning."""
        files = self.effects.scratch_files
        files[number] = min(files.get(number, unchanged), unchanged)

    def set_note(self, key: bytes, value: bytes) -> None:
        """Set a note in place of an earlier one of its key; b"" removes that.

        The value may be secret: the journal overwrites it once it is replaced or removed.
        """
        if self.notes.get(key, b"") == value:
            return
        if value:
            self.notes[key] = value
        else:
            del self.notes[key]
        self.effects.notes[key] = value
