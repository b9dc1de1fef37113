# SPDX-License-Identifier: MIT
"""Changes of a ccache's content that the daemon makes itself, for FUSE files and KCM requests.

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
from ccfs.store.changes import Changes
from ccfs.store.contents import Contents
from ccfs.store.errors import BadContentError, NotFoundError
from ccfs.store.image import Image, RecordChanges
from ccfs.store.record_names import config_name, cut_name
from ccfs.store.usage import Usage
from ccfs.store.values import EventKind, Stamp, Stored


class Edits:
    """Stores and removes credentials, sets configuration entries, principal and KDC offset."""

    def __init__(self, contents: Contents, usage: Usage, changes: Changes) -> None:
        self._contents = contents
        self._usage = usage
        self._changes = changes

    def is_complete(self, record: bytes) -> bool:
        """Whether `record` is one whole marshalled credential (FILE version 4).

        False while it may become one.  BadContentError: it can't, or bytes follow it.
        """
        try:
            end = scan_credential(record, 0, DIALECT_V4, self._usage.limits.ccache_bytes)
        except FormatError as error:
            raise BadContentError(str(error)) from None
        if end is not None and end < len(record):
            raise BadContentError("bytes behind the credential")
        return end is not None

    def store(self, ccache: Ccache, record: bytes, at: Stamp) -> Stored | None:
        """Add one marshalled credential (FILE version 4); None for one marked as removed."""
        self._check_room(ccache, len(record), 1)
        if not self.is_complete(record):
            raise BadContentError("an incomplete credential")
        return self._store(ccache, record, at)

    def store_complete(self, ccache: Ccache, record: bytes, at: Stamp) -> Stored | None:
        """`store` for a record that `is_complete`."""
        self._check_room(ccache, len(record), 1)
        return self._store(ccache, record, at)

    def _store(self, ccache: Ccache, record: bytes, at: Stamp) -> Stored | None:
        self._convert_to_v4(ccache, at)
        with self._contents.new_number(ccache, at.now):
            return self._add(ccache, record, at)

    def remove(self, ccache: Ccache, serial: int, at: Stamp) -> None:
        """Remove one credential or configuration entry."""
        self.remove_all(ccache, [serial], at)

    def remove_all(self, ccache: Ccache, serials: Sequence[int], at: Stamp) -> None:
        """Remove records in one step; where one isn't there, NotFoundError and no change."""
        removed = [stored for serial in serials if (stored := ccache.find(serial))]
        if len(removed) < len(serials):
            raise NotFoundError("no such credential")
        with self._contents.new_number(ccache, at.now):
            self._remove(ccache, removed, at)

    def set_config(self, ccache: Ccache, key: ConfigKey, value: bytes, at: Stamp) -> None:
        """Set a configuration entry, in place of those of the same key."""
        entry = make_config(_initialised(ccache)[1].principal, key, value)
        record = encode_credential(entry, DIALECT_V4)
        self._check_room(ccache, len(record), 1)
        self._convert_to_v4(ccache, at)
        with self._contents.new_number(ccache, at.now):
            self._remove(ccache, _entries(ccache, key), at)
            self._add(ccache, record, at)

    def remove_config(self, ccache: Ccache, key: ConfigKey, at: Stamp) -> None:
        """Remove all configuration entries of a key."""
        entries = _entries(ccache, key)
        if not entries:
            raise NotFoundError("no such configuration entry")
        with self._contents.new_number(ccache, at.now):
            self._remove(ccache, entries, at)

    def empty_ccache(self, principal: Principal, offset: int | None = None) -> bytes:
        """Return the bytes of a ccache without records.  Raises TotalLimitError, CcacheLimitError.

        `offset`: seconds by which the KDC's clock is ahead of the host's, None for unknown.
        """
        header = Header(DIALECT_V4)
        data = _encode(Prefix(header.with_kdc_offset(offset), principal))
        self._usage.check(0, len(data))
        return data

    def set_principal(self, ccache: Ccache, principal: Principal, at: Stamp) -> None:
        """Set the client principal; the credentials stay, the KDC offset is unset (CCAPI).

        An uninitialised ccache becomes an initialised one without credentials.  A client that was
        writing its file has a superseded one open then.
        """
        if ccache.initialised:
            self._set_prefix(ccache, principal, None, at, EventKind.PRINCIPAL)
        else:
            self._contents.initialise(ccache, self.empty_ccache(principal), at)

    def set_kdc_offset(self, ccache: Ccache, seconds: int | None, at: Stamp) -> None:
        """Set how far the KDC's clock is ahead of the host's, in seconds; None clears it."""
        principal = _initialised(ccache)[1].principal
        self._set_prefix(ccache, principal, seconds, at, EventKind.OFFSET)

    def _set_prefix(
        self, ccache: Ccache, principal: Principal, offset: int | None, at: Stamp, kind: EventKind
    ) -> None:
        image, old = _initialised(ccache)
        tags = old.header.tags
        try:
            header = Header(DIALECT_V4, tags).with_kdc_offset(offset)
        except FormatError as error:
            raise BadContentError(str(error)) from None
        data = _encode(Prefix(header, principal))
        self._check_room(ccache, len(data) - image.records_start)
        self._convert_to_v4(ccache, at)
        with self._contents.new_number(ccache, at.now):
            image.rebuild(data, image.records())
            self._changes.changed(at, kind, ccache)
            self._contents.apply(ccache, RecordChanges(), at, was_initialised=True)

    def _add(self, ccache: Ccache, record: bytes, at: Stamp) -> Stored | None:
        image, _ = _initialised(ccache)
        self._contents.set_incomplete_aside(ccache)
        changes = image.append(record, whole=True)
        self._contents.apply(ccache, changes, at, was_initialised=True)
        return changes.added[0] if changes.added else None

    def _remove(self, ccache: Ccache, removed: list[Stored], at: Stamp) -> None:
        image, _ = _initialised(ccache)
        for stored in removed:
            changes = image.remove(stored.serial)
            self._contents.apply(ccache, changes, at, was_initialised=True)
        if image.mostly_removed:
            self._contents.compact(ccache, image)

    def _check_room(self, ccache: Ccache, more: int, records: int = 0) -> None:
        """Refuse `more` bytes and `records`, with what conversion to FILE version 4 adds."""
        image, _ = _initialised(ccache)
        if image.dialect != DIALECT_V4:
            prefix, converted = _in_version_4(image)
            more += len(prefix) + sum(len(record) for record, _ in converted) - image.records_end
        self._usage.check(ccache.size, more, records)

    def _convert_to_v4(self, ccache: Ccache, at: Stamp) -> None:
        """Write the image in FILE version 4: earlier ones have no KDC offset.

        Records of KCM clients are in version 4, too.
        """
        image, _ = _initialised(ccache)
        if image.dialect != DIALECT_V4:
            with self._contents.new_number(ccache, at.now):
                self._contents.set_incomplete_aside(ccache)
                image.rebuild(*_in_version_4(image))
                self._changes.effects.rewritten.add(ccache.serial)


def _encode(prefix: Prefix) -> bytes:
    if len(prefix.principal.components) >= COUNT_MAX:  # version 1 counts the realm as one more
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
    """The configuration entries of a key.

    A file name isn't enough: that of another KEY~PRINCIPAL may be this KEY~ID.
    """
    image, _ = _initialised(ccache)
    name = config_name(key.key, key.principal)
    named = [s for s in ccache.config.values() if s.name in (name, cut_name(name, f"~{s.ident}"))]
    return [stored for stored in named if _key(image, stored) == key]


def _key(image: Image, stored: Stored) -> ConfigKey | None:
    record = image.record(stored.serial)
    return config_key(decode_credential(record, image.dialect)[0].server) if record else None


def _initialised(ccache: Ccache) -> tuple[Image, Prefix]:
    image, prefix = ccache.image, ccache.prefix
    if image is None or prefix is None:
        raise NotFoundError("an uninitialised ccache")
    return image, prefix
