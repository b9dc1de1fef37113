# SPDX-License-Identifier: MIT
"""Open the journal of a mount: create it, read it back, or convert it from an earlier version.

Knows where the journal is and what can be wrong with it; never FUSE.  The store and the readers of
earlier versions are imported where they are needed: the fork server of daemons imports this module
before it knows whether any mount has a journal.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from ccfs.errors import JournalError
from ccfs.journal import location

if TYPE_CHECKING:
    from ccfs.store import Limits, Stamp, Store


def _legacy_reader(path: str) -> ModuleType | None:
    """The module that reads a journal of an earlier version; None where it is of this one."""
    from ccfs.journal.log import VERSION, version_of

    if version_of(path) == VERSION:  # nearly always, and the readers' imports are large
        return None
    from ccfs.journal import legacy_log, legacy_sqlite

    return next((one for one in (legacy_log, legacy_sqlite) if one.is_journal(path)), None)


class OpenJournal:
    """The journal of a mount.  `journal`: what steps are committed to."""

    def __init__(self, path: str, mountpoint: str, *, fresh: bool) -> None:
        """Open the journal of a mountpoint, or (`fresh`) begin one.  InUseError, DamagedError."""
        from ccfs.journal.journal import Journal

        self._path = path
        self._mountpoint = mountpoint
        self._fresh = fresh
        self._legacy = None if fresh else _legacy_reader(path)
        self.journal = Journal(path, fresh=fresh or self._legacy is not None)

    @classmethod
    def open(cls, path: str, mountpoint: str) -> OpenJournal:
        """Open or make the journal; JournalError where it can't be used."""
        from ccfs.store.errors import DamagedError, InUseError

        fresh = not location.check_file(path)
        try:
            return cls(path, mountpoint, fresh=fresh)
        except InUseError:
            raise JournalError(
                f"the journal {path} is in use by process {location.holder(path)}",
                "end that one, or name another path with '--journal'",
            ) from None
        except DamagedError as error:
            raise _set_aside(path, str(error)) from None

    def store(self, limits: Limits, at: Stamp) -> Store:
        """Return the store that the journal holds, or a new store whose steps go to the journal.

        JournalError where the journal can't be made or used.
        """
        return self._create(limits, at) if self._fresh else self._load(limits, at)

    def close(self, *, wipe: bool) -> None:
        """Close it; `wipe`: overwrite and remove it.

        Another mount's file that was put at the path in the meantime stays.
        """
        same_file = self.journal.is_at(self._path)
        self.journal.close()
        if wipe and same_file:
            location.wipe(self._path)

    def _create(self, limits: Limits, at: Stamp) -> Store:
        from ccfs.store import Store
        from ccfs.store.errors import DamagedError

        store = Store(limits, at)
        try:
            self.journal.create(self._mountpoint, at.client.uid, store)
        except DamagedError as error:
            self.close(wipe=True)
            raise JournalError(f"cannot make the journal {self._path}: {error}") from None
        return store

    def _load(self, limits: Limits, at: Stamp) -> Store:
        from ccfs.store import Store
        from ccfs.store.errors import (
            DamagedError,
            ForeignError,
            InUseError,
            NewerError,
            StoreError,
        )

        path = self._path
        try:
            if self._legacy is not None:
                return self._convert(self._legacy, limits, at)
            return Store(limits, at, self.journal.load(self._mountpoint, at.client.uid))
        except InUseError:
            raise JournalError(
                f"the journal {path} is in use", "end the daemon of the earlier ccfs"
            ) from None
        except ForeignError:
            raise JournalError(
                f"the journal {path} belongs to another mountpoint", "name another path"
            ) from None
        except NewerError as error:
            raise JournalError(
                f"cannot use the journal {path}: {error}",
                "mount with the newer ccfs that has made it, or name another path",
            ) from None
        except (DamagedError, StoreError) as error:
            raise _set_aside(path, str(error)) from None

    def _convert(self, legacy: ModuleType, limits: Limits, at: Stamp) -> Store:
        """Read a journal of an earlier version, and write one of this version in its place."""
        from ccfs.store import Store
        from ccfs.store.errors import DamagedError

        path, mountpoint, uid = self._path, self._mountpoint, at.client.uid
        store = Store(limits, at, legacy.read(path, mountpoint, uid))
        with open(path, "r+b", buffering=0) as file:
            try:
                self.journal.create(mountpoint, uid, store)
            except DamagedError as error:
                raise JournalError(
                    f"cannot write the journal {path} anew: {error}", "make room, and mount again"
                ) from None
            location.overwrite(file.fileno())
        legacy.remove_other_files(path)
        return store


def _set_aside(path: str, reason: str) -> JournalError:
    aside = location.set_aside(path)
    return JournalError(
        f"cannot use the journal {path}: {reason}",
        f"it is kept as {aside}; mount again to begin without it",
    )
