"""What a log says, read back and checked.

Knows entries and places; never how steps are written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING
from zlib import crc32

from ccfs.format.ccache import Prefix
from ccfs.journal import entries
from ccfs.journal.log import Place, place
from ccfs.store.errors import DamagedError
from ccfs.store.saved import Saved, SavedCcache, SavedFile

if TYPE_CHECKING:
    from ccfs.journal.entries import Entry
    from ccfs.journal.log import Log

File = tuple[int, bytes]
"""A scratch file: the serial of its ccache (0: of `dir/`), its name."""
Fixed = tuple[bytes, int, int, Prefix | None]
"""What few steps change of a ccache: name, rank, last time as the default, header and principal."""


ENTRY = 60
"""About how many bytes an entry has beside its data."""


@dataclass(slots=True)
class Logged:
    """What the log has of a ccache: where its records are, and `fixed`, where that is known."""

    fixed: Fixed | None = None
    records: dict[int, Place] = field(default_factory=dict)


@dataclass(slots=True)
class _Ccache:
    fields: tuple[float, ...] = ()
    texts: tuple[bytes, ...] = ()
    records: dict[int, tuple[Place, int, bytes]] = field(default_factory=dict)


@dataclass(slots=True)
class Replayed:
    """The collection, and where the log has what of it; how many bytes of the log that is."""

    saved: Saved
    alive: int
    ccaches: dict[int, Logged]
    files: dict[File, Place]


class _Replay:
    """The steps so far."""

    def __init__(self) -> None:
        self.whole: tuple[int, int] | None = None
        self.ccaches: dict[int, _Ccache] = {}
        self.files: dict[File, tuple[Place, int, float]] = {}
        self.dead: list[Place] = []

    def take(self, entry: Entry, at: int) -> int:
        """Take an entry whose data, if it has any, is at `at`; returns where the next one's is."""
        kind, fields, texts = entry
        first, last = int(fields[0]), fields[-1]
        if kind == entries.WHOLE:
            self.whole = first, int(last)
        elif kind == entries.CCACHE:
            ccache = self.ccaches.setdefault(first, _Ccache())
            ccache.fields, ccache.texts = fields[1:], texts
        elif kind == entries.TOUCHED:
            rank, _, default, _ = self.ccaches[first].fields
            self.ccaches[first].fields = (rank, fields[1], default, last)
        elif kind in (entries.DROPPED, entries.EMPTIED):
            ccache = self.ccaches.get(first, _Ccache())
            self.dead += [where for where, _, _ in ccache.records.values()]
            ccache.records = {}
            if kind == entries.DROPPED:
                self.ccaches.pop(first, None)
        elif kind == entries.RECORD:
            _, serial, size, check = map(int, fields)
            self.ccaches[first].records[serial] = (place(at, size), check, texts[0])
            return at + size
        elif kind == entries.REMOVED:
            self.dead.append(self.ccaches[first].records.pop(int(last))[0])
        else:
            return self._file(entry, at)
        return at

    def _file(self, entry: Entry, at: int) -> int:
        key = int(entry.fields[0]), entry.texts[0]
        if key in self.files:
            self.dead.append(self.files.pop(key)[0])
        if entry.kind == entries.UNLINKED:
            return at
        _, mtime, size, check = entry.fields
        self.files[key] = (place(at, int(size)), int(check), mtime)
        return at + int(size)


def replay(log: Log) -> Replayed:
    """Read all frames that count.

    Raises DamagedError; struct.error, KeyError or ValueError where a frame says what none of ours
    says.  What is dead is overwritten, in case a killed process had no time to.
    """
    steps = _Replay()
    for frame in log.frames():
        at = frame.data
        for entry in entries.decode(frame.meta):
            at = steps.take(entry, at)
    if steps.whole is None or not steps.ccaches:
        raise DamagedError("it is damaged")
    log.erase(steps.dead)
    ccaches = [_saved(log, serial, ccache) for serial, ccache in steps.ccaches.items()]
    files = [
        SavedFile(*key, mtime, _read(log, where, check))
        for key, (where, check, mtime) in steps.files.items()
        if key[0] in (0, *steps.ccaches)
    ]
    saved = Saved(*steps.whole, tuple(sorted(ccaches, key=attrgetter("rank"))), tuple(files))
    alive = sum(len(c.data) + ENTRY * len(c.serials) for c in ccaches)
    return Replayed(
        saved,
        alive + sum(len(file.data) for file in files),
        {
            serial: Logged(None, {one: where for one, (where, _, _) in ccache.records.items()})
            for serial, ccache in steps.ccaches.items()
        },
        {key: where for key, (where, _, _) in steps.files.items()},
    )


def _saved(log: Log, serial: int, ccache: _Ccache) -> SavedCcache:
    rank, change_time, default, mtime = ccache.fields
    name, prefix = ccache.texts
    data = bytearray(prefix)
    for where, check, _ in ccache.records.values():
        data += _read(log, where, check)
    names = [text.decode("utf-8", "surrogateescape") for _, _, text in ccache.records.values()]
    times = int(rank), int(change_time), int(default)
    return SavedCcache(serial, name, *times, mtime, data, list(ccache.records), names)


def _read(log: Log, where: Place, check: int) -> bytes:
    data = log.read(where)
    if crc32(data) != check:
        raise DamagedError("it is damaged")
    return data
