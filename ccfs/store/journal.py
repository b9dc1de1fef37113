"""The journal: what was acknowledged survives the process.

An SQLite database in WAL mode on a file that somebody else has chosen and checked.  It holds
complete records only; scratch files and incomplete tails die with their descriptors.  Every row has
a checksum, every ccache the sum over its records, the whole the sum over its ccaches and the number
of the last step, so that what is read back is what was written, or an error.  A step that has
stored one record and nothing else is that record's row alone, with the number of the step; what it
means for ccache and whole is written with the next step of another kind.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ccfs.store.errors import DamagedError, InUseError
from ccfs.store.recall import WRONG, recall
from ccfs.store.tables import (
    APPLICATION,
    MASK,
    PUT_CCACHE,
    PUT_RECORD,
    SCHEMA,
    TOUCH_CCACHE,
    TOUCH_WHOLE,
    VERSION,
    Row,
    sum_of_ccache,
    sum_of_record,
    sum_of_whole,
)

if TYPE_CHECKING:
    from ccfs.store.ccache import Ccache
    from ccfs.store.ledger import Effects
    from ccfs.store.saved import Saved
    from ccfs.store.store import Store

_PRAGMAS = (
    "locking_mode = EXCLUSIVE",
    "journal_mode = WAL",
    "synchronous = OFF",
    "secure_delete = ON",
    "temp_store = MEMORY",
    "wal_autocheckpoint = 500",  # pages: the log is in memory, and read as a whole at the start
)

_Record = tuple[int, int, str, bytes]
"""Serial number, place, name, bytes."""
_Made = tuple[int, int, float, int, int]
"""The number of a step, and what it has made of its ccache's row and of the whole."""
_WRITTEN: _Made = (0, 0, 0.0, 0, 0)
"""Where that is in rows of their own."""


class Journal:
    """One open journal.

    `step` is the number of the last step in it.  `confirm(step)` is called when a step is in the
    database: whoever keeps that number elsewhere can tell a journal that has lost its end.
    """

    def __init__(self, path: str, confirm: Callable[[int], None]) -> None:
        self._confirm = confirm
        self._rows: dict[int, Row] = {}
        self._owners: dict[int, int] = {}
        self._late: set[int] = set()  # ccaches with records that their rows don't count yet
        self._moved = False
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
            self._db.executescript(SCHEMA)
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
        self._mountpoint, self._uid = _blob(mountpoint), uid
        try:
            found = recall(self._db, self._mountpoint, uid, step)
        except (sqlite3.Error, *WRONG) as error:
            raise DamagedError(_reason(error)) from None
        self._rows, self._late, self._total = found.rows, found.late, found.total
        for owner, row in found.rows.items():
            self._owners.update(dict.fromkeys(row.records, owner))
        self.step = found.step
        self._moved = True  # whoever has written it may not have had the time to clean it
        return found.saved

    def commit(self, store: Store, effects: Effects) -> None:
        """Have one step in the journal.

        Where that fails once, the next step writes everything anew.
        """
        if self._broken:
            self.rewrite(store)
        elif not self._append(store, effects):
            with _Transaction(self):
                self._remove(effects)
                for serial in effects.changed | effects.rewritten | self._late:
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

    def clean(self) -> bool:
        """Take out all that is left of deleted secrets; whether that was done.

        SQLite leaves copies behind of rows that it moves from page to page, and `secure_delete`
        knows nothing of them: the database is written anew where rows have gone one by one.
        """
        if self._moved:
            try:
                self._db.execute("VACUUM")
            except sqlite3.Error:
                return False
            self._moved = False
        return self.scrub()

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

    def _append(self, store: Store, effects: Effects) -> bool:
        """Have the step in one row, where it has stored one record and nothing else."""
        if effects.records or effects.ccaches or effects.rewritten or len(effects.changed) != 1:
            return False
        (owner,) = effects.changed
        added, ccache = effects.added.get(owner, ()), store.collection.by_serial(owner)
        row = self._rows.get(owner)
        if len(added) != 1 or ccache is None or row is None or row.fixed != _fixed(ccache):
            return False
        (stored,) = added
        data = ccache.image.record(stored.serial) if ccache.image else None
        if data is None:
            return False
        step, ledger = self.step + 1, store.ledger
        made = (step, ccache.change_time, ccache.mtime, ledger.change_time, ledger.register.last)
        try:
            record = (stored.serial, stored.serial, stored.name, data)
            self._db.execute(PUT_RECORD, _counted(row, owner, record, made))
        except Exception as error:
            self._broken = True
            raise DamagedError(_reason(error)) from None
        self._owners[stored.serial] = owner
        self._late.add(owner)
        self.step = step
        self._confirm(step)
        return True

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
                self._total = self._total - row.sum & MASK
                self._db.execute("DELETE FROM ccache WHERE serial = ?", (serial,))
                del self._rows[serial]

    def _drop(self, owner: int, serials: list[int]) -> None:
        """Records of one ccache, in one statement where they are all it has.

        Where nobody has any then, SQLite drops the pages and not one row after the other.
        """
        row = self._rows[owner]
        for serial in serials:
            row.total -= row.records.pop(serial)
            del self._owners[serial]
        row.total &= MASK
        if not self._owners and serials:
            self._db.execute("DELETE FROM record")
            return
        self._moved = self._moved or bool(serials)
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
        row = self._rows.setdefault(ccache.serial, Row())
        self._drop(ccache.serial, [*row.records])
        records = ccache.image.records() if ccache.image else []
        self._put_records(
            ccache, [(s.serial, place, s.name, d) for place, (d, s) in enumerate(records) if s]
        )
        self._put_row(ccache)

    def _put_records(self, ccache: Ccache, added: list[_Record]) -> None:
        owner = ccache.serial
        row = self._rows[owner]
        rows = [_counted(row, owner, record, _WRITTEN) for record in added]
        self._owners.update((record[0], owner) for record in added)
        if rows:
            self._db.executemany(PUT_RECORD, rows)

    def _put_row(self, ccache: Ccache) -> None:
        row, serial, fixed = self._rows[ccache.serial], ccache.serial, _fixed(ccache)
        name, rank, default, prefix = fixed
        changed, mtime = ccache.change_time, ccache.mtime
        check = sum_of_ccache(serial, name, rank, changed, default, mtime, prefix, row.total)
        self._total = self._total - row.sum + check & MASK
        row.sum = check
        if row.fixed == fixed:
            self._db.execute(TOUCH_CCACHE, (changed, mtime, row.total, check, serial))
            return
        row.fixed = fixed
        self._db.execute(
            PUT_CCACHE, (serial, name, rank, changed, default, mtime, prefix, row.total, check)
        )

    def _put_whole(self, store: Store) -> None:
        """The last of a step: all that was late is written."""
        self.step += 1
        self._late.clear()
        ledger = store.ledger
        fields = (self.step, ledger.change_time, ledger.register.last, self._total)
        check = sum_of_whole(self._mountpoint, self._uid, *fields)
        self._db.execute(TOUCH_WHOLE, (*fields, check))


class _Transaction:
    """One step in the database, or none of it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._db = journal._db

    def __enter__(self) -> None:
        self._journal._broken = True  # until the end is reached
        try:
            if self._db.in_transaction:  # one that could not be taken back
                self._db.execute("ROLLBACK")
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise DamagedError(_reason(error)) from None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                self._db.execute("COMMIT")
        except sqlite3.Error as refused:
            error = refused
        if error is None:
            self._journal._broken = False
            self._journal._confirm(self._journal.step)
        elif isinstance(error, Exception):
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise DamagedError(_reason(error)) from None


def _counted(row: Row, owner: int, record: _Record, made: _Made) -> tuple[Any, ...]:
    """A record as its row in the database, which its ccache counts from now on."""
    check = sum_of_record(owner, *(*record, *made))
    row.records[record[0]] = check
    row.total = row.total + check & MASK
    return (owner, *record, *made, check)


def _fixed(ccache: Ccache) -> tuple[bytes, int, int, bytes]:
    """What few steps change of a ccache's row: name, place, last time as the default, prefix."""
    image = ccache.image
    prefix = bytes(memoryview(image.data)[: image.body]) if image and image.prefix else b""
    return ccache.name, ccache.rank, ccache.last_default_time, prefix


def _blob(path: str) -> bytes:
    """A path as the kernel has it: any bytes."""
    return path.encode("utf-8", "surrogateescape")


def _reason(error: Exception) -> str:
    """What SQLite says of a failure: it never quotes content."""
    return str(error) if isinstance(error, sqlite3.Error) else "it is damaged"
