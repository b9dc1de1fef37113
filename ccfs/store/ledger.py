"""What all steps share: serial numbers, the log, the limits, and what a step has made stale.

After a step the layer above takes the effects and tells whoever has to know; the store calls
nobody.
"""

import math
from dataclasses import dataclass, field

from ccfs.store.ccache import Ccache, Register
from ccfs.store.errors import CcacheLimitError, TotalLimitError
from ccfs.store.events import EventLog
from ccfs.store.generation import Generation
from ccfs.store.reply_cache import ReplyCache
from ccfs.store.values import Limits, Stamp, Stored, What, Who

REFUSALS = 1.0
"""Seconds between two events that say that a limit was reached."""
NO_CCACHE = b"-"

LISTED = -1
"""Stands for `dir/` where serials of directories are named; 0 is `dir/` and `caches/`."""


@dataclass(slots=True)
class Effects:
    """What steps have changed since the last look.

    `superseded`: numbers of generations that are no longer current; `records`: serials of
    credentials that are gone, by that of the ccache that had them; `ccaches`: serials of
    directories that are gone; `listings`: serials of directories whose entries changed (0: the
    collection's); `changed`: serials of ccaches that changed; `added`: records that came at the end
    of a ccache, by its serial, removed ones as their bytes; `buried`: the bytes in the places of
    records that are gone, by ccache and serial; `compacted`: serials of ccaches whose removed
    records were left out before that; `rewritten`: serials of ccaches whose records changed in
    another way; `touched`: serials of ccaches whose number, times or incomplete tail changed;
    `behind`: serials of ccaches with news that no operation on their file has shown; `files`:
    numbers of scratch files that changed, and how many bytes at their beginning did not; `links`:
    names of scratch links that came or went; `notes`: what the layer above wants back after a
    restart, b"" for what it does not want any more; `logged`: whether the log grew.
    """

    superseded: list[int] = field(default_factory=list)
    records: dict[int, list[int]] = field(default_factory=dict)
    ccaches: list[int] = field(default_factory=list)
    listings: set[int] = field(default_factory=set)
    changed: set[int] = field(default_factory=set)
    added: dict[int, list[Stored | bytes]] = field(default_factory=dict)
    buried: dict[int, dict[int, bytes]] = field(default_factory=dict)
    compacted: set[int] = field(default_factory=set)
    touched: set[int] = field(default_factory=set)
    rewritten: set[int] = field(default_factory=set)
    behind: set[int] = field(default_factory=set)
    files: dict[int, int] = field(default_factory=dict)
    links: set[bytes] = field(default_factory=set)
    notes: dict[bytes, bytes] = field(default_factory=dict)
    logged: bool = False

    def __bool__(self) -> bool:
        return bool(self.lasting or self.listings or self.superseded or self.behind)

    @property
    def gone(self) -> list[int]:
        """The serials of all credentials that are gone."""
        return [serial for serials in self.records.values() for serial in serials]

    @property
    def lasting(self) -> bool:
        """Whether there is anything that should survive a restart."""
        return bool(
            self.logged
            or self.changed
            or self.touched
            or self.records
            or self.ccaches
            or self.added
            or self.rewritten
            or self.compacted
            or self.files
            or self.links
            or self.notes
        )


class Ledger:
    """The store's one counter of everything.

    `memo`: what the layer above has made of the content, as long as no step has had an effect.
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
        self.memo = ReplyCache()
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
        self.memo.clear()
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
        files = self.effects.files
        files[number] = min(files.get(number, kept), kept)

    def from_behind(self) -> None:
        """No operation on a file has shown what the last steps have changed."""
        self.effects.behind |= self.effects.changed

    def record(self, at: Stamp, what: What, ccache: Ccache, credential: str = "-") -> None:
        """One change of a ccache: its line in the log, its new change time."""
        ccache.bump(at.now)
        self.change_time = max(int(at.now), self.change_time + 1, ccache.change_time)
        self.note(at, what, ccache, credential)
        self.effects.changed.add(ccache.serial)

    def note(self, at: Stamp, what: What, ccache: Ccache, credential: str = "-") -> None:
        """A line in the log for what is no change of a ccache."""
        self.events.append(at, what, ccache.name, credential)
        self.effects.logged = True

    def refuse(self, at: Stamp, why: str) -> None:
        """Log that a limit was reached; at most once a second, so that history stays."""
        if 0 <= at.now - self._refused < REFUSALS:
            return
        self._refused = at.now
        self.events.append(at, What.REFUSED, NO_CCACHE, why)
        self.effects.logged = True

    def announce(self, now: float, who: Who) -> None:
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
            what = What.EXPIRED if due[serial] else What.EXPIRING
            self.note(Stamp(now, who), what, ccache, stored.name)
            self.effects.behind.add(ccache.serial)

    def lost(self, at: Stamp, ccache: Ccache, gone: tuple[Stored, ...]) -> None:
        """Records that are gone."""
        for stored in gone:
            self.record(at, What.REMOVED, ccache, stored.name)
        self.forgotten(ccache, gone)

    def forgotten(self, ccache: Ccache, gone: tuple[Stored, ...]) -> None:
        """Records that are gone with all the content, which is logged as one change."""
        if gone:
            self.effects.records.setdefault(ccache.serial, []).extend(s.serial for s in gone)

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
