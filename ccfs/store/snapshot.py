"""What a journal keeps of a store across a restart: values only."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import NamedTuple


class SavedRecord(NamedTuple):
    """One record of a ccache: its serial number, its name, how many bytes it has.

    Serial number 0: one that is marked as removed.
    """

    serial: int
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class SavedCcache:
    """One ccache.

    `number`: that of its current generation, 0 where there is no file `ccache`, -1 for any new one;
    `data`: header, principal and records, empty where they are not complete; `data_mtime`: when
    they changed, None: as `mtime`.  `older`: numbers that it had before, each with its lineage.
    The other fields are those of `Ccache`.
    """

    serial: int
    name: bytes
    rank: int
    change_time: int
    last_default_time: int
    mtime: float
    data: bytearray
    records: Sequence[SavedRecord]
    number: int = -1
    data_mtime: float | None = None
    lineage: int = 0
    nominal: bool = False
    older: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True, slots=True)
class SavedFile:
    """A scratch file, or one that no name leads to any more and somebody has open.

    `place`: the serial of a ccache, 0 for `dir/`, LEFT for nowhere: the name says then what ccache
    it was of (`left_name`); `number`: that of its generation, -1 for any
    new one; `kept`: whether it stays however long it is not used.
    """

    place: int
    name: bytes
    mtime: float
    data: bytes
    number: int = -1
    kept: bool = True


LEFT = -1
"""The place of a file that no name leads to."""
_LEFT = Struct(">qq")


def left_name(ccache: int, lineage: int) -> bytes:
    """What stands for the name of one: the serial of its ccache (0: of none) and its lineage."""
    return _LEFT.pack(ccache, lineage)


def of_left(name: bytes) -> tuple[int, int]:
    """What `left_name` was given."""
    ccache, lineage = _LEFT.unpack(name)
    return ccache, lineage


class SavedLink(NamedTuple):
    """A scratch link; the fields are those of `Link`."""

    name: bytes
    number: int
    target: bytes
    made: float


class SavedEvents(NamedTuple):
    """The log of changes: the lines that are kept, the first of which begins at `start`.

    `sequence`: the number of the last event; `editions`: number, base and header of each.
    """

    lines: bytes
    start: int
    sequence: int
    dropped: int
    mtime: float
    editions: tuple[tuple[int, int, bytes], ...]


class SavedWhole(NamedTuple):
    """What there is once: times, counters, and whether a client has chosen the default.

    `start_time`: when the store was made first, 0.0 for now; `announced`: until when the ends of
    credentials were announced (both in seconds since the epoch).
    """

    change_time: int
    last: int
    start_time: float = 0.0
    mtime: float = 0.0
    unique: int = 0
    chosen: bool | None = None
    announced: float = 0.0


@dataclass(frozen=True, slots=True)
class Saved:
    """A whole store, the default ccache first.

    `tails`: what open files have left incomplete, by their idents: the ccache's serial, the bytes.
    """

    whole: SavedWhole
    ccaches: tuple[SavedCcache, ...]
    files: tuple[SavedFile, ...] = ()
    links: tuple[SavedLink, ...] = ()
    tails: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    notes: dict[bytes, bytes] = field(default_factory=dict)
    events: SavedEvents | None = None
