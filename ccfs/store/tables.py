"""The tables of the journal, and the checksums over their rows.

Knows what a row has and how it is summed; never a database, nor the store.
"""

from dataclasses import dataclass
from hashlib import sha256
from struct import Struct

VERSION = 5
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
CREATE TABLE file (ccache INTEGER, name BLOB, mtime REAL, data BLOB, sum INTEGER,
    PRIMARY KEY (ccache, name)) WITHOUT ROWID;
"""
"""A record also has what its step has made of the rows of its ccache and of the whole.

Where its step is later than that of `whole`, those are not written yet: the record is all there is
of the step, so that to store one costs one row.
"""

PLACES = "SELECT place FROM record WHERE ccache = ?"
RECORDS = "SELECT * FROM record WHERE ccache = ?"
RECORDS_IN_ORDER = RECORDS + " ORDER BY place"
PUT_RECORD = "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
DROP_RECORD = "DELETE FROM record WHERE ccache = ? AND serial = ? RETURNING sum"
PUT_CCACHE = "INSERT OR REPLACE INTO ccache VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
PUT_FILE = "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?)"
DROP_FILE = "DELETE FROM file WHERE ccache = ? AND name = ?"
TOUCH_CCACHE = "UPDATE ccache SET change_time = ?, mtime = ?, total = ?, sum = ? WHERE serial = ?"
TOUCH_WHOLE = (
    "UPDATE whole SET step = ?, change_time = ?, last = ?, total = ?, sum = ? WHERE id = 1"
)

_WHOLE = Struct(">5qI")
_CCACHE = Struct(">4qdqII")
_RECORD = Struct(">5qd2qII")
_FILE = Struct(">qdII")


@dataclass(slots=True)
class Row:
    """What the journal has of a ccache: the sum over its records, and of its own row.

    `fixed`: the fields that few steps change, where they are known to be in the journal.
    `count`: how many records it has.
    """

    total: int = 0
    sum: int = 0
    fixed: tuple[object, ...] = ()
    count: int = 0


def sum_of_whole(
    mountpoint: bytes, uid: int, step: int, change_time: int, last: int, total: int
) -> int:
    """The checksum of the row `whole`."""
    numbers = _WHOLE.pack(uid, step, change_time, last, total, len(mountpoint))
    return _sum(b"whole", numbers, mountpoint)


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
    numbers = (serial, place, change_time, last_default, mtime, total, len(name), len(prefix))
    return _sum(b"ccache", _CCACHE.pack(*numbers), name, prefix)


def sum_of_record(
    ccache: int,
    serial: int,
    place: int,
    name: str,
    data: bytes,
    step: int,
    ccache_change_time: int,
    ccache_mtime: float,
    change_time: int,
    last: int,
) -> int:
    """The checksum of a record's row, with what its step has made."""
    text = name.encode("utf-8", "surrogateescape")
    made = (step, ccache_change_time, ccache_mtime, change_time, last)
    numbers = _RECORD.pack(ccache, serial, place, *made, len(text), len(data))
    return _sum(b"record", numbers, text, data)


def sum_of_file(ccache: int, name: bytes, mtime: float, data: bytes) -> int:
    """The checksum of a scratch file's row."""
    return _sum(b"file", _FILE.pack(ccache, mtime, len(name), len(data)), name, data)


def _sum(*parts: bytes) -> int:
    """62 bits, so that SQLite has room for them."""
    return int.from_bytes(sha256(b"".join(parts)).digest()[:8], "big") & MASK
