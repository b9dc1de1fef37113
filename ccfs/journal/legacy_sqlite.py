"""Journals of version 4, which were SQLite databases: read once, then written as a log.

    whole(id, mountpoint, uid, step, change_time, last, total, sum)
    ccache(serial, name, place, change_time, last_default, mtime, prefix, total, sum)
    record(ccache, serial, place, name, data, step, ccache_change_time, ccache_mtime, change_time,
           last, sum)

A record of a later step than that of `whole` is all there is of its step.  `sum` is over the other
fields of a row, `total` the sum over the rows that belong to it.  Beside the database there is
PATH-step, the number of the last step that was acknowledged.

Knows tables and checksums; never how a log is written.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from contextlib import closing, suppress
from hashlib import sha256
from operator import attrgetter
from typing import Any

from ccfs.store.errors import DamagedError, ForeignError, InUseError
from ccfs.store.snapshot import Saved, SavedCcache, SavedRecord, SavedWhole

PARTS = ("-wal", "-step", "-shm", "-journal")
"""Behind the name of the database: the files that it has beside it."""
_MAGIC = b"SQLite format 3\0"
_VERSION = 4
_STEP = struct.Struct(">QQ")
_ALL = (1 << 64) - 1
_MASK = (1 << 62) - 1
_WHOLE = struct.Struct(">5qI")
_CCACHE = struct.Struct(">4qdqII")
_RECORD = struct.Struct(">5qd2qII")
_WRONG = (sqlite3.Error, TypeError, ValueError, AttributeError, OverflowError, struct.error)


def is_one(path: str) -> bool:
    """Whether there is such a database."""
    try:
        with open(path, "rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def read(path: str, mountpoint: str, uid: int) -> Saved:
    """All that it has.  Raises DamagedError, ForeignError, InUseError."""
    try:
        with closing(sqlite3.connect(path, timeout=1.0, isolation_level=None)) as db:
            return _read(db, mountpoint.encode("utf-8", "surrogateescape"), uid, _step(path))
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise InUseError from None
        raise DamagedError("it is damaged") from None
    except _WRONG:
        raise DamagedError("it is damaged") from None


def remove(path: str) -> None:
    """Take away what it has beside it: the database itself has been replaced."""
    for part in PARTS:
        with suppress(FileNotFoundError):
            os.unlink(path + part)


def _step(path: str) -> int:
    with open(path + "-step", "rb") as file:
        step, check = _STEP.unpack(file.read())
    if (step or check) and step ^ check != _ALL:
        raise DamagedError("its step number is damaged")
    return int(step)


def _read(db: sqlite3.Connection, mountpoint: bytes, uid: int, step: int) -> Saved:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    ((_, where, owner, have, change_time, last, total, check),) = db.execute("SELECT * FROM whole")
    numbers = _WHOLE.pack(owner, have, change_time, last, total, len(where))
    _check(verdict == "ok" and _sum(b"whole", numbers, where) == check)
    if version != _VERSION:
        raise DamagedError(f"it is of version {version}, this ccfs reads {_VERSION}, 6 and 7")
    if where != mountpoint:
        raise ForeignError
    if owner != uid:
        raise DamagedError("it is another user's")
    late: list[tuple[Any, ...]] = []
    ccaches, sums = [], []
    for row in db.execute("SELECT * FROM ccache").fetchall():
        ccaches.append(_ccache(db, row, have, late))
        sums.append(row[-1])
    late.sort()
    _check([one[0] for one in late] == list(range(have + 1, have + 1 + len(late))))
    _check(bool(ccaches) and sum(sums) & _MASK == total)
    if have + len(late) < step:
        raise DamagedError("it has lost its last changes")
    if late:
        *_, change_time, last = late[-1]
    ordered = sorted(ccaches, key=attrgetter("rank"))
    return Saved(SavedWhole(change_time, last), tuple(ordered))


def _ccache(
    db: sqlite3.Connection, row: tuple[Any, ...], have: int, late: list[tuple[Any, ...]]
) -> SavedCcache:
    """One ccache; what its records of later steps than `have` say goes to `late`."""
    serial, name, rank, change_time, default, mtime, prefix, total, check = row
    sizes = (len(name), len(prefix))
    numbers = _CCACHE.pack(serial, rank, change_time, default, mtime, total, *sizes)
    _check(_sum(b"ccache", numbers, name, prefix) == check)
    data, records, found, mine = bytearray(prefix), [], 0, []
    query = "SELECT * FROM record WHERE ccache = ? ORDER BY place"
    for _, number, place, text, content, step, *made, check in db.execute(query, (serial,)):
        raw = text.encode("utf-8", "surrogateescape")
        numbers = _RECORD.pack(serial, number, place, step, *made, len(raw), len(content))
        _check(_sum(b"record", numbers, raw, content) == check)
        if step > have:
            mine.append((step, *made))
        else:
            found += check
        data += content
        records.append(SavedRecord(number, text, len(content)))
    _check(found & _MASK == total)
    if mine:
        _, change_time, mtime, *_ = max(mine)
        late += mine
    return SavedCcache(serial, name, rank, change_time, default, mtime, data, records)


def _sum(*parts: bytes) -> int:
    return int.from_bytes(sha256(b"".join(parts)).digest()[:8], "big") & _MASK


def _check(right: bool) -> None:
    if not right:
        raise DamagedError("it is damaged")
