"""The rows of the journal for ccaches and their records, and the sums over them.

Knows what the database has of each ccache; never steps, nor what a step was for.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

from ccfs.store.tables import (
    DROP_FILE,
    DROP_RECORD,
    MASK,
    PUT_CCACHE,
    PUT_FILE,
    PUT_RECORD,
    TOUCH_CCACHE,
    Row,
    sum_of_ccache,
    sum_of_file,
    sum_of_record,
)

if TYPE_CHECKING:
    from ccfs.store.ccache import Ccache
    from ccfs.store.generation import Generation
    from ccfs.store.ledger import Effects

Record = tuple[int, int, str, bytes]
"""Serial number, place, name, bytes."""
Made = tuple[int, int, float, int, int]
"""The number of a step, and what it has made of its ccache's row and of the whole."""
WRITTEN: Made = (0, 0, 0.0, 0, 0)
"""Where that is in rows of their own."""


class Rows:
    """What is in the database.

    `total`: the sum over the ccaches and the files.  `moved`: whether rows have gone one by one, so
    that copies of them may be left where SQLite has moved them from.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        rows: dict[int, Row] | None = None,
        files: dict[tuple[int, bytes], int] | None = None,
        total: int = 0,
    ) -> None:
        """`rows`, `files` (their sums) and `total`: what the database is known to have."""
        self._db = db
        self._rows = rows or {}
        self._files = files or {}
        self.total = total
        self.moved = bool(rows)  # whoever has written them may not have had the time to clean it

    def clear(self) -> None:
        """Take everything out."""
        self._db.execute("DELETE FROM record")
        self._db.execute("DELETE FROM ccache")
        self._db.execute("DELETE FROM file")
        self._rows, self._files, self.total = {}, {}, 0

    def append(self, ccache: Ccache, record: Record, made: Made) -> bool:
        """Put in one record, where all else that is there of its ccache stays as it is."""
        row = self._rows.get(ccache.serial)
        if row is None or row.fixed != _fixed(ccache):
            return False
        self._db.execute(PUT_RECORD, _counted(row, ccache.serial, record, made))
        return True

    def remove(self, effects: Effects) -> None:
        """Take out what is gone."""
        for serial in effects.ccaches:
            row = self._rows.get(serial)
            if row is not None:
                self._drop_all(serial)
                self.total = self.total - row.sum & MASK
                self._db.execute("DELETE FROM ccache WHERE serial = ?", (serial,))
                del self._rows[serial]
        for owner in effects.records.keys() & self._rows.keys() - effects.rewritten:
            self._drop(owner, effects.records[owner])

    def _drop(self, owner: int, serials: list[int]) -> None:
        """Records of one ccache; not all need be in the database."""
        row = self._rows[owner]
        for serial in serials:
            for (check,) in self._db.execute(DROP_RECORD, (owner, serial)):
                row.total = row.total - check & MASK
                row.count -= 1
                self.moved = True

    def _drop_all(self, owner: int) -> None:
        """Where no ccache has records then, SQLite drops the pages, not one row after another."""
        row = self._rows[owner]
        if row.count == sum(other.count for other in self._rows.values()):
            self._db.execute("DELETE FROM record")
        elif row.count:
            self.moved = True
            self._db.execute("DELETE FROM record WHERE ccache = ?", (owner,))
        row.count, row.total = 0, 0

    def put(self, ccache: Ccache, effects: Effects) -> None:
        """Put in what a ccache has got, or has instead of what it had."""
        if ccache.serial in effects.rewritten or ccache.serial not in self._rows:
            self.put_all(ccache)
            return
        image = ccache.image
        added = effects.added.get(ccache.serial, ())
        found = [(s, image.record(s.serial)) for s in added] if image else []
        self._put_records(
            ccache, [(s.serial, s.serial, s.name, d) for s, d in found if d is not None]
        )
        self._put_row(ccache)

    def put_all(self, ccache: Ccache) -> None:
        """All of one ccache, its records in their places."""
        self._rows.setdefault(ccache.serial, Row())
        self._drop_all(ccache.serial)
        records = ccache.image.records() if ccache.image else []
        self._put_records(
            ccache, [(s.serial, place, s.name, d) for place, (d, s) in enumerate(records) if s]
        )
        self._put_row(ccache)

    def put_file(self, place: tuple[int, bytes], generation: Generation | None) -> None:
        """Put in a scratch file as it is, or take it out (None)."""
        before = self._files.pop(place, 0)
        self.total = self.total - before & MASK
        self.moved = self.moved or bool(before)
        if generation is None:
            self._db.execute(DROP_FILE, place)
            return
        fields = (*place, generation.mtime, bytes(generation.data))
        check = self._files[place] = sum_of_file(*fields)
        self.total = self.total + check & MASK
        self._db.execute(PUT_FILE, (*fields, check))

    def _put_records(self, ccache: Ccache, added: list[Record]) -> None:
        owner = ccache.serial
        row = self._rows[owner]
        rows = [_counted(row, owner, record, WRITTEN) for record in added]
        if rows:
            self._db.executemany(PUT_RECORD, rows)

    def _put_row(self, ccache: Ccache) -> None:
        row, serial, fixed = self._rows[ccache.serial], ccache.serial, _fixed(ccache)
        name, rank, default, prefix = fixed
        changed, mtime = ccache.change_time, ccache.mtime
        check = sum_of_ccache(serial, name, rank, changed, default, mtime, prefix, row.total)
        self.total = self.total - row.sum + check & MASK
        row.sum = check
        if row.fixed == fixed:
            self._db.execute(TOUCH_CCACHE, (changed, mtime, row.total, check, serial))
            return
        row.fixed = fixed
        self._db.execute(
            PUT_CCACHE, (serial, name, rank, changed, default, mtime, prefix, row.total, check)
        )


def _counted(row: Row, owner: int, record: Record, made: Made) -> tuple[Any, ...]:
    """A record as its row in the database, which its ccache counts from now on."""
    check = sum_of_record(owner, *(*record, *made))
    row.count += 1
    row.total = row.total + check & MASK
    return (owner, *record, *made, check)


def _fixed(ccache: Ccache) -> tuple[bytes, int, int, bytes]:
    """What few steps change of a ccache's row: name, place, last time as the default, prefix."""
    image = ccache.image
    prefix = bytes(memoryview(image.data)[: image.body]) if image and image.prefix else b""
    return ccache.name, ccache.rank, ccache.last_default_time, prefix
