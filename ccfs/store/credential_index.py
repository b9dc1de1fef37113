# SPDX-License-Identifier: MIT
"""The file names and serial numbers of the records of one ccache's content.

Knows what decides a name; never the bytes of a record, nor the other ccaches.
"""

from ccfs.format.outline import Outline
from ccfs.store.expiry import ExpiryQueue
from ccfs.store.ids import Ids
from ccfs.store.record_names import Kind, cut_name, description_of
from ccfs.store.usage import Usage
from ccfs.store.values import NAME_MAX, Stored, ident


class CredentialIndex:
    """Live records by file name: `credentials` and `config`, each in stored order.

    One index belongs to one image (it is the `Registrar` of that), and moves with it to another
    ccache.
    """

    __slots__ = ("_expiry", "_ids", "_usage", "config", "credentials")

    def __init__(self, ids: Ids, usage: Usage, expiry: ExpiryQueue) -> None:
        self.credentials: dict[str, Stored] = {}
        self.config: dict[str, Stored] = {}
        self._ids = ids
        self._usage = usage
        self._expiry = expiry

    def check_room(self, more: int) -> None:
        """Raise TotalLimitError where `more` records are too many; placeholders count too."""
        self._usage.check_records(more)

    def add(self, outline: Outline) -> Stored:
        """Give a new record a serial number, and the first free form of its name."""
        description = description_of(outline)
        serial = self._ids.new()
        names = self.config if description.config else self.credentials
        name = stem = description.stem
        if stem in names or len(stem.encode("utf-8")) > NAME_MAX:
            name = cut_name(stem, f"~{ident(serial)}")
            while name in names:  # the name of some KEY~PRINCIPAL is this KEY~ID
                serial = self._ids.new()
                name = cut_name(stem, f"~{ident(serial)}")
        kind = Kind(description.config, description.tgt, description.endtime)
        return self.restore(kind, serial, name)

    def restore(self, kind: Kind, serial: int, name: str) -> Stored:
        """Restore a record under its serial number and name."""
        names = self.config if kind.config else self.credentials
        stored = Stored(serial, name, kind.config, kind.tgt, kind.endtime)
        names[name] = stored
        self._expiry.add(stored)
        return stored

    def remove(self, stored: Stored) -> None:
        """Free the name of a removed record."""
        names = self.config if stored.config else self.credentials
        if names.get(stored.name) is stored:
            del names[stored.name]

    def all(self) -> tuple[Stored, ...]:
        """All live records."""
        return (*self.credentials.values(), *self.config.values())
