"""The journal: what was acknowledged survives the process.

An SQLite database in WAL mode on a file that somebody else has chosen and checked.  It holds
complete records only; scratch files and incomplete tails die with their descriptors.  Every row has
a checksum, every ccache the sum over its records, the whole the sum over its ccaches and the number
of the last step, so that what is read back is what was written, or an error.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

from ccfs.store.saved import Saved, SavedCcache, SavedRecord

if TYPE_CHECKING:
    from ccfs.store.ccache import Ccache
    from ccfs.store.ledger import Effects
    from ccfs.store.store import Store

VERSION = 3
APPLICATION = 0x63636673  # "ccfs"
_MASK = (1 << 62) - 1

_SCHEMA = """
CREATE TABLE whole (id INTEGER PRIMARY KEY, mountpoint BLOB, uid INTEGER, step INTEGER,
    change_time INTEGER, last INTEGER, total INTEGER, sum INTEGER);
CREATE TABLE ccache (serial INTEGER PRIMARY KEY, name BLOB, place INTEGER, change_time INTEGER,
    last_default INTEGER, mtime REAL, prefix BLOB, total INTEGER, sum INTEGER);
CREATE TABLE record (ccache INTEGER, serial INTEGER, place INTEGER, name TEXT, data BLOB,
    sum INTEGER, PRIMARY KEY (ccache, serial)) WITHOUT ROWID;
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
    `records`: the sum of each record, by its serial number.
    """

    total: int = 0
    sum: int = 0
    fixed: tuple[object, ...] = ()
    records: dict[int, int] = field(default_factory=dict)


class Journal:
    """One open journal.

    `step` is the number of the last step in it.  `confirm(step)` is called when a step is in the
    database: whoever keeps that number elsewhere can tell a journal that has lost its end.
    """

    def __init__(self, path: str, confirm: Callable[[int], None]) -> None:
        self._confirm = confirm
        self._rows: dict[int, _Row] = {}
        self._owners: dict[int, int] = {}
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
            self._rows, self._owners, self._total = {}, {}, 0
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
            records.setdefault(row[0], []).append(row)
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
        owner, sums = int(str(serial)), {r[1]: r[-1] for r in found}
        mine = _Row(sum(sums.values()) & _MASK, int(str(check)), records=sums)
        if mine.total != total:
            raise DamagedError("it is damaged")
        self._rows[owner] = mine
        self._owners.update(dict.fromkeys(sums, owner))
        self._total = self._total + mine.sum & _MASK
        return SavedCcache(
            owner,
            bytes(name),  # type: ignore[call-overload]
            int(str(rank)),
            int(str(change_time)),
            int(str(last_default)),
            float(str(mtime)),
            bytes(prefix),  # type: ignore[call-overload]
            tuple(SavedRecord(r[1], r[3], r[4]) for r in found),
        )

    def _remove(self, effects: Effects) -> None:
        gone: dict[int, list[int]] = {}
        for serial in effects.records:
            owner = self._owners.get(serial)
            if owner is not None:
                gone.setdefault(owner, []).append(serial)
        for owner, serials in gone.items():
            self._drop(owner, serials)
        for serial in effects.ccaches:
            row = self._rows.get(serial)
            if row is not None:
                self._drop(serial, [*row.records])
                self._total = self._total - row.sum & _MASK
                self._db.execute("DELETE FROM ccache WHERE serial = ?", (serial,))
                del self._rows[serial]

    def _drop(self, owner: int, serials: list[int]) -> None:
        """Records of one ccache, in one statement where they are all it has."""
        row = self._rows[owner]
        for serial in serials:
            row.total -= row.records.pop(serial)
            del self._owners[serial]
        row.total &= _MASK
        if row.records:
            pairs = [(owner, serial) for serial in serials]
            self._db.executemany("DELETE FROM record WHERE ccache = ? AND serial = ?", pairs)
        elif serials:
            self._db.execute("DELETE FROM record WHERE ccache = ?", (owner,))

    def _put_ccache(self, ccache: Ccache, effects: Effects) -> None:
        if ccache.serial in effects.rewritten or ccache.serial not in self._rows:
            self._put_all(ccache)
            return
        image = ccache.image
        added = effects.added.get(ccache.serial, ())
        found = [(s, image.record(s.serial)) for s in added] if image else []
        self._put_records(
            ccache, [(s.serial, s.serial, s.name, d) for s, d in found if d is not None]
        )
        self._put_row(ccache)

    def _put_all(self, ccache: Ccache) -> None:
        """All of one ccache, its records in their places."""
        row = self._rows.setdefault(ccache.serial, _Row())
        self._drop(ccache.serial, [*row.records])
        records = ccache.image.records() if ccache.image else []
        self._put_records(
            ccache, [(s.serial, place, s.name, d) for place, (d, s) in enumerate(records) if s]
        )
        self._put_row(ccache)

    def _put_records(self, ccache: Ccache, added: list[tuple[int, int, str, bytes]]) -> None:
        """Records as (serial, place, name, data)."""
        owner, rows = ccache.serial, []
        row = self._rows[owner]
        for serial, place, name, data in added:
            check = _sum(_RECORD, owner, serial, place, name, data)
            rows.append((owner, serial, place, name, data, check))
            row.records[serial] = check
            row.total += check
            self._owners[serial] = owner
        row.total &= _MASK
        if rows:
            self._db.executemany("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?)", rows)

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
