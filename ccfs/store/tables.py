"""The tables of the journal, and the checksums over their rows.

Knows what a row has and how it is summed; never a database, nor the store.
"""

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

VERSION = 4
APPLICATION = 0x63636673  # "ccfs"
MASK = (1 << 62) - 1

SCHEMA = """
CREATE TABLE whole (id INTEGER PRIMARY KEY, mountpoint BLOB, uid INTEGER, step INTEGER,
    change_time INTEGER, last INTEGER, total INTEGER, sum INTEGER);
CREATE TABLE ccache (serial INTEGER PRIMARY KEY, name BLOB, place INTEGER, change_time INTEGER,
    last_default INTEGER, mtime REAL, prefix BLOB, total INTEGER, sum INTEGER);
CREATE TABLE record (ccache INTEGER, serial INTEGER, place INTEGER, name TEXT, data BLOB,
    step INTEGER, ccache_change_time INTEGER, ccache_mtime REAL, change_time INTEGER, last INTEGER,
    sum INTEGER, PRIMARY KEY (ccache, serial)) WITHOUT ROWID;
"""
"""A record also has what its step has made of the rows of its ccache and of the whole.

Where its step is later than that of `whole`, those are not written yet: the record is all there is
of the step, so that to store one costs one row.
"""

PUT_RECORD = "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
PUT_CCACHE = "INSERT OR REPLACE INTO ccache VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
TOUCH_CCACHE = "UPDATE ccache SET change_time = ?, mtime = ?, total = ?, sum = ? WHERE serial = ?"
TOUCH_WHOLE = (
    "UPDATE whole SET step = ?, change_time = ?, last = ?, total = ?, sum = ? WHERE id = 1"
)

_WHOLE = b"whole %d:%b %d %d %d %d %d"
_CCACHE = b"ccache %d %d:%b %d %d %d %a %d:%b %d"
_RECORD = b"record %d %d %d %d:%b %d:%b %d %d %a %d %d"


@dataclass(slots=True)
class Row:
    """What the journal has of a ccache: the sum over its records, and of its own row.

    `fixed`: the fields that few steps change, where they are known to be in the journal.
    `records`: the sum of each record, by its serial number.
    """

    total: int = 0
    sum: int = 0
    fixed: tuple[object, ...] = ()
    records: dict[int, int] = field(default_factory=dict)


def sum_of_whole(
    mountpoint: bytes, uid: int, step: int, change_time: int, last: int, total: int
) -> int:
    """The checksum of the row `whole`."""
    return _sum(_WHOLE % (len(mountpoint), mountpoint, uid, step, change_time, last, total))


def sum_of_ccache(
    serial: int,
    name: bytes,
    place: int,
    change_time: int,
    last_default: int,
    mtime: float,
    prefix: bytes,
    total: int,
) -> int:
    """The checksum of a ccache's row.  `total`: that over the sums of its records."""
    times = (change_time, last_default, mtime)
    return _sum(_CCACHE % (serial, len(name), name, place, *times, len(prefix), prefix, total))


def sum_of_record(ccache: int, serial: int, place: int, name: str, data: bytes, *step: Any) -> int:
    """The checksum of a record's row.  `step`: the number of its step, and what that has made."""
    text = name.encode("utf-8", "surrogateescape")
    return _sum(_RECORD % (ccache, serial, place, len(text), text, len(data), data, *step))


def _sum(row: bytes) -> int:
    """62 bits, so that SQLite has room for them."""
    return int.from_bytes(blake2b(row, digest_size=8).digest(), "big") & MASK
