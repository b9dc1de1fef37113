# SPDX-License-Identifier: MIT
"""File names of records, and what decides how they are listed.

Knows the codec's outlines of records; never their keys and tickets, nor which names are taken.
"""

from functools import lru_cache
from typing import NamedTuple

from ccfs.format.config import config_key
from ccfs.format.dialect import Dialect
from ccfs.format.errors import FormatError
from ccfs.format.names import CACHED_NAMES, MAX_CACHED, encode_name
from ccfs.format.outline import Outline, outline_credential
from ccfs.format.principal import Principal, unparse_name
from ccfs.store.errors import BadContentError
from ccfs.store.values import NAME_MAX


class Description(NamedTuple):
    """One record: the file name that it has where no other has it, and how it is listed."""

    stem: str
    config: bool
    tgt: bool
    endtime: int


class Kind(NamedTuple):
    """What decides how a record is listed: configuration entry, TGT, end time."""

    config: bool
    tgt: bool
    endtime: int


def kind_of(outline: Outline) -> Kind:
    """The kind of a record that is not removed."""
    server = outline.server
    return Kind(config_key(server) is not None, is_tgt(server), outline.endtime)


def describe(record: bytes, dialect: Dialect) -> Description:
    """Describe one complete marshalled credential.  Raises BadContentError."""
    try:
        return description_of(outline_credential(record, 0, dialect))
    except FormatError as error:
        raise BadContentError(str(error)) from None


def description_of(outline: Outline) -> Description:
    """The description of a record that is not removed."""
    server = outline.server
    length = len(server.realm) + sum(map(len, server.components))
    listed = _listed_again(server) if length <= MAX_CACHED else _listed(server)
    return Description(*listed, outline.endtime)


def _listed(server: Principal) -> tuple[str, bool, bool]:
    """The stem of the file name, whether it is a configuration entry, whether a TGT."""
    key = config_key(server)
    stem = config_name(key.key, key.principal) if key else encode_name(unparse_name(server))
    return stem, key is not None, is_tgt(server)


_listed_again = lru_cache(maxsize=CACHED_NAMES)(_listed)


def config_name(key: bytes, principal: bytes | None) -> str:
    """The file name of a configuration entry: KEY, or KEY~PRINCIPAL.

    No file name has a NUL; one reads as in the text of a principal.
    """
    parts = (key,) if principal is None else (key, principal)
    return "~".join(encode_name(part.replace(b"\0", rb"\0")) for part in parts)


def is_tgt(server: Principal) -> bool:
    """Whether tickets for `server` get tickets: krbtgt/REALM@ANY (RFC 4120 section 7.3)."""
    return len(server.components) == 2 and server.components[0] == b"krbtgt"


def cut_name(stem: str, suffix: str) -> str:
    """`stem` with `suffix`, cut so that both are at most 255 bytes, never inside a character."""
    room = NAME_MAX - len(suffix)
    data = stem.encode("utf-8")[:room]
    for back in (1, 2):
        if data[-back:].startswith(b"%"):
            data = data[:-back]
    return data.decode("utf-8", "ignore") + suffix
