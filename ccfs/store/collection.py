"""The ccaches of a user: their names, their order, and which is the default.

The default is the head of the list, as in the CCAPI.  A collection is never empty-handed: where
no ccache is initialised, the default is the ccache `tkt`, made when it is missing.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ccfs.format.names import encode_name
from ccfs.store.ccache import Ccache
from ccfs.store.changes import Ledger
from ccfs.store.effects import Listing
from ccfs.store.errors import (
    BadNameError,
    CcacheLimitError,
    ExistsError,
    NameTooLongError,
    NotFoundError,
)
from ccfs.store.generations import Generations
from ccfs.store.values import DEFAULT_NAME, NAME_MAX, EventKind, Stamp


class Restored(NamedTuple):
    """A collection as it was before a restart; fields as those of `Collection`."""

    ccaches: Sequence[Ccache]
    mtime: float
    unique: int
    chosen: bool


class Collection:
    """All ccaches in list order, the default first.

    `chosen`: whether a client has said which is the default; otherwise the first that is
    initialised by name alone (CCAPI, KCM) becomes it.  `unique`: the number that the next
    ccache without a name of its own is called by.
    """

    def __init__(
        self, ledger: Ledger, generations: Generations, at: Stamp, saved: Restored | None = None
    ) -> None:
        self._ledger = ledger
        self._generations = generations
        self._order: list[Ccache] = []
        self._names: dict[bytes, Ccache] = {}
        self._serials = ledger.register.ccaches
        self.unique = saved.unique if saved else 0
        self.mtime = saved.mtime if saved else at.now
        self.chosen = bool(saved and saved.chosen)
        for ccache in saved.ccaches if saved else ():
            self._add(ccache)
        if not self._order:
            first = self.create(DEFAULT_NAME, at)
            first.last_default_time = first.change_time

    @property
    def default(self) -> Ccache:
        """The default ccache, initialised or not."""
        return self._order[0]

    def all(self) -> list[Ccache]:
        """All directories in list order, those of uninitialised ccaches too."""
        return list(self._order)

    def find(self, name: bytes) -> Ccache | None:
        """The ccache of a name."""
        return self._names.get(name)

    def get(self, name: bytes) -> Ccache:
        """The ccache of a name, or NotFoundError."""
        found = self._names.get(name)
        if found is None:
            raise NotFoundError("no such ccache")
        return found

    def by_serial(self, serial: int) -> Ccache | None:
        """The ccache of a serial number."""
        return self._serials.get(serial)

    def by_ident(self, ident: bytes) -> Ccache | None:
        """The ccache of an identifier, in its one form."""
        try:
            found = self._serials.get(int(ident, 16))
        except ValueError:
            return None
        return found if found and found.ident.encode("ascii") == ident else None

    def unique_name(self) -> bytes:
        """A name that no ccache has: the default name, or a decimal number (as the CCAPI)."""
        if not any(c.initialised for c in self._order):
            return DEFAULT_NAME
        while b"%d" % self.unique in self._names:
            self.unique += 1
        return b"%d" % self.unique

    def create(self, name: bytes, at: Stamp) -> Ccache:
        """Make an uninitialised ccache at the end of the list."""
        check_name(name)
        if name in self._names:
            raise ExistsError("the ccache exists")
        if len(self._order) >= self._ledger.limits.ccaches:
            raise CcacheLimitError(f"over {self._ledger.limits.ccaches} ccaches")
        ccache = Ccache(name, at.now, self._ledger.register)
        self._add(ccache)
        self._listed(at)
        self._ledger.record(at, EventKind.CREATED, ccache)
        return ccache

    def destroy(self, ccache: Ccache, at: Stamp) -> None:
        """Remove a ccache; if it was the default, the next in the list becomes it."""
        default = ccache is self.default
        self._remove(ccache, at)
        self._ledger.record(at, EventKind.DESTROYED, ccache)
        if default:
            self._succeed(at)

    def set_default(self, ccache: Ccache, at: Stamp) -> None:
        """Make a ccache the default; nothing else is to see where it is."""
        if not self.chosen:
            self.chosen = True
            self._ledger.effects.metadata.add(ccache.serial)
        self.lead(ccache, at)

    def has_default(self) -> bool:
        """Whether a default was initialised or chosen."""
        return self.chosen or self.default.initialised

    def lead(self, ccache: Ccache, at: Stamp) -> None:
        """Have a ccache be the default, although no client has chosen it."""
        old = self._order[0]
        if ccache is old:
            return
        old.bump(at.now)
        self._ledger.effects.changed.add(old.serial)
        self._order.remove(ccache)
        self._lead(ccache, at)

    def rename(self, ccache: Ccache, name: bytes, at: Stamp) -> None:
        """Give a ccache a free name; it stays what and where it is."""
        check_name(name)
        if name in self._names:
            raise ExistsError("the ccache exists")
        del self._names[ccache.name]
        ccache.name = name
        self._names[name] = ccache
        self._listed(at)
        self._ledger.record(at, EventKind.RENAMED, ccache)

    def move(self, source: Ccache, target: Ccache, at: Stamp) -> None:
        """The CCAPI move: `target` becomes what `source` is, and `source` goes.

        A move onto itself changes nothing.
        """
        if source is target:
            return
        default = source is self.default
        self._transfer(source, target, at)
        self._remove(source, at)
        if default:
            self._succeed(at)

    def move_content(self, source: Ccache, target: Ccache, at: Stamp) -> None:
        """The same, but `source` stays, uninitialised."""
        if source is target:
            return
        self._transfer(source, target, at)
        self._ledger.record(at, EventKind.UNINITIALISED, source)
        if source is self.default:
            self._succeed(at)

    def _transfer(self, source: Ccache, target: Ccache, at: Stamp) -> None:
        if source.current is None:
            raise NotFoundError("nothing to move")
        target.change_time = max(target.change_time, source.change_time)
        self._generations.transfer(source, target, at)

    def _add(self, ccache: Ccache) -> None:
        self._order.append(ccache)
        self._names[ccache.name] = ccache
        self._serials[ccache.serial] = ccache

    def _remove(self, ccache: Ccache, at: Stamp) -> None:
        self._generations.detach(ccache, at)
        self._order.remove(ccache)
        del self._names[ccache.name], self._serials[ccache.serial]
        self._ledger.effects.destroyed.append(ccache.serial)
        self._listed(at)

    def _succeed(self, at: Stamp) -> None:
        """Choose a default: the next that is initialised, else the one by the default name."""
        successor = next((c for c in self._order if c.initialised), None)
        successor = successor or self.find(DEFAULT_NAME)
        if successor is None:
            successor = self.create(DEFAULT_NAME, at)
        self.chosen = self.chosen and successor.initialised
        self._order.remove(successor)
        self._lead(successor, at)

    def _lead(self, ccache: Ccache, at: Stamp) -> None:
        ccache.rank = -self._ledger.number()
        self._order.insert(0, ccache)
        self._ledger.record(at, EventKind.DEFAULT, ccache)
        ccache.last_default_time = ccache.change_time
        self._ledger.effects.listings.add(Listing.COLLECTION)

    def _listed(self, at: Stamp) -> None:
        self.mtime = at.now
        self._ledger.effects.listings.add(Listing.COLLECTION)


def check_name(name: bytes) -> None:
    """Refuse what can't name a ccache: BadNameError, NameTooLongError."""
    if name.startswith(b"tkt.") or b"\0" in name:
        raise BadNameError("a ccache's name does not begin with tkt. and holds no NUL")
    if len(encode_name(name).encode("utf-8")) > NAME_MAX:
        raise NameTooLongError(f"the encoded name is over {NAME_MAX} bytes")
