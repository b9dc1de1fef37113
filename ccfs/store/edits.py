"""Changes of a ccache's content that the server makes itself.

Each is one step: the bytes are put together, then the ccache goes on under a new number.
"""

from collections.abc import Sequence

from ccfs.format.ccache import Header, Prefix, encode_prefix
from ccfs.format.config import ConfigKey, config_key, make_config
from ccfs.format.credential import decode_credential, encode_credential, scan_credential
from ccfs.format.dialect import DIALECT_V4
from ccfs.format.errors import FormatError
from ccfs.format.principal import Principal
from ccfs.format.wire import COUNT_MAX
from ccfs.store.ccache import Ccache
from ccfs.store.changes import Ledger
from ccfs.store.errors import BadContentError, NotFoundError
from ccfs.store.generations import Generations
from ccfs.store.image import Delta, Image
from ccfs.store.record_names import config_name, cut_name
from ccfs.store.values import EventKind, Stamp, Stored


class Edits:
    """Store and remove credentials, set what stands in the header."""

    def __init__(self, ledger: Ledger, generations: Generations) -> None:
        self._ledger = ledger
        self._generations = generations

    def complete(self, record: bytes) -> bool:
        """Whether `record` is one whole marshalled credential (FILE version 4).

        False while it may become one; BadContentError where it can't, or goes on behind its end.
        """
        try:
            end = scan_credential(record, 0, DIALECT_V4, self._ledger.limits.ccache_bytes)
        except FormatError as error:
            raise BadContentError(str(error)) from None
        if end is not None and end < len(record):
            raise BadContentError("bytes behind the credential")
        return end is not None

    def store(self, ccache: Ccache, record: bytes, at: Stamp) -> Stored | None:
        """Add one marshalled credential (FILE version 4); None for one marked as removed."""
        self._room(ccache, len(record), 1)
        if not self.complete(record):
            raise BadContentError("an incomplete credential")
        return self._store(ccache, record, at)

    def store_complete(self, ccache: Ccache, record: bytes, at: Stamp) -> Stored | None:
        """`store` for a record of which `complete` is True."""
        self._room(ccache, len(record), 1)
        return self._store(ccache, record, at)

    def _store(self, ccache: Ccache, record: bytes, at: Stamp) -> Stored | None:
        self._upgrade(ccache, at)
        with self._generations.rewriting(ccache, at.now):
            return self._add(ccache, record, at)

    def remove(self, ccache: Ccache, serial: int, at: Stamp) -> None:
        """Remove one credential or configuration entry."""
        self.remove_all(ccache, [serial], at)

    def remove_all(self, ccache: Ccache, serials: Sequence[int], at: Stamp) -> None:
        """Remove credentials and configuration entries in one step; NotFoundError: none is gone."""
        gone = [stored for serial in serials if (stored := ccache.find(serial))]
        if len(gone) < len(serials):
            raise NotFoundError("no such credential")
        with self._generations.rewriting(ccache, at.now):
            self._bury(ccache, gone, at)

    def set_config(self, ccache: Ccache, key: ConfigKey, value: bytes, at: Stamp) -> None:
        """Set a configuration entry, in place of those of the same key."""
        entry = make_config(_initialised(ccache)[1].principal, key, value)
        record = encode_credential(entry, DIALECT_V4)
        self._room(ccache, len(record), 1)
        self._upgrade(ccache, at)
        with self._generations.rewriting(ccache, at.now):
            self._bury(ccache, _entries(ccache, key), at)
            self._add(ccache, record, at)

    def remove_config(self, ccache: Ccache, key: ConfigKey, at: Stamp) -> None:
        """Remove all configuration entries of a key."""
        entries = _entries(ccache, key)
        if not entries:
            raise NotFoundError("no such configuration entry")
        with self._generations.rewriting(ccache, at.now):
            self._bury(ccache, entries, at)

    def beginning(self, principal: Principal, offset: int | None = None) -> bytes:
        """The bytes of a ccache without credentials, for which there is room.

        `offset`: the KDC's clock minus ours in seconds, None for unknown.
        """
        header = Header(DIALECT_V4)
        data = _encode(Prefix(header.with_kdc_offset(offset), principal))
        self._ledger.room(0, len(data))
        return data

    def set_principal(self, ccache: Ccache, principal: Principal, at: Stamp) -> None:
        """Set the client principal; the credentials stay, the KDC offset is unset (CCAPI).

        An uninitialised ccache becomes an initialised one without credentials; who was about to
        write one is left with a file that is gone.
        """
        if ccache.initialised:
            self._set_prefix(ccache, principal, None, at, EventKind.PRINCIPAL)
        else:
            self._generations.initialise(ccache, self.beginning(principal), at)

    def set_kdc_offset(self, ccache: Ccache, seconds: int | None, at: Stamp) -> None:
        """Set or clear how far the KDC's clock is ahead of ours, in seconds."""
        principal = _initialised(ccache)[1].principal
        self._set_prefix(ccache, principal, seconds, at, EventKind.OFFSET)

    def _set_prefix(
        self, ccache: Ccache, principal: Principal, offset: int | None, at: Stamp, what: EventKind
    ) -> None:
        image, old = _initialised(ccache)
        tags = old.header.tags
        try:
            header = Header(DIALECT_V4, tags).with_kdc_offset(offset)
        except FormatError as error:
            raise BadContentError(str(error)) from None
        data = _encode(Prefix(header, principal))
        self._room(ccache, len(data) - image.body)
        self._upgrade(ccache, at)
        with self._generations.rewriting(ccache, at.now):
            image.rebuild(data, image.records())
            self._ledger.record(at, what, ccache)
            self._generations.apply(ccache, Delta(), at, was=True)

    def _add(self, ccache: Ccache, record: bytes, at: Stamp) -> Stored | None:
        image, _ = _initialised(ccache)
        self._generations.set_aside(ccache)
        delta = image.append(record, whole=True)
        self._generations.apply(ccache, delta, at, was=True)
        return delta.added[0] if delta.added else None

    def _bury(self, ccache: Ccache, gone: list[Stored], at: Stamp) -> None:
        image, _ = _initialised(ccache)
        for stored in gone:
            self._generations.apply(ccache, image.bury(stored.serial), at, was=True)
        if image.wasteful:
            self._generations.compact(ccache, image)

    def _room(self, ccache: Ccache, more: int, records: int = 0) -> None:
        """Refuse `more` bytes and `records`, and the bytes that writing it in version 4 takes."""
        image, _ = _initialised(ccache)
        if image.dialect != DIALECT_V4:
            prefix, converted = _in_version_4(image)
            more += len(prefix) + sum(len(record) for record, _ in converted) - image.complete
        self._ledger.room(ccache.size, more, records)

    def _upgrade(self, ccache: Ccache, at: Stamp) -> None:
        """Write the image in version 4: older ones have no place for what we add."""
        image, _ = _initialised(ccache)
        if image.dialect != DIALECT_V4:
            with self._generations.rewriting(ccache, at.now):
                self._generations.set_aside(ccache)
                image.rebuild(*_in_version_4(image))
                self._ledger.effects.rewritten.add(ccache.serial)


def _encode(prefix: Prefix) -> bytes:
    if len(prefix.principal.components) >= COUNT_MAX:  # with the realm it is one more
        raise BadContentError(f"fewer than {COUNT_MAX} components")
    try:
        return encode_prefix(prefix)
    except FormatError as error:
        raise BadContentError(str(error)) from None


def _in_version_4(image: Image) -> tuple[bytes, list[tuple[bytes, Stored | None]]]:
    prefix, dialect = image.prefix, image.dialect
    assert prefix is not None
    records = [
        (encode_credential(decode_credential(record, dialect)[0], DIALECT_V4), stored)
        for record, stored in image.records()
    ]
    return encode_prefix(Prefix(Header(DIALECT_V4), prefix.principal)), records


def _entries(ccache: Ccache, key: ConfigKey) -> list[Stored]:
    """The configuration entries of a key: those of its name, but for others that look so."""
    image, _ = _initialised(ccache)
    name = config_name(key.key, key.principal)
    found = [s for s in ccache.config.values() if s.name in (name, cut_name(name, f"~{s.ident}"))]
    return [stored for stored in found if _key(image, stored) == key]


def _key(image: Image, stored: Stored) -> ConfigKey | None:
    record = image.record(stored.serial)
    return config_key(decode_credential(record, image.dialect)[0].server) if record else None


def _initialised(ccache: Ccache) -> tuple[Image, Prefix]:
    image, prefix = ccache.image, ccache.prefix
    if image is None or prefix is None:
        raise NotFoundError("an uninitialised ccache")
    return image, prefix
