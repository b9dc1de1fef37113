# SPDX-License-Identifier: MIT
"""A journal that is made at the first step that has to last.

On a host with many users most mounts hold nothing: those have no journal file.  Knows when there
has to be one; never what is in it.  The store is imported where it is needed, as in `open_journal`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ccfs.errors import JournalError
from ccfs.journal import location
from ccfs.journal.open_journal import OpenJournal

if TYPE_CHECKING:
    from ccfs.store import Limits, Stamp, Store
    from ccfs.store.effects import Effects


def open_journal(path: str, mountpoint: str, *, lazy: bool) -> OpenJournal | LazyJournal:
    """Open the journal of a mountpoint; where there is none make it, or (`lazy`) make it later.

    JournalError where the file at `path` can't be used.
    """
    if lazy and not location.check_file(path):
        return LazyJournal(path, mountpoint)
    return OpenJournal.open(path, mountpoint)


class LazyJournal:
    """A journal that is made at the first step that has to last.

    Where it can't be made that step fails, and the next one tries again.
    """

    def __init__(self, path: str, mountpoint: str) -> None:
        self._path = path
        self._mountpoint = mountpoint
        self._opened: OpenJournal | None = None

    @property
    def journal(self) -> LazyJournal:
        """What steps are committed to."""
        return self

    def store(self, limits: Limits, at: Stamp) -> Store:
        """Return a new store."""
        from ccfs.store import Store

        self._uid = at.client.uid
        store = Store(limits, at)
        store.take_effects()  # those of making it: `_make` writes all that the store has
        return store

    @property
    def mark(self) -> tuple[int, int]:
        """The mark of the next step (`Journal.mark`); (0, 0) for the one that makes the journal."""
        return self._opened.journal.mark if self._opened is not None else (0, 0)

    @property
    def last(self) -> Effects:
        """What the last step of an earlier daemon made stale: there was none."""
        from ccfs.store.effects import Effects

        return Effects()

    def has_made(self, mark: tuple[int, int]) -> bool:
        """Whether the step that was next when `mark` was taken is in the journal."""
        return self._opened is not None and self._opened.journal.has_made(mark)

    def commit(self, store: Store, effects: Effects) -> None:
        """Write one step.  DamagedError where it can't be."""
        if self._opened is None:
            self._opened = self._make(store)
        else:
            self._opened.journal.commit(store, effects)

    def close(self, *, wipe: bool) -> None:
        """Close it; `wipe`: overwrite and remove it."""
        if self._opened is not None:
            self._opened.close(wipe=wipe)

    def _make(self, store: Store) -> OpenJournal:
        """Make the file with all that the store has, which the present step has changed already."""
        from ccfs.store.errors import DamagedError

        try:
            opened = OpenJournal.open(self._path, self._mountpoint)
        except JournalError as error:
            raise DamagedError(error.reason) from None
        try:
            opened.journal.create(self._mountpoint, self._uid, store)
        except BaseException:
            opened.close(wipe=True)
            raise
        return opened
