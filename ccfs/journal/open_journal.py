"""The journal of a mount, open: made anew, or loaded.

Knows the journal's place and what can be wrong with it; never FUSE.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from ccfs.errors import JournalError
from ccfs.journal import location

if TYPE_CHECKING:
    from ccfs.daemon.options import MountOptions
    from ccfs.store import Stamp, Store


def _earlier(path: str) -> ModuleType | None:
    """Who reads a journal of an earlier version; None where it is none."""
    from ccfs.journal.log import VERSION, version_of

    if version_of(path) == VERSION:  # mostly, and the others are large
        return None
    from ccfs.journal import legacy_log, legacy_sqlite

    return next((one for one in (legacy_log, legacy_sqlite) if one.is_one(path)), None)


class OpenJournal:
    """The journal of a mount, open."""

    def __init__(self, path: str, *, fresh: bool) -> None:
        from ccfs.journal.journal import Journal

        self._path = path
        self._fresh = fresh
        self._earlier = None if fresh else _earlier(path)
        self.journal = Journal(path, fresh=fresh or self._earlier is not None)

    @classmethod
    def open(cls, options: MountOptions) -> OpenJournal:
        """Open or make the journal; JournalError where it can't be used."""
        from ccfs.store.errors import DamagedError, InUseError

        path = options.journal
        fresh = not location.check_file(path)
        try:
            return cls(path, fresh=fresh)
        except InUseError:
            raise JournalError(
                f"the journal {path} is in use by process {location.holder(path)}",
                "end that one, or name another path with '--journal'",
            ) from None
        except DamagedError as error:
            raise _aside(path, str(error)) from None

    def store(self, options: MountOptions, at: Stamp) -> Store:
        """The store that the journal has, or a new one that it has from now on."""
        return self._made(options, at) if self._fresh else self._loaded(options, at)

    def close(self, *, wipe: bool) -> None:
        """Close it; `wipe`: its content is wanted no more.

        Somebody may have put the file away, and another mount may have one in its place.
        """
        ours = self.journal.is_at(self._path)
        self.journal.close()
        if wipe and ours:
            location.wipe(self._path)

    def _made(self, options: MountOptions, at: Stamp) -> Store:
        from ccfs.store import Store
        from ccfs.store.errors import DamagedError

        store = Store(options.limits, at)
        try:
            self.journal.create(options.journal_mountpoint, at.client.uid, store)
        except DamagedError as error:
            self.close(wipe=True)
            raise JournalError(f"cannot make the journal {self._path}: {error}") from None
        return store

    def _loaded(self, options: MountOptions, at: Stamp) -> Store:
        from ccfs.store import Store
        from ccfs.store.errors import (
            DamagedError,
            ForeignError,
            InUseError,
            NewerError,
            StoreError,
        )

        path, mountpoint, uid = self._path, options.journal_mountpoint, at.client.uid
        try:
            if self._earlier is not None:
                return self._rewritten(self._earlier, options, at)
            return Store(options.limits, at, self.journal.load(mountpoint, uid))
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
            raise _aside(path, str(error)) from None

    def _rewritten(self, old: ModuleType, options: MountOptions, at: Stamp) -> Store:
        """The store that a journal of an earlier version has, which is of this one from now on."""
        from ccfs.store import Store
        from ccfs.store.errors import DamagedError

        path, mountpoint, uid = self._path, options.journal_mountpoint, at.client.uid
        store = Store(options.limits, at, old.read(path, mountpoint, uid))
        with open(path, "r+b", buffering=0) as file:
            try:
                self.journal.create(mountpoint, uid, store)
            except DamagedError as error:
                raise JournalError(
                    f"cannot write the journal {path} anew: {error}", "make room, and mount again"
                ) from None
            location.overwrite(file.fileno())
        old.remove(path)
        return store


def _aside(path: str, why: str) -> JournalError:
    aside = location.set_aside(path)
    return JournalError(
        f"cannot use the journal {path}: {why}",
        f"it is kept as {aside}; mount again to begin without it",
    )
