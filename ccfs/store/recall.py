"""What a journal holds, read back and checked.

Knows the tables; never how they are written, nor files.
"""

import sqlite3
import struct
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from typing import Any

from ccfs.store.errors import DamagedError, ForeignError
from ccfs.store.saved import Saved, SavedCcache, SavedRecord
from ccfs.store.tables import (
    APPLICATION,
    MASK,
    VERSION,
    Row,
    sum_of_ccache,
    sum_of_record,
    sum_of_whole,
)

_SERIAL, _PLACE, _NAME, _DATA, _STEP, _CHANGED, _MTIME, _WHOLE_CHANGED, _LAST, _SUM = range(1, 11)

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
    rows: dict[int, Row] = field(default_factory=dict)
    late: set[int] = field(default_factory=set)


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
    records, late = _records(db, have)
    if have + len(late) < step:
        raise DamagedError("it has lost its last changes")
    if late:
        change_time, last = late[-1][_WHOLE_CHANGED], late[-1][_LAST]
    found = Recalled(Saved(change_time, last, ()), have + len(late), total)
    found.late = {record[0] for record in late}
    rows = db.execute("SELECT * FROM ccache").fetchall()
    read = [_ccache(row, records.get(row[0], []), have, found) for row in rows]
    if not rows or not found.late <= found.rows.keys():
        raise DamagedError("it is damaged")
    if sum(row.sum for row in found.rows.values()) & MASK != total:
        raise DamagedError("it is damaged")
    found.saved = Saved(change_time, last, tuple(sorted(read, key=attrgetter("rank"))))
    return found


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


def _records(
    db: sqlite3.Connection, have: int
) -> tuple[dict[int, list[tuple[Any, ...]]], list[tuple[Any, ...]]]:
    """All records by their ccache; and those of the steps after `have`, each of which is there."""
    records: dict[int, list[tuple[Any, ...]]] = {}
    late = []
    for row in db.execute("SELECT * FROM record"):
        if sum_of_record(*row[:-1]) != row[_SUM]:
            raise DamagedError("it is damaged")
        records.setdefault(row[0], []).append(row)
        if row[_STEP] > have:
            late.append(row)
    late.sort(key=itemgetter(_STEP))
    if [row[_STEP] for row in late] != list(range(have + 1, have + 1 + len(late))):
        raise DamagedError("it is damaged")
    return records, late


def _ccache(
    row: tuple[Any, ...], records: list[tuple[Any, ...]], have: int, found: Recalled
) -> SavedCcache:
    serial, name, rank, change_time, last_default, mtime, prefix, total, check = row
    if sum_of_ccache(*row[:-1]) != check:
        raise DamagedError("it is damaged")
    records.sort(key=itemgetter(_PLACE))
    if sum(r[_SUM] for r in records if r[_STEP] <= have) & MASK != total:
        raise DamagedError("it is damaged")
    late = [r for r in records if r[_STEP] > have]
    if late:
        newest = max(late, key=itemgetter(_STEP))
        change_time, mtime = newest[_CHANGED], newest[_MTIME]
    sums = {r[_SERIAL]: r[_SUM] for r in records}
    found.rows[serial] = Row(sum(sums.values()) & MASK, check, records=sums)
    saved = tuple(SavedRecord(r[_SERIAL], r[_NAME], r[_DATA]) for r in records)
    return SavedCcache(
        serial, bytes(name), rank, change_time, last_default, mtime, bytes(prefix), saved
    )
