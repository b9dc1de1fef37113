"""The journal: what was acknowledged survives the process.

An SQLite database in WAL mode on a file that somebody else has chosen and checked.  It holds
complete records only, and scratch files that are whole ccaches; other scratch files and incomplete
tails die with their descriptors.  Every row has
a checksum, every ccache the sum over its records, the whole the sum over its ccaches and the number
of the last step, so that what is read back is what was written, or an error.  A step that has
stored one record and nothing else is that record's row alone, with the number of the step; what it
means for ccache and whole is written with the next step of another kind.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from ccfs.store.errors import DamagedError, InUseError
from ccfs.store.recall import WRONG, recall
from ccfs.store.rows import Rows
from ccfs.store.tables import APPLICATION, SCHEMA, TOUCH_WHOLE, VERSION, sum_of_whole

if TYPE_CHECKING:
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


class Journal:
    """One open journal.

    `step` is the number of the last step in it.  `confirm(step)` is called when a step is in the
    database: whoever keeps that number elsewhere can tell a journal that has lost its end.
    """

    def __init__(self, path: str, confirm: Callable[[int], None]) -> None:
        self._confirm = confirm
        self._late: set[int] = set()  # ccaches with records that their rows don't count yet
        self.step = 0
        self._broken = False
        try:
            self._db = sqlite3.connect(
                path, timeout=1.0, isolation_level=None, cached_statements=64
            )
            for pragma in _PRAGMAS:
                self._db.execute(f"PRAGMA {pragma}")
            self._rows = Rows(self._db)
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
        self._rows = Rows(self._db, found.rows, found.files, found.total)
        self._late = found.late
        self.step = found.step
        return found.saved

    def commit(self, store: Store, effects: Effects) -> None:
        """Have one step in the journal.

        Where that fails once, the next step writes everything anew.
        """
        if self._broken:
            self.rewrite(store)
        elif not self._append(store, effects):
            with _Transaction(self):
                self._rows.remove(effects)
                for serial in effects.changed | effects.rewritten | self._late:
                    ccache = store.collection.by_serial(serial)
                    if ccache is not None:
                        self._rows.put(ccache, effects)
                for place in effects.files:
                    generation = store.scratch.find(*place)
                    kept = generation is not None and generation.kept
                    self._rows.put_file(place, generation if kept else None)
                self._put_whole(store)

    def rewrite(self, store: Store) -> None:
        """Write everything anew."""
        with _Transaction(self):
            self._rows.clear()
            for ccache in store.collection.all():
                self._rows.put_all(ccache)
            for place, generation in store.scratch.kept():
                self._rows.put_file(place, generation)
            self._put_whole(store)

    def clean(self) -> bool:
        """Take out all that is left of deleted secrets; whether that was done.

        SQLite leaves copies behind of rows that it moves from page to page, and `secure_delete`
        knows nothing of them: the database is written anew where rows have gone one by one.
        """
        if self._rows.moved:
            try:
                self._db.execute("VACUUM")
            except sqlite3.Error:
                return False
            self._rows.moved = False
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
        if effects.records or effects.ccaches or effects.rewritten or effects.files:
            return False
        if len(effects.changed) != 1:
            return False
        (owner,) = effects.changed
        added, ccache = effects.added.get(owner, ()), store.collection.by_serial(owner)
        if len(added) != 1 or ccache is None or ccache.image is None:
            return False
        (stored,) = added
        data = ccache.image.record(stored.serial)
        if data is None:
            return False
        step, ledger = self.step + 1, store.ledger
        made = (step, ccache.change_time, ccache.mtime, ledger.change_time, ledger.register.last)
        try:
            record = (stored.serial, stored.serial, stored.name, data)
            if not self._rows.append(ccache, record, made):
                return False
        except Exception as error:
            self._broken = True
            raise DamagedError(_reason(error)) from None
        self._late.add(owner)
        self.step = step
        self._confirm(step)
        return True

    def _put_whole(self, store: Store) -> None:
        """The last of a step: all that was late is written."""
        self.step += 1
        self._late.clear()
        ledger = store.ledger
        fields = (self.step, ledger.change_time, ledger.register.last, self._rows.total)
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


def _blob(path: str) -> bytes:
    """A path as the kernel has it: any bytes."""
    return path.encode("utf-8", "surrogateescape")


def _reason(error: Exception) -> str:
    """What SQLite says of a failure: it never quotes content."""
    return str(error) if isinstance(error, sqlite3.Error) else "it is damaged"
