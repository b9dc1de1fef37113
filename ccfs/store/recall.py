"""What a journal holds, read back and checked.

Knows the tables; never how they are written, nor files.
"""

import sqlite3
import struct
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

from ccfs.store.errors import DamagedError, ForeignError
from ccfs.store.saved import Saved, SavedCcache, SavedFile
from ccfs.store.tables import (
    APPLICATION,
    MASK,
    PLACES,
    RECORDS,
    RECORDS_IN_ORDER,
    VERSION,
    Row,
    sum_of_ccache,
    sum_of_file,
    sum_of_record,
    sum_of_whole,
)

Late = tuple[int, int, float, int, int]
"""A step that is in its record's row alone: its number, and what it has made of its ccache's change
time and time of modification, the whole's change time and last number."""

WRONG = (TypeError, ValueError, AttributeError, OverflowError, struct.error)
"""What values of other kinds than are written raise while they are looked at."""


@dataclass(slots=True)
class Recalled:
    """What was read, and the checksums that go on from there.

    `late`: serials of ccaches with records that their rows don't count.
    """

    saved: Saved
    step: int
    total: int
    rows: dict[int, Row]
    files: dict[tuple[int, bytes], int]
    late: set[int]


def recall(db: sqlite3.Connection, mountpoint: bytes, uid: int, step: int) -> Recalled:
    """Read everything.  `step`: the last one that is known to have been confirmed.

    Raises DamagedError, ForeignError; sqlite3.Error, and one of WRONG where something is in a row
    that nobody has put there.
    """
    _check_kind(db)
    whole = db.execute("SELECT * FROM whole").fetchall()
    if len(whole) != 1 or sum_of_whole(*whole[0][1:-1]) != whole[0][-1]:
        raise DamagedError("it is damaged")
    _, where, owner, have, change_time, last, total, _ = whole[0]
    if where != mountpoint:
        raise ForeignError
    if owner != uid:
        raise DamagedError("it is another user's")
    rows = db.execute("SELECT * FROM ccache").fetchall()
    read = [_ccache(db, row, have) for row in rows]
    late = sorted(one for ccache in read for one in ccache.late)
    if [one[0] for one in late] != list(range(have + 1, have + 1 + len(late))):
        raise DamagedError("it is damaged")
    if have + len(late) < step:
        raise DamagedError("it has lost its last changes")
    (records,) = db.execute("SELECT count(*) FROM record").fetchone()
    if not rows or records != sum(ccache.row.count for ccache in read):
        raise DamagedError("it is damaged")
    files = db.execute("SELECT * FROM file").fetchall()
    places = {0, *(ccache.saved.serial for ccache in read)}
    if any(sum_of_file(*file[:-1]) != file[-1] or file[0] not in places for file in files):
        raise DamagedError("it is damaged")
    sums = {(ccache, name): check for ccache, name, *_, check in files}
    if sum([*sums.values(), *(ccache.row.sum for ccache in read)]) & MASK != total:
        raise DamagedError("it is damaged")
    if late:
        *_, change_time, last = late[-1]
    ccaches = sorted((ccache.saved for ccache in read), key=attrgetter("rank"))
    return Recalled(
        Saved(change_time, last, tuple(ccaches), tuple(SavedFile(*file[:-1]) for file in files)),
        have + len(late),
        total,
        {ccache.saved.serial: ccache.row for ccache in read},
        sums,
        {ccache.saved.serial for ccache in read if ccache.late},
    )


def _check_kind(db: sqlite3.Connection) -> None:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION:
        raise DamagedError("it is no journal of ccfs")
    if version != VERSION:
        raise DamagedError(f"it is of version {version}, this ccfs writes {VERSION}")
    (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise DamagedError("it is damaged")


class _Ccache(NamedTuple):
    saved: SavedCcache
    row: Row
    late: list[Late]


def _ccache(db: sqlite3.Connection, fields: tuple[Any, ...], have: int) -> _Ccache:
    """One ccache and its records.  `have`: the last step that its row knows."""
    serial, name, rank, change_time, last_default, mtime, prefix, total, check = fields
    if sum_of_ccache(*fields[:-1]) != check:
        raise DamagedError("it is damaged")
    row, late, late_sums = Row(0, check), [], 0
    data, serials, names = bytearray(prefix), [], []
    places = [place for (place,) in db.execute(PLACES, (serial,))]
    # To sort takes as much memory as all the records: mostly they are in order.
    records = RECORDS if places == sorted(places) else RECORDS_IN_ORDER
    for *record, record_check in db.execute(records, (serial,)):
        if sum_of_record(*record) != record_check:
            raise DamagedError("it is damaged")
        _, number, _, record_name, content, step, *made = record
        row.total += record_check
        if step > have:
            late.append((step, *made))
            late_sums += record_check
        data += content
        serials.append(number)
        names.append(record_name)
    if row.total - late_sums & MASK != total:
        raise DamagedError("it is damaged")
    row.total, row.count = row.total & MASK, len(serials)
    if late:
        _, change_time, mtime, *_ = max(late)
    saved = SavedCcache(
        serial, bytes(name), rank, change_time, last_default, mtime, data, serials, names
    )
    return _Ccache(saved, row, late)
