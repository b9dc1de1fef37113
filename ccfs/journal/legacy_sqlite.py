# SPDX-License-Identifier: MIT
"""Journals of version 4, which were SQLite databases: read once, then converted.

    whole(id, mountpoint, uid, step, change_time, last, total, sum)
    ccache(serial, name, place, change_time, last_default, mtime, prefix, total, sum)
    record(ccache, serial, place, name, data, step, ccache_change_time, ccache_mtime, change_time,
           last, sum)

A step that only added a record wrote nothing but that row: it is of a later step than `whole`.
`sum` is over the other fields of a row, `total` over the rows that belong to it.  The file
PATH-step has the number of the last acknowledged step.

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
"""Suffixes of the other files of the database."""
_MAGIC = b"SQLite format 3\0"
_VERSION = 4
_STEP = struct.Struct(">QQ")
_ALL = (1 << 64) - 1
_MASK = (1 << 62) - 1
_WHOLE = struct.Struct(">5qI")
_CCACHE = struct.Struct(">4qdqII")
_RECORD = struct.Struct(">5qd2qII")
_WRONG = (sqlite3.Error, TypeError, ValueError, AttributeError, OverflowError, struct.error)


def is_journal(path: str) -> bool:
    """Whether the file at `path` is such a database."""
    try:
        with open(path, "rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def read(path: str, mountpoint: str, uid: int) -> Saved:
    """Read all of it.  Raises DamagedError, ForeignError, InUseError."""
    try:
        with closing(sqlite3.connect(path, timeout=1.0, isolation_level=None)) as db:
            return _read(db, mountpoint.encode("utf-8", "surrogateescape"), uid, _step(path))
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise InUseError from None
        raise DamagedError("it is damaged") from None
    except _WRONG:
        raise DamagedError("it is damaged") from None


def remove_other_files(path: str) -> None:
    """Remove the other files of the database; it has been replaced itself."""
    for part in PARTS:
        with suppress(FileNotFoundError):
            os.unlink(path + part)


def _step(path: str) -> int:
    """The number of the last acknowledged step; the second number is its complement."""
    with open(path + "-step", "rb") as file:
        step, check = _STEP.unpack(file.read())
    if (step or check) and step ^ check != _ALL:
        raise DamagedError("its step number is damaged")
    return int(step)


def _read(db: sqlite3.Connection, mountpoint: bytes, uid: int, step: int) -> Saved:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    ((_, its_mountpoint, owner, whole_step, change_time, last, total, checksum),) = db.execute(
        "SELECT * FROM whole"
    )
    numbers = _WHOLE.pack(owner, whole_step, change_time, last, total, len(its_mountpoint))
    _check(verdict == "ok" and _sum(b"whole", numbers, its_mountpoint) == checksum)
    if version != _VERSION:
        raise DamagedError(f"it is of version {version}, this ccfs reads {_VERSION}, 6 and 7")
    if its_mountpoint != mountpoint:
        raise ForeignError
    if owner != uid:
        raise DamagedError("it is another user's")
    later: list[tuple[Any, ...]] = []
    ccaches, sums = [], []
    for row in db.execute("SELECT * FROM ccache").fetchall():
        ccaches.append(_ccache(db, row, whole_step, later))
        sums.append(row[-1])
    later.sort()
    steps = list(range(whole_step + 1, whole_step + 1 + len(later)))
    _check([step[0] for step in later] == steps)
    _check(bool(ccaches) and sum(sums) & _MASK == total)
    if whole_step + len(later) < step:
        raise DamagedError("it has lost its last changes")
    if later:
        *_, change_time, last = later[-1]
    ordered = sorted(ccaches, key=attrgetter("rank"))
    default_chosen = ordered[0].rank < 0  # a ccache that became the default later
    return Saved(SavedWhole(change_time, last, default_chosen=default_chosen), tuple(ordered))


def _ccache(
    db: sqlite3.Connection, row: tuple[Any, ...], whole_step: int, later: list[tuple[Any, ...]]
) -> SavedCcache:
    """Read one ccache; steps of its records after `whole_step` are added to `later`."""
    serial, name, rank, change_time, default_time, mtime, prefix, total, checksum = row
    sizes = (len(name), len(prefix))
    numbers = _CCACHE.pack(serial, rank, change_time, default_time, mtime, total, *sizes)
    _check(_sum(b"ccache", numbers, name, prefix) == checksum)
    data, records, records_sum, its_later = bytearray(prefix), [], 0, []
    query = "SELECT * FROM record WHERE ccache = ? ORDER BY place"
    for _, number, place, text, content, step, *times, checksum in db.execute(query, (serial,)):
        raw = text.encode("utf-8", "surrogateescape")
        numbers = _RECORD.pack(serial, number, place, step, *times, len(raw), len(content))
        _check(_sum(b"record", numbers, raw, content) == checksum)
        if step > whole_step:
            its_later.append((step, *times))
        else:
            records_sum += checksum
        data += content
        records.append(SavedRecord(number, text, len(content)))
    _check(records_sum & _MASK == total)
    if its_later:
        _, change_time, mtime, *_ = max(its_later)
        later += its_later
    return SavedCcache(
        serial, name, rank, change_time, default_time, mtime, data, records, bool(data)
    )


def _sum(*parts: bytes) -> int:
    return int.from_bytes(sha256(b"".join(parts)).digest()[:8], "big") & _MASK


def _check(intact: bool) -> None:
    if not intact:
        raise DamagedError("it is damaged")
