"""What all steps share: serial numbers, the log, the limits, and what a step has made stale.

After a step the layer above takes the effects and tells whoever has to know; the store calls
nobody.
"""

import math

from ccfs.store.ccache import Ccache, Register
from ccfs.store.effects import Effects
from ccfs.store.errors import CcacheLimitError, TotalLimitError
from ccfs.store.event_log import EventLog
from ccfs.store.generation import Generation
from ccfs.store.values import Client, EventKind, Limits, Stamp, Stored

REFUSALS = 1.0
"""Seconds between two events that say that a limit was reached."""
NO_CCACHE = b"-"


class Ledger:
    """The store's one counter of everything.

    `notes`: what the layer above has noted down to have it after a restart.

    Serial numbers begin with the start time in milliseconds, so that they are not met again after
    a restart either.
    """

    def __init__(self, limits: Limits, now: float) -> None:
        self.limits = limits
        self.used = 0
        self.change_time = int(now)
        self.effects = Effects()
        self.register = Register(int(now * 1000), limits.credentials)
        self.events = EventLog(limits.events, self.number)
        self.notes: dict[bytes, bytes] = {}
        self._refused = -math.inf

    def number(self) -> int:
        """A serial number that was never given before."""
        return self.register.number()

    def take_effects(self) -> Effects | None:
        """What has changed since the last call; None for nothing."""
        if not self.effects:
            return None
        taken, self.effects = self.effects, Effects()
        self.register.prune()
        return taken

    def note_down(self, key: bytes, value: bytes) -> None:
        """Keep a value of the layer above across a restart, in place of an earlier one of its key.

        b"" removes it.  The value may be secret: it is overwritten in the journal once it is gone.
        """
        if self.notes.get(key, b"") == value:
            return
        if value:
            self.notes[key] = value
        else:
            del self.notes[key]
        self.effects.notes[key] = value

    def scratch_changed(self, number: int, kept: int) -> None:
        """A scratch file is not what it was, but for `kept` bytes at its beginning."""
        files = self.effects.scratch_files
        files[number] = min(files.get(number, kept), kept)

    def from_behind(self) -> None:
        """No operation on a file has shown what the last steps have changed."""
        self.effects.changed_outside_fuse |= self.effects.changed

    def record(self, at: Stamp, what: EventKind, ccache: Ccache, credential: str = "-") -> None:
        """One change of a ccache: its line in the log, its new change time."""
        ccache.bump(at.now)
        self.change_time = max(int(at.now), self.change_time + 1, ccache.change_time)
        self.note(at, what, ccache, credential)
        self.effects.changed.add(ccache.serial)

    def note(self, at: Stamp, what: EventKind, ccache: Ccache, credential: str = "-") -> None:
        """A line in the log for what is no change of a ccache."""
        self.events.append(at, what, ccache.name, credential)
        self.effects.logged = True

    def refuse(self, at: Stamp, why: str) -> None:
        """Log that a limit was reached; at most once a second, so that history stays."""
        if 0 <= at.now - self._refused < REFUSALS:
            return
        self._refused = at.now
        self.events.append(at, EventKind.REFUSED, NO_CCACHE, why)
        self.effects.logged = True

    def announce(self, now: float, who: Client) -> None:
        """Log the credentials whose end is near or has come."""
        due = dict(self.register.due(now))
        if not due:
            return
        self.register.announced = now
        found = {
            stored.serial: (ccache, stored)
            for ccache in self.register.ccaches.values()
            for stored in ccache.credentials.values()
            if stored.serial in due
        }
        for serial in filter(found.__contains__, due):
            ccache, stored = found[serial]
            what = EventKind.EXPIRED if due[serial] else EventKind.EXPIRING
            self.note(Stamp(now, who), what, ccache, stored.name)
            self.effects.changed_outside_fuse.add(ccache.serial)

    def lost(self, at: Stamp, ccache: Ccache, gone: tuple[Stored, ...]) -> None:
        """Records that are gone."""
        for stored in gone:
            self.record(at, EventKind.REMOVED, ccache, stored.name)
        self.forgotten(ccache, gone)

    def forgotten(self, ccache: Ccache, gone: tuple[Stored, ...]) -> None:
        """Records that are gone with all the content, which is logged as one change."""
        if gone:
            self.effects.removed_records.setdefault(ccache.serial, []).extend(
                s.serial for s in gone
            )

    def recount(self, generation: Generation) -> None:
        """Take the size of a generation and its number of records into account."""
        size, records = len(generation.data), generation.records
        self.used += size - generation.counted
        self.register.records += records - generation.counted_records
        generation.counted, generation.counted_records = size, records

    def room(self, size: int, more: int, records: int = 0) -> None:
        """Refuse `more` bytes for something of `size` bytes, or more `records`, by the limits."""
        self.register.room(records)
        if more > 0 and size + more > self.limits.ccache_bytes:
            raise CcacheLimitError(f"over {self.limits.ccache_bytes} bytes in one ccache")
        if more > 0 and self.used + more > self.limits.total_bytes:
            raise TotalLimitError(f"over {self.limits.total_bytes} bytes in all")
