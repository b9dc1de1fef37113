"""The journal: what was acknowledged survives the process.

Each step of the store is one frame of a log.  It holds complete records, and scratch files that are
whole ccaches; other scratch files and incomplete tails die with their descriptors.  A log that is
mostly dead is written anew.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from ccfs.journal.errors import DamagedError
from ccfs.journal.log import Log
from ccfs.journal.replay import replay
from ccfs.journal.writer import Writer

if TYPE_CHECKING:
    from ccfs.store.ledger import Effects
    from ccfs.store.saved import Saved
    from ccfs.store.store import Store

SPARE = 256 * 1024
"""Bytes that a log may have beside twice what it had when it was written anew."""
_BESIDE = ".new"
"""Behind the name of the journal: a log that is to take its place."""


class Journal:
    """One open journal: the file at `path`, which no other process has open as one."""

    def __init__(self, path: str, *, fresh: bool) -> None:
        """Open it, or begin a new one beside it, which `create` puts in its place.

        Raises InUseError, DamagedError.
        """
        self._path = path
        try:
            self._writer = Writer(Log(path + _BESIDE * fresh, fresh=fresh), {}, {})
        except OSError as error:
            raise DamagedError(_reason(error)) from None

    @property
    def step(self) -> int:
        """The number of the last step in it."""
        return self._writer.log.step

    def create(self, mountpoint: str, uid: int, store: Store) -> None:
        """Begin a new one with what the store has now.  DamagedError where there is no room."""
        self._mountpoint, self._uid = _blob(mountpoint), uid
        try:
            self._fill(self._writer, store)
        except OSError as error:
            raise DamagedError(_reason(error)) from None

    def load(self, mountpoint: str, uid: int) -> Saved:
        """Read everything back.

        Raises DamagedError for a journal that is damaged, of another version, of another owner, or
        that has lost its end; ForeignError for one of another mountpoint.
        """
        self._mountpoint, self._uid = _blob(mountpoint), uid
        log = self._writer.log
        try:
            log.check(self._mountpoint, uid)
            found = replay(log)
            log.forget_rest()
        except (OSError, struct.error, KeyError, ValueError) as error:
            raise DamagedError(_reason(error)) from None
        self._writer = Writer(log, found.ccaches, found.files)
        self._most = 2 * log.end + SPARE
        return found.saved

    def commit(self, store: Store, effects: Effects) -> None:
        """Have one step in the journal, and all that could not be before.

        DamagedError where it can't be: what it has changed is written anew with the next step.
        """
        try:
            self._writer.commit(store, effects)
        except Exception as error:
            raise DamagedError(_reason(error)) from None
        if self._writer.log.end > self._most:
            self._write_anew(store)

    def is_at(self, path: str) -> bool:
        """Whether a path leads to what is open here, or is to do so."""
        return self._writer.log.is_file(path) or self._writer.log.is_file(path + _BESIDE)

    def close(self) -> None:
        """Let the file go."""
        self._writer.log.close()

    def _fill(self, writer: Writer, store: Store) -> None:
        """Have all of a store in an empty log, and that in the journal's place.  Raises OSError."""
        writer.log.begin(self._mountpoint, self._uid)
        writer.write_all(store)
        os.rename(self._path + _BESIDE, self._path)
        self._most = 2 * writer.log.end + SPARE

    def _write_anew(self, store: Store) -> None:
        """Leave out what is dead; where there is no room for both the log stays as it is."""
        old, self._most = self._writer, 2 * self._most
        with suppress(OSError):
            new = Writer(Log(self._path + _BESIDE, fresh=True), {}, {})
            try:
                self._fill(new, store)
            except BaseException:
                new.log.close()
                os.unlink(self._path + _BESIDE)
                raise
            self._writer = new
            old.log.wipe()
            old.log.close()


def _blob(path: str) -> bytes:
    """A path as the kernel has it: any bytes."""
    return path.encode("utf-8", "surrogateescape")


def _reason(error: Exception) -> str:
    """What the kernel says of a failure; nothing else may quote content."""
    said = isinstance(error, OSError) and error.strerror
    return said.lower() if said else "it is damaged"
