# SPDX-License-Identifier: MIT
"""A store as values, as a journal reads it back."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class SavedRecord(NamedTuple):
    """One record of a ccache: serial number (None: a placeholder), file name, size in bytes."""

    serial: int | None
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class SavedCcache:
    """One ccache; fields without a description are those of `Ccache`.

    `data`: header, principal and records; empty where they are not complete.  `has_file`: whether
    there is a file `ccache`; `number`: the number of its generation, None for a new one.
    `data_mtime`: when the content changed, None: at `mtime`.  `older`: superseded numbers and the
    lineage of each; None: of another version of the format than `data`.
    """

    serial: int
    name: bytes
    rank: int
    change_time: int
    last_default_time: int
    mtime: float
    data: bytearray
    records: Sequence[SavedRecord]
    has_file: bool
    number: int | None = None
    data_mtime: float | None = None
    lineage: int = 0
    reserved: bool = False
    older: Sequence[tuple[int, int | None]] = ()


@dataclass(frozen=True, slots=True)
class SavedFile:
    """A scratch file.

    `directory`: the serial number of a ccache, None for `dir/`.  `number`: that of its generation,
    None for a new one.  `expires`: whether it is dropped when it isn't used.
    """

    directory: int | None
    name: bytes
    mtime: float
    data: bytes
    number: int | None = None
    expires: bool = False


class SavedOrphan(NamedTuple):
    """A file that was open and that no name led to.

    `owner`: the serial number of the ccache whose content it was, None for a scratch file;
    `lineage`: that ccache's lineage then.
    """

    number: int
    data: bytes
    owner: int | None
    lineage: int


class SavedLink(NamedTuple):
    """A scratch link; the fields are those of `Link`."""

    name: bytes
    number: int
    target: bytes
    made: float


class SavedEvents(NamedTuple):
    """The event log: its newest lines, the first of which begins at position `start`.

    `sequence`: the number of the last event; `editions`: number, base and header of each.
    """

    lines: bytes
    start: int
    sequence: int
    dropped: int
    mtime: float
    editions: tuple[tuple[int, int, bytes], ...]


class SavedWhole(NamedTuple):
    """What there is once in a store.

    `last`: the highest serial number.  `start_time`: when the store was first made (None: now);
    `announced_until`: until when expiry was announced; both in seconds since the epoch.
    `next_number`, `default_chosen`, `mtime`: those of `Collection`.
    """

    change_time: int
    last: int
    start_time: float | None = None
    mtime: float = 0.0
    next_number: int = 0
    default_chosen: bool = False
    announced_until: float = 0.0


@dataclass(frozen=True, slots=True)
class Saved:
    """A whole store, the default ccache first.

    `incomplete`: what open files have left incomplete, by their handles: the serial number of the
    ccache, the bytes.  `notes`: those of the layer above.
    """

    whole: SavedWhole
    ccaches: tuple[SavedCcache, ...]
    files: tuple[SavedFile, ...] = ()
    orphans: tuple[SavedOrphan, ...] = ()
    links: tuple[SavedLink, ...] = ()
    incomplete: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    notes: dict[bytes, bytes] = field(default_factory=dict)
    events: SavedEvents | None = None
