# SPDX-License-Identifier: MIT
"""Where in a log each thing of the store is: what the writer has to write and to overwrite.

Knows extents and serial numbers; never the bytes.
"""

from dataclasses import dataclass, field

from ccfs.format.ccache import Prefix
from ccfs.journal.log import Extent
from ccfs.store.open_files import IncompleteRecord

CcacheRow = tuple[bytes, int, int, int, bool, Prefix | None]
"""What few steps change of a ccache: name, rank, last time as the default, lineage, whether it is
reserved, header and principal."""
FileRow = tuple[int, bytes, bool]
"""What few steps change of a scratch file or an orphan, as in the entry FILE: directory, name, and
whether it expires."""


@dataclass(slots=True)
class LoggedCcache:
    """What the log has of a ccache.

    `row`: the fields that few steps change, None where they have to be written again.  `records`:
    where each is, by its serial number; those of `placeholders` are marked as removed, and one that
    never had a serial number has its extent, negative, for a key.  `number`: that of the current
    generation, 0 for none.
    """

    row: CcacheRow | None = None
    records: dict[int, Extent] = field(default_factory=dict)
    placeholders: set[int] = field(default_factory=set)
    number: int = 0


@dataclass(slots=True)
class LoggedFile:
    """What the log has of a scratch file or an orphan: `size` bytes in `extents`."""

    row: FileRow
    size: int = 0
    extents: list[Extent] = field(default_factory=list)


@dataclass(slots=True)
class LogIndex:
    """What a log has: ccaches by serial, files by number, incomplete records by handle, notes.

    `sequence`: the number of the last event, None where the log has none; `edition`: the number of
    the last edition of the event log.
    """

    ccaches: dict[int, LoggedCcache] = field(default_factory=dict)
    files: dict[int, LoggedFile] = field(default_factory=dict)
    incomplete: dict[int, tuple[IncompleteRecord, Extent]] = field(default_factory=dict)
    notes: dict[bytes, Extent] = field(default_factory=dict)
    sequence: int | None = None
    edition: int = 0
