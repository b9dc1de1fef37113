"""The journal: what was acknowledged survives the process.

An SQLite database in WAL mode on a file that somebody else has chosen and checked.  It holds
complete records only; scratch files and incomplete tails die with their descriptors.  Every row has
a checksum, every ccache the sum over its records, the whole the sum over its ccaches and the number
of the last step, so that what is read back is what was written, or an error.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

from ccfs.store.saved import Saved, SavedCcache, SavedRecord

if TYPE_CHECKING:
    from ccfs.store.ccache import Ccache
    from ccfs.store.ledger import Effects
    from ccfs.store.store import Store

VERSION = 2
APPLICATION = 0x63636673  # "ccfs"
_MASK = (1 << 62) - 1

_SCHEMA = """
CREATE TABLE whole (id INTEGER PRIMARY KEY, mountpoint BLOB, uid INTEGER, step INTEGER,
    change_time INTEGER, last INTEGER, total INTEGER, sum INTEGER);
CREATE TABLE ccache (serial INTEGER PRIMARY KEY, name BLOB, place INTEGER, change_time INTEGER,
    last_default INTEGER, mtime REAL, prefix BLOB, total INTEGER, sum INTEGER);
CREATE TABLE record (serial INTEGER PRIMARY KEY, ccache INTEGER, place INTEGER, name TEXT,
    data BLOB, sum INTEGER);
"""
_WHOLE = b"whole %d:%b %d %d %d %d %d"
_CCACHE = b"ccache %d %d:%b %d %d %d %a %d:%b %d"
_RECORD = b"record %d %d %d %d:%b %d:%b"
_TOUCH_CCACHE = "UPDATE ccache SET change_time = ?, mtime = ?, total = ?, sum = ? WHERE serial = ?"
_TOUCH_WHOLE = (
    "UPDATE whole SET step = ?, change_time = ?, last = ?, total = ?, sum = ? WHERE id = 1"
)
_PRAGMAS = (
    "locking_mode = EXCLUSIVE",
    "journal_mode = WAL",
    "synchronous = OFF",
    "secure_delete = ON",
    "temp_store = MEMORY",
    "wal_autocheckpoint = 500",  # pages: the log is in memory, and read as a whole at the start
)


class DamagedError(Exception):
    """The journal can't be used; the message says why and holds nothing of its content."""


class InUseError(Exception):
    """Another process has the journal open."""


class ForeignError(Exception):
    """The journal is that of another mountpoint, and none of our business."""


@dataclass(slots=True)
class _Row:
    """What the journal has of a ccache: the sum over its records, and of its own row.

    `fixed`: the fields that few steps change, where they are known to be in the journal.
    """

    total: int = 0
    sum: int = 0
    fixed: tuple[object, ...] = ()


class Journal:
    """One open journal.

    `step` is the number of the last step in it.  `confirm(step)` is called when a step is in the
    database: whoever keeps that number elsewhere can tell a journal that has lost its end.
    """

    def __init__(self, path: str, confirm: Callable[[int], None]) -> None:
        self._confirm = confirm
        self._rows: dict[int, _Row] = {}
        self._records: dict[int, tuple[int, int]] = {}
        self._total = 0
        self.step = 0
        self._broken = False
        try:
            self._db = sqlite3.connect(
                path, timeout=1.0, isolation_level=None, cached_statements=64
            )
            for pragma in _PRAGMAS:
                self._db.execute(f"PRAGMA {pragma}")
        except sqlite3.Error as error:
            if error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise InUseError from None
            raise DamagedError(_reason(error)) from None

    def create(self, mountpoint: str, uid: int, store: Store) -> None:
        """Begin a new journal with what the store has now.

        Raises DamagedError where there is no room for it.
        """
        self._mountpoint, self._uid = _blob(mountpoint), uid
        begin = (self._mountpoint, uid)
        try:
            self._db.executescript(_SCHEMA)
            self._db.execute(f"PRAGMA application_id = {APPLICATION}")
            self._db.execute(f"PRAGMA user_version = {VERSION}")
            self._db.execute("INSERT INTO whole VALUES (1, ?, ?, 0, 0, 0, 0, 0)", begin)
        except sqlite3.Error as error:
            raise DamagedError(_reason(error)) from None
        self.rewrite(store)

    def load(self, mountpoint: str, uid: int, step: int) -> Saved:
        """Read everything back.  `step`: the last one that is known to have been confirmed.

        Raises DamagedError for a journal that is damaged, of another version, of another owner, or
        that has lost its end; ForeignError for one of another mountpoint.
        """
        try:
            return self._load(mountpoint, uid, step)
        except (sqlite3.Error, TypeError, ValueError, OverflowError) as error:
            raise DamagedError(_reason(error)) from None

    def commit(self, store: Store, effects: Effects) -> None:
        """Have one step in the journal.

        Where that fails once, the next step writes everything anew.
        """
        if self._broken:
            self.rewrite(store)
            return
        with _Transaction(self):
            self._remove(effects)
            for serial in effects.changed | effects.rewritten:
                ccache = store.collection.by_serial(serial)
                if ccache is not None:
                    self._put_ccache(ccache, effects)
            self._put_whole(store)

    def rewrite(self, store: Store) -> None:
        """Write everything anew."""
        with _Transaction(self):
            self._db.execute("DELETE FROM record")
            self._db.execute("DELETE FROM ccache")
            self._rows, self._records, self._total = {}, {}, 0
            for ccache in store.collection.all():
                self._put_all(ccache)
            self._put_whole(store)

    def scrub(self) -> bool:
        """Take out what the write-ahead log still has of deleted secrets; whether that was done.

        Where there is no room for it, all that was committed is still in the log.
        """
        try:
            ((busy, _, _),) = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error:
            return False
        return not busy

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def _load(self, mountpoint: str, uid: int, step: int) -> Saved:
        self._check_kind()
        whole = self._db.execute("SELECT * FROM whole").fetchall()
        if len(whole) != 1 or _sum(_WHOLE, *whole[0][1:-1]) != whole[0][-1]:
            raise DamagedError("it is damaged")
        _, where, owner, have, change_time, last, total, _ = whole[0]
        if where != _blob(mountpoint):
            raise ForeignError
        if owner != uid:
            raise DamagedError("it is another user's")
        if have < step:
            raise DamagedError("it has lost its last changes")
        records: dict[object, list[tuple[Any, ...]]] = {}
        for row in self._db.execute("SELECT * FROM record"):
            records.setdefault(row[1], []).append(row)
        rows = self._db.execute("SELECT * FROM ccache").fetchall()
        read = [self._load_ccache(row, records.get(row[0], [])) for row in rows]
        ccaches = sorted(read, key=attrgetter("rank"))
        if self._total != total or not ccaches:
            raise DamagedError("it is damaged")
        self._mountpoint, self._uid, self.step = where, uid, have
        return Saved(change_time, last, tuple(ccaches))

    def _check_kind(self) -> None:
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION:
            raise DamagedError("it is no journal of ccfs")
        if version != VERSION:
            raise DamagedError(f"it is of version {version}, this ccfs writes {VERSION}")
        (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise DamagedError("it is damaged")

    def _load_ccache(self, row: tuple[object, ...], found: list[tuple[Any, ...]]) -> SavedCcache:
        serial, name, rank, change_time, last_default, mtime, prefix, total, check = row
        if _sum(_CCACHE, *row[:-1]) != check:
            raise DamagedError("it is damaged")
        found.sort(key=itemgetter(2))
        if any(_sum(_RECORD, *r[:-1]) != r[-1] for r in found):
            raise DamagedError("it is damaged")
        mine = _Row(sum(r[-1] for r in found) & _MASK, int(str(check)))
        if mine.total != total:
            raise DamagedError("it is damaged")
        self._rows[int(str(serial))] = mine
        self._records.update({r[0]: (int(str(serial)), r[-1]) for r in found})
        self._total = self._total + mine.sum & _MASK
        return SavedCcache(
            int(str(serial)),
            bytes(name),  # type: ignore[call-overload]
            int(str(rank)),
            int(str(change_time)),
            int(str(last_default)),
            float(str(mtime)),
            bytes(prefix),  # type: ignore[call-overload]
            tuple(SavedRecord(r[0], r[3], r[4]) for r in found),
        )

    def _remove(self, effects: Effects) -> None:
        for serial in effects.records:
            self._drop_record(serial)
        for serial in effects.ccaches:
            gone = [s for s, (owner, _) in self._records.items() if owner == serial]
            for record in gone:
                self._drop_record(record)
            row = self._rows.pop(serial, None)
            if row is not None:
                self._total = self._total - row.sum & _MASK
                self._db.execute("DELETE FROM ccache WHERE serial = ?", (serial,))

    def _drop_record(self, serial: int) -> None:
        found = self._records.pop(serial, None)
        if found is None:
            return
        owner, check = found
        if owner in self._rows:
            self._rows[owner].total = self._rows[owner].total - check & _MASK
        self._db.execute("DELETE FROM record WHERE serial = ?", (serial,))

    def _put_ccache(self, ccache: Ccache, effects: Effects) -> None:
        if ccache.serial in effects.rewritten or ccache.serial not in self._rows:
            self._put_all(ccache)
            return
        image = ccache.image
        for stored in effects.added.get(ccache.serial, ()):
            data = image.record(stored.serial) if image else None
            if data is not None:
                self._put_record(ccache, stored.serial, stored.serial, stored.name, data)
        self._put_row(ccache)

    def _put_all(self, ccache: Ccache) -> None:
        """All of one ccache, its records in their places."""
        gone = [s for s, (owner, _) in self._records.items() if owner == ccache.serial]
        for serial in gone:
            self._drop_record(serial)
        self._rows.setdefault(ccache.serial, _Row())
        records = ccache.image.records() if ccache.image else []
        for place, (data, stored) in enumerate(records):
            if stored is not None:
                self._put_record(ccache, stored.serial, place, stored.name, data)
        self._put_row(ccache)

    def _put_record(self, ccache: Ccache, serial: int, place: int, name: str, data: bytes) -> None:
        check = _sum(_RECORD, serial, ccache.serial, place, name, data)
        fields = (serial, ccache.serial, place, name, data, check)
        self._db.execute("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?)", fields)
        self._records[serial] = (ccache.serial, check)
        row = self._rows[ccache.serial]
        row.total = row.total + check & _MASK

    def _put_row(self, ccache: Ccache) -> None:
        row, image, serial = self._rows[ccache.serial], ccache.image, ccache.serial
        prefix = bytes(image.data[: image.body]) if image and image.prefix else b""
        name, rank, default = ccache.name, ccache.rank, ccache.last_default_time
        fixed, changed, mtime = (name, rank, default, prefix), ccache.change_time, ccache.mtime
        check = _sum(_CCACHE, serial, name, rank, changed, default, mtime, prefix, row.total)
        self._total = self._total - row.sum + check & _MASK
        row.sum = check
        if row.fixed == fixed:
            self._db.execute(_TOUCH_CCACHE, (changed, mtime, row.total, check, serial))
            return
        row.fixed = fixed
        self._db.execute(
            "INSERT OR REPLACE INTO ccache VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (serial, name, rank, changed, default, mtime, prefix, row.total, check),
        )

    def _put_whole(self, store: Store) -> None:
        self.step += 1
        ledger = store.ledger
        fields = (self.step, ledger.change_time, ledger.register.last, self._total)
        check = _sum(_WHOLE, self._mountpoint, self._uid, *fields)
        self._db.execute(_TOUCH_WHOLE, (*fields, check))


class _Transaction:
    """One step in the database, or none of it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __enter__(self) -> None:
        try:
            self._journal._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise self._failed(error) from None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        db = self._journal._db
        try:
            if error is None:
                db.execute("COMMIT")
        except sqlite3.Error as refused:
            error = refused
        if error is None:
            self._journal._broken = False
            self._journal._confirm(self._journal.step)
        elif isinstance(error, Exception):
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise self._failed(error) from None

    def _failed(self, error: Exception) -> DamagedError:
        self._journal._broken = True
        return DamagedError(_reason(error))


def _sum(row: bytes, *fields: Any) -> int:
    """A checksum of 62 bits over the fields of a row, each whole number or text as it is, or bytes.

    TypeError for a field that is none of what it should be.
    """
    values: list[Any] = []
    for value in fields:
        kind = value.__class__
        if kind is str:
            value = value.encode("utf-8", "surrogateescape")
            values.append(len(value))
        elif kind is bytes:
            values.append(len(value))
        values.append(value)
    return int.from_bytes(blake2b(row % tuple(values), digest_size=8).digest(), "big") & _MASK


def _blob(path: str) -> bytes:
    """A path as the kernel has it: any bytes."""
    return path.encode("utf-8", "surrogateescape")


def _reason(error: Exception) -> str:
    """What SQLite says of a failure: it never quotes content."""
    return str(error) if isinstance(error, sqlite3.Error) else "it is damaged"
