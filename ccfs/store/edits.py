"""Changes of a ccache's content that the server makes itself.

Each is one step: the bytes are put together, then the ccache goes on under a new number.
"""

from ccfs.format.ccache import Header, Prefix, encode_prefix
from ccfs.format.config import ConfigKey, make_config
from ccfs.format.credential import (
    decode_credential,
    encode_credential,
    scan_credential,
)
from ccfs.format.dialect import DIALECT_V4
from ccfs.format.errors import FormatError
from ccfs.format.principal import Principal
from ccfs.store.ccache import Ccache
from ccfs.store.contents import Contents
from ccfs.store.describe import config_name
from ccfs.store.errors import BadContentError, NotFoundError
from ccfs.store.image import Delta, Image
from ccfs.store.ledger import Ledger
from ccfs.store.values import Stamp, Stored, What


class Edits:
    """Store and remove credentials, set what stands in the header."""

    def __init__(self, ledger: Ledger, contents: Contents) -> None:
        self._ledger = ledger
        self._contents = contents

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
        if not self.complete(record):
            raise BadContentError("an incomplete credential")
        image = self._version_4(ccache)
        self._ledger.room(len(image.data), len(record))
        self._set_tail_aside(ccache, image)
        delta = image.append(record)
        self._finish(ccache, delta, at)
        return delta.added[0] if delta.added else None

    def remove(self, ccache: Ccache, serial: int, at: Stamp) -> None:
        """Remove one credential or configuration entry."""
        image = ccache.image
        delta = image.bury(serial) if image else None
        if not image or not delta:
            raise NotFoundError("no such credential")
        current = ccache.current
        if current and not current.handles and image.wasteful and not image.tail:
            image.compact()
        self._finish(ccache, delta, at)

    def set_config(self, ccache: Ccache, key: ConfigKey, value: bytes, at: Stamp) -> None:
        """Set a configuration entry, in place of those of the same key."""
        prefix = _prefix(ccache)
        entry = make_config(prefix.principal, key, value)
        record = encode_credential(entry, DIALECT_V4)
        self._ledger.room(ccache.size, len(record))
        self._version_4(ccache)
        for stored in self._config(ccache, key):
            self.remove(ccache, stored.serial, at)
        self.store(ccache, record, at)

    def remove_config(self, ccache: Ccache, key: ConfigKey, at: Stamp) -> None:
        """Remove all configuration entries of a key."""
        entries = self._config(ccache, key)
        if not entries:
            raise NotFoundError("no such configuration entry")
        for stored in entries:
            self.remove(ccache, stored.serial, at)

    def set_principal(self, ccache: Ccache, principal: Principal, at: Stamp) -> None:
        """Set the client principal; the credentials stay, the KDC offset is unset (CCAPI).

        An uninitialised ccache becomes an initialised one without credentials.
        """
        if ccache.initialised:
            header = self._version_4_header(ccache).with_kdc_offset(None)
        else:
            header = Header(DIALECT_V4, ())
        self._set_prefix(ccache, Prefix(header, principal), at, What.PRINCIPAL)

    def set_kdc_offset(self, ccache: Ccache, seconds: int | None, at: Stamp) -> None:
        """Set or clear how far the KDC's clock is ahead of ours, in seconds."""
        principal = _prefix(ccache).principal
        header = self._version_4_header(ccache).with_kdc_offset(seconds)
        self._set_prefix(ccache, Prefix(header, principal), at, What.OFFSET)

    def _set_prefix(self, ccache: Ccache, prefix: Prefix, at: Stamp, what: What) -> None:
        data = encode_prefix(prefix)
        was, image = ccache.initialised, ccache.image
        self._ledger.room(ccache.size, len(data) - (image.body if image else 0))
        if image is None:
            self._contents.start(ccache, at)
            image = ccache.image
            assert image is not None
        if was:
            image.rebuild(data, image.records())
            self._ledger.record(at, what, ccache)
            self._finish(ccache, Delta(), at)
        else:
            image.cut_tail()
            self._finish(ccache, image.append(data), at, was=False)

    def _finish(self, ccache: Ccache, delta: Delta, at: Stamp, *, was: bool = True) -> None:
        self._contents.apply(ccache, delta, at, was)
        self._contents.renumber(ccache, at.now)

    def _config(self, ccache: Ccache, key: ConfigKey) -> list[Stored]:
        """The entries of a key: the first has the plain name, more of them a name with ~ID."""
        name = config_name(key.key, key.principal)
        forms = {name, *(f"{name}~{s.ident}" for s in ccache.config.values())}
        return [s for s in ccache.config.values() if s.name in forms]

    def _set_tail_aside(self, ccache: Ccache, image: Image) -> None:
        """What somebody is still writing waits with them, not in the way of the record."""
        tail = image.cut_tail()
        if ccache.current and ccache.current.tail_of:
            ccache.current.tail_of.pending = tail
            ccache.current.tail_of = None

    def _version_4_header(self, ccache: Ccache) -> Header:
        self._version_4(ccache)
        return _prefix(ccache).header

    def _version_4(self, ccache: Ccache) -> Image:
        """The image, written in version 4: older ones have no place for what we add."""
        image, prefix = ccache.image, _prefix(ccache)
        assert image is not None
        if image.dialect != DIALECT_V4:
            dialect = image.dialect
            image.cut_tail()
            records = [
                (encode_credential(decode_credential(record, dialect)[0], DIALECT_V4), stored)
                for record, stored in image.records()
            ]
            header = Header(DIALECT_V4, ())
            image.rebuild(encode_prefix(Prefix(header, prefix.principal)), records)
            self._ledger.effects.rewritten.add(ccache.serial)
        return image


def _prefix(ccache: Ccache) -> Prefix:
    prefix = ccache.prefix
    if prefix is None:
        raise NotFoundError("an uninitialised ccache")
    return prefix
