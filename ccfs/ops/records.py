# SPDX-License-Identifier: MIT
"""Credentials and configuration entries of a ccache, as their files show them.

Knows records by serial number; never directories or handles' numbers.
"""

from ccfs.format.config import ConfigKey
from ccfs.format.credential import decode_credential, encode_credential
from ccfs.format.dialect import DIALECT_V4, Dialect
from ccfs.format.errors import FormatError
from ccfs.format.names import decode_name
from ccfs.format.text import credential_text
from ccfs.ops.file_system import FileSystem
from ccfs.ops.handles import Apply
from ccfs.ops.node import Attributes, ccache_of
from ccfs.store import Client, Stamp
from ccfs.store.ccache import Ccache
from ccfs.store.errors import BadNameError, GoneError
from ccfs.store.values import Stored, ident


def ccache_with(fs: FileSystem, serial: int) -> Ccache:
    """Return the ccache that has the record; GoneError where the record was removed."""
    ccache = fs.store.collection.by_record(serial)
    if ccache is None:
        raise GoneError("a removed credential")
    return ccache


def record(fs: FileSystem, serial: int) -> tuple[bytes, Dialect]:
    """Return the bytes of a record and the dialect of its ccache."""
    image = ccache_with(fs, serial).image
    data = image.record(serial) if image else None
    if image is None or data is None:
        raise GoneError("a removed credential")
    return data, image.dialect


def raw(fs: FileSystem, serial: int) -> bytes:
    """Return a credential in FILE version 4."""
    data, dialect = record(fs, serial)
    if dialect == DIALECT_V4:
        return data
    return encode_credential(decode_credential(data, dialect)[0], DIALECT_V4)


def text(fs: FileSystem, serial: int) -> bytes:
    """Return the text of a credential, from the cache where it is there."""
    cached = fs.texts.texts.get(serial)
    if cached is not None:
        return cached
    credential, _ = decode_credential(*record(fs, serial))
    made = credential_text(credential, ident(serial))
    fs.texts.add(serial, made)
    return made


def value(fs: FileSystem, serial: int) -> bytes:
    """Return the value of a configuration entry: it is in the place of the ticket."""
    return decode_credential(*record(fs, serial))[0].ticket


def directory_attributes(ccache: Ccache) -> Attributes:
    """Return the attributes of `credentials/` or `config/`."""
    mtime = ccache.current.mtime if ccache.current else ccache.mtime
    return Attributes(mtime=mtime, nlink=2, attr_timeout=0.0)


def by_name(names: dict[str, Stored], name: bytes) -> Stored | None:
    """Return the record of a file name."""
    return names.get(name.decode("utf-8", "surrogateescape"))


def file_name(stored: Stored) -> bytes:
    """Return the file name of a record."""
    return stored.name.encode("utf-8", "surrogateescape")


def entry_key(name: bytes) -> ConfigKey:
    """Decode the file name of a configuration entry: KEY or KEY~PRINCIPAL."""
    key, tilde, principal = name.decode("utf-8", "surrogateescape").partition("~")
    try:
        return ConfigKey(decode_name(key), decode_name(principal) if tilde else None)
    except FormatError as error:
        raise BadNameError(str(error)) from None


def entry_setter(fs: FileSystem, serial: int, key: ConfigKey, client: Client) -> Apply:
    """Return a function that sets a configuration entry of a ccache to some content."""

    def apply(content: bytes, now: float) -> None:
        fs.store.edits.set_config(ccache_of(fs, serial), key, content, Stamp(now, client))

    return apply
