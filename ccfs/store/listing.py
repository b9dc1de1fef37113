"""How ccaches are called in `dir/`, the form that DIR: ccaches expect.

`tkt.X` is the ccache X where X does not begin with `tkt`; `tktY` is the ccache `tktY`.
"""

from ccfs.format.errors import FormatError
from ccfs.format.names import decode_name, encode_name

PRIMARY = b"primary"
_PREFIX = b"tkt"


def listed_name(ccache: bytes) -> bytes:
    """The file name in `dir/` of the ccache of a (raw) name."""
    encoded = encode_name(ccache).encode("utf-8")
    return encoded if ccache.startswith(_PREFIX) else _PREFIX + b"." + encoded


def ccache_name(listed: bytes) -> bytes | None:
    """The (raw) name of the ccache that a file name in `dir/` stands for; None for no ccache's."""
    if not listed.startswith(_PREFIX):
        return None
    encoded = listed[len(_PREFIX) + 1 :] if listed.startswith(_PREFIX + b".") else listed
    try:
        name = decode_name(encoded.decode("utf-8"))
    except (FormatError, UnicodeDecodeError):
        return None
    return name if listed_name(name) == listed else None
