# SPDX-License-Identifier: MIT
"""The ccaches of a user: their names, their order, and which is the default.

The default is the head of the list, as in the CCAPI.  There is always one: where no ccache is
initialised it is the ccache `tkt`, made when it is missing.
"""

from collections.abc import Sequence

from ccfs.format.names import encode_name
from ccfs.store.ccache import Ccache
from ccfs.store.changes import Changes
from ccfs.store.contents import Contents
from ccfs.store.effects import Listing
from ccfs.store.errors import (
    BadNameError,
    CcacheLimitError,
    ExistsError,
    NameTooLongError,
    NotFoundError,
)
from ccfs.store.ids import Ids
from ccfs.store.values import DEFAULT_NAME, NAME_MAX, EventKind, Stamp


class Collection:
    """All ccaches in list order, the default first.

    `mtime`: when an entry of `caches/` or `dir/` last came or went, in seconds since the epoch.
    `default_chosen`: whether a client has chosen the default; otherwise the first that is
    initialised by its name alone (CCAPI, KCM) becomes it.  `next_number`: the number that names the
    next ccache whose client gave no name.
    """

    def __init__(
        self,
        ccaches: dict[int, Ccache],
        contents: Contents,
        ids: Ids,
        changes: Changes,
        limit: int,
    ) -> None:
        """`ccaches`: all ccaches by serial number, empty yet.  `limit`: how many there may be."""
        self._by_serial = ccaches
        self._contents = contents
        self._ids = ids
        self._changes = changes
        self._limit = limit
        self._order: list[Ccache] = []
        self._by_name: dict[bytes, Ccache] = {}
        self.mtime = 0.0
        self.default_chosen = False
        self.next_number = 0

    def begin(self, at: Stamp) -> None:
        """Make the first ccache of a new store, the default."""
        self.mtime = at.now
        first = self.create(DEFAULT_NAME, at)
        first.last_default_time = first.change_time

    def restore(
        self, ccaches: Sequence[Ccache], mtime: float, *, next_number: int, default_chosen: bool
    ) -> None:
        """Restore the ccaches, the default first."""
        self.mtime, self.next_number, self.default_chosen = mtime, next_number, default_chosen
        for ccache in ccaches:
            self._add(ccache)

    @property
    def default(self) -> Ccache:
        """The default ccache, initialised or not."""
        return self._order[0]

    @property
    def has_default(self) -> bool:
        """Whether a default was initialised or chosen."""
        return self.default_chosen or self.default.initialised

    def all(self) -> list[Ccache]:
        """All ccaches in list order, uninitialised ones too."""
        return list(self._order)

    def find(self, name: bytes) -> Ccache | None:
        """The ccache of a name."""
        return self._by_name.get(name)

    def get(self, name: bytes) -> Ccache:
        """The ccache of a name, or NotFoundError."""
        ccache = self._by_name.get(name)
        if ccache is None:
            raise NotFoundError("no such ccache")
        return ccache

    def by_serial(self, serial: int) -> Ccache | None:
        """The ccache of a serial number."""
        return self._by_serial.get(serial)

    def by_ident(self, ident: bytes) -> Ccache | None:
        """The ccache of an identifier, as `Ccache.ident` writes it."""
        try:
            ccache = self._by_serial.get(int(ident, 16))
        except ValueError:
            return None
        return ccache if ccache and ccache.ident.encode("ascii") == ident else None

    def by_record(self, serial: int) -> Ccache | None:
        """The ccache that holds the credential or configuration entry of a serial number."""
        return next((c for c in self._order if c.find(serial)), None)

    def unique_name(self) -> bytes:
        """A name that no ccache has, for the CCAPI: the default name, or a decimal number.

        `Store.unused_name` makes those of KCM.
        """
        if not any(c.initialised for c in self._order):
            return DEFAULT_NAME
        while b"%d" % self.next_number in self._by_name:
            self.next_number += 1
        return b"%d" % self.next_number

    def create(self, name: bytes, at: Stamp) -> Ccache:
        """Make an uninitialised ccache at the end of the list."""
        check_name(name)
        if name in self._by_name:
            raise ExistsError("the ccache exists")
        if len(self._order) >= self._limit:
            raise CcacheLimitError(f"over {self._limit} ccaches")
        ccache = Ccache(self._ids.new(), name, at.now, self._contents.new_index())
        self._add(ccache)
        self._names_changed(at)
        self._changes.changed(at, EventKind.CREATED, ccache)
        return ccache

    def destroy(self, ccache: Ccache, at: Stamp) -> None:
        """Remove a ccache; if it was the default, the next initialised one becomes it."""
        was_default = ccache is self.default
        self._remove(ccache, at)
        self._changes.changed(at, EventKind.DESTROYED, ccache)
        if was_default:
            self._choose_next_default(at)

    def set_default(self, ccache: Ccache, at: Stamp) -> None:
        """Make a ccache the default, as a client has chosen."""
        if not self.default_chosen:
            self.default_chosen = True
            self._changes.effects.metadata.add(ccache.serial)
        self.move_to_front(ccache, at)

    def move_to_front(self, ccache: Ccache, at: Stamp) -> None:
        """Make a ccache the default, although no client has chosen it."""
        old = self._order[0]
        if ccache is old:
            return
        old.advance_change_time(at.now)
        self._changes.effects.changed.add(old.serial)
        self._order.remove(ccache)
        self._insert_default(ccache, at)

    def rename(self, ccache: Ccache, name: bytes, at: Stamp) -> None:
        """Give a ccache a free name; its serial number and its place in the list stay."""
        check_name(name)
        if name in self._by_name:
            raise ExistsError("the ccache exists")
        del self._by_name[ccache.name]
        ccache.name = name
        self._by_name[name] = ccache
        self._names_changed(at)
        self._changes.changed(at, EventKind.RENAMED, ccache)

    def move(self, source: Ccache, target: Ccache, at: Stamp) -> None:
        """Move the content of `source` to `target`, and remove `source` (CCAPI: move).

        A move onto itself changes nothing.  NotFoundError: `source` has no content.
        """
        if source is target:
            return
        was_default = source is self.default
        self._transfer(source, target, at)
        self._remove(source, at)
        if was_default:
            self._choose_next_default(at)

    def move_content(self, source: Ccache, target: Ccache, at: Stamp) -> None:
        """Move the content of `source` to `target`; `source` stays, uninitialised."""
        if source is target:
            return
        self._transfer(source, target, at)
        self._changes.changed(at, EventKind.UNINITIALISED, source)
        if source is self.default:
            self._choose_next_default(at)

    def note_entry_changed(self, directory: int | None, at: Stamp) -> None:
        """Note that an entry came or went in a ccache's directory, or (None) in `dir/`."""
        ccache = self._by_serial.get(directory) if directory is not None else None
        if ccache is not None:
            ccache.mtime = at.now
            self._changes.effects.metadata.add(ccache.serial)
        else:
            self.mtime = at.now
        self._changes.effects.listings.add(Listing.DIR if directory is None else directory)

    def _transfer(self, source: Ccache, target: Ccache, at: Stamp) -> None:
        if source.current is None:
            raise NotFoundError("nothing to move")
        target.change_time = max(target.change_time, source.change_time)
        self._contents.transfer(source, target, at)

    def _add(self, ccache: Ccache) -> None:
        self._order.append(ccache)
        self._by_name[ccache.name] = ccache
        self._by_serial[ccache.serial] = ccache

    def _remove(self, ccache: Ccache, at: Stamp) -> None:
        self._contents.detach(ccache, at)
        self._order.remove(ccache)
        del self._by_name[ccache.name], self._by_serial[ccache.serial]
        self._changes.effects.destroyed.append(ccache.serial)
        self._names_changed(at)

    def _choose_next_default(self, at: Stamp) -> None:
        """Make the next initialised ccache the default, else the one of the default name."""
        successor = next((c for c in self._order if c.initialised), None)
        successor = successor or self.find(DEFAULT_NAME)
        if successor is None:
            successor = self.create(DEFAULT_NAME, at)
        self.default_chosen = self.default_chosen and successor.initialised
        self._order.remove(successor)
        self._insert_default(successor, at)

    def _insert_default(self, ccache: Ccache, at: Stamp) -> None:
        ccache.rank = -self._ids.new()
        self._order.insert(0, ccache)
        self._changes.changed(at, EventKind.DEFAULT, ccache)
        ccache.last_default_time = ccache.change_time
        self._changes.effects.listings.add(Listing.COLLECTION)

    def _names_changed(self, at: Stamp) -> None:
        self.mtime = at.now
        self._changes.effects.listings.add(Listing.COLLECTION)


def check_name(name: bytes) -> None:
    """Refuse what can't name a ccache: BadNameError, NameTooLongError."""
    if name.startswith(b"tkt.") or b"\0" in name:
        raise BadNameError("a ccache's name does not begin with tkt. and holds no NUL")
    if len(encode_name(name).encode("utf-8")) > NAME_MAX:
        raise NameTooLongError(f"the encoded name is over {NAME_MAX} bytes")
