"""A journal that is made when there is something to keep.

On a host with many users most mounts hold nothing: those cost no journal.  Knows when there has to
be one; never what is in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ccfs.errors import JournalError
from ccfs.journal import location
from ccfs.journal.open_journal import OpenJournal

if TYPE_CHECKING:
    from ccfs.daemon.options import MountOptions
    from ccfs.store import Stamp, Store
    from ccfs.store.effects import Effects


def keep(options: MountOptions) -> OpenJournal | LazyJournal | None:
    """The journal that the options ask for, which is open if there is one already.

    Raises JournalError where what is there can't be used.
    """
    if not options.journal:
        return None
    path = options.journal
    if options.control >= 0 and not location.check_file(path):
        return LazyJournal(options)
    return OpenJournal.open(options)


class LazyJournal:
    """A journal that is made at the first step that is to last; it is its own `journal` until then.

    Where it can't be made, that step fails, and the next one tries again.
    """

    def __init__(self, options: MountOptions) -> None:
        self._options = options
        self._kept: OpenJournal | None = None

    @property
    def journal(self) -> LazyJournal:
        """What steps are committed to."""
        return self

    def store(self, options: MountOptions, at: Stamp) -> Store:
        """A new store: there is nothing that it could be made of."""
        from ccfs.store import Store

        self._uid = at.client.uid
        store = Store(options.limits, at)
        store.take_effects()  # its making is no step that anybody was told of
        return store

    @property
    def mark(self) -> tuple[int, int]:
        """What tells the next step from all others; (0, 0) for the one that makes the journal."""
        return self._kept.journal.mark if self._kept is not None else (0, 0)

    @property
    def last(self) -> Effects:
        """What the last step made stale that an earlier daemon has made: there was none."""
        from ccfs.store.effects import Effects

        return Effects()

    def has_made(self, mark: tuple[int, int]) -> bool:
        """Whether the step that was next when `mark` was taken is in the journal."""
        return self._kept is not None and self._kept.journal.has_made(mark)

    def commit(self, store: Store, effects: Effects) -> None:
        """Have a step kept.  Raises DamagedError where it can't be."""
        if self._kept is None:
            self._kept = self._make(store)
        else:
            self._kept.journal.commit(store, effects)

    def close(self, *, wipe: bool) -> None:
        """Close it; `wipe`: its content is wanted no more."""
        if self._kept is not None:
            self._kept.close(wipe=wipe)

    def _make(self, store: Store) -> OpenJournal:
        """Begin it with all that the store has, the step that is to be kept included."""
        from ccfs.store.errors import DamagedError

        try:
            kept = OpenJournal.open(self._options)
        except JournalError as error:
            raise DamagedError(error.reason) from None
        try:
            kept.journal.create(self._options.journal_mountpoint, self._uid, store)
        except BaseException:
            kept.close(wipe=True)
            raise
        return kept
