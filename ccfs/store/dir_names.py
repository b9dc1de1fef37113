# SPDX-License-Identifier: MIT
"""File names of ccaches in `dir/`, in the form of DIR: ccaches.

`tkt.X` is the ccache X where X does not begin with `tkt`; `tktY` is the ccache `tktY`.  libkrb5
(1.20, `read_primary_file`) refuses the whole collection where the name in `primary` has a backslash
or over 62 bytes: a backslash is `%5C` here, and a longer name is shown as `tkt.~ID`.

Knows names only; ccaches are looked up by the layer above.
"""

from ccfs.format.errors import FormatError
from ccfs.format.names import decode_name, encode_name
from ccfs.store.ccache import Ccache

PRIMARY = b"primary"
_PREFIX = b"tkt"
_BACKSLASH = b"%5C"
_BY_ID = b"tkt.~"
_MOST = 62


def listed_name(ccache: bytes) -> bytes:
    """The file name in `dir/` of the ccache of a (raw) name."""
    encoded = encode_name(ccache).encode("utf-8").replace(b"\\", _BACKSLASH)
    return encoded if ccache.startswith(_PREFIX) else _PREFIX + b"." + encoded


def shown_name(ccache: Ccache) -> bytes:
    """The file name in `dir/` by which readdir lists a ccache; libkrb5 accepts it."""
    listed = listed_name(ccache.name)
    return listed if len(listed) <= _MOST else _BY_ID + ccache.ident.encode("ascii")


def shown_ident(listed: bytes) -> bytes | None:
    """The identifier in a file name `tkt.~ID`, of a ccache that may be destroyed; else None."""
    return listed.removeprefix(_BY_ID) if listed.startswith(_BY_ID) else None


def ccache_name(listed: bytes) -> bytes | None:
    """The (raw) name of the ccache of a file name in `dir/`; None where it is no ccache's."""
    if not listed.startswith(_PREFIX):
        return None
    encoded = listed[len(_PREFIX) + 1 :] if listed.startswith(_PREFIX + b".") else listed
    try:
        name = decode_name(encoded.replace(_BACKSLASH, b"\\").decode("utf-8"))
    except (FormatError, UnicodeDecodeError):
        return None
    return name if listed_name(name) == listed else None
