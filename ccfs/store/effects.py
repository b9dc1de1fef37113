# SPDX-License-Identifier: MIT
"""What steps of the store changed that the journal, the kernel and waiting clients must hear of.

Knows numbers and names; never who hears of them.
"""

from dataclasses import dataclass, field
from enum import Enum, auto

from ccfs.store.values import Stored


class Listing(Enum):
    """A directory of the whole collection whose entries changed."""

    # Enum hashes a member's name in Python; each step puts members into sets, and they are unique.
    __hash__ = object.__hash__

    COLLECTION = auto()
    """`caches/`, and `dir/` with it: a ccache came, went or was renamed."""
    DIR = auto()
    """`dir/` alone: a ccache's file or a scratch file came or went."""


@dataclass(slots=True)
class Effects:
    """What steps changed since the effects were last taken.

    For the kernel and for waiting clients:

    - `superseded`: numbers of generations that are no longer current.
    - `removed_records`: serials of removed credentials and configuration entries, by the serial of
      the ccache that had them.
    - `destroyed`: serials of ccaches that were destroyed.
    - `listings`: directories whose entries changed, a ccache's by its serial.
    - `changed`: serials of ccaches that changed.
    - `changed_outside_fuse`: serials of ccaches whose change no operation on their file showed:
      inotify watches have to be told.
    - `logged`: whether the event log grew.

    For the journal:

    - `appended`: records that were appended to a ccache, by its serial; placeholders of removed
      ones as their bytes.
    - `placeholders`: the bytes that were written over removed records, by ccache and record serial.
    - `compacted`: serials of ccaches whose placeholders were left out before any in `placeholders`.
    - `rewritten`: serials of ccaches whose records changed in another way: all are written again.
    - `metadata`: serials of ccaches whose number, name, times or incomplete record changed.
    - `scratch_files`: numbers of scratch files that changed, and how many bytes at their beginning
      did not.
    - `scratch_links`: names of scratch links that were made or removed.
    - `notes`: notes of the layer above that were set; b"" for one that was removed.
    """

    superseded: list[int] = field(default_factory=list)
    removed_records: dict[int, list[int]] = field(default_factory=dict)
    destroyed: list[int] = field(default_factory=list)
    listings: set[int | Listing] = field(default_factory=set)
    changed: set[int] = field(default_factory=set)
    appended: dict[int, list[Stored | bytes]] = field(default_factory=dict)
    placeholders: dict[int, dict[int, bytes]] = field(default_factory=dict)
    compacted: set[int] = field(default_factory=set)
    metadata: set[int] = field(default_factory=set)
    rewritten: set[int] = field(default_factory=set)
    changed_outside_fuse: set[int] = field(default_factory=set)
    scratch_files: dict[int, int] = field(default_factory=dict)
    scratch_links: set[bytes] = field(default_factory=set)
    notes: dict[bytes, bytes] = field(default_factory=dict)
    logged: bool = False

    def __bool__(self) -> bool:
        return bool(self.durable or self.listings or self.superseded or self.changed_outside_fuse)

    @property
    def removed_serials(self) -> list[int]:
        """The serials of all removed credentials and configuration entries."""
        return [serial for serials in self.removed_records.values() for serial in serials]

    @property
    def durable(self) -> bool:
        """Whether the journal has to keep any of it."""
        return bool(
            self.logged
            or self.changed
            or self.metadata
            or self.removed_records
            or self.destroyed
            or self.appended
            or self.rewritten
            or self.compacted
            or self.scratch_files
            or self.scratch_links
            or self.notes
        )
