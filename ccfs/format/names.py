"""Names of ccaches and credentials as file names.

Knows the percent encoding, never what is named.  Encoded are `/`, `%`, `~`, a leading `.`, control
bytes (0 to 31, and 127) and bytes that aren't part of valid UTF-8; the empty name is `%00`.  Each
name has exactly one encoding, and nothing else decodes.
"""

import re
from functools import lru_cache

from ccfs.format.errors import FormatError

REMEMBERED = 1024
"""How many names are remembered that come again and again, here and wherever names are read."""
SHORT = 512
"""Bytes of the longest of them: a name may be as long as a ccache, and memory is locked."""
_EMPTY = "%00"
_SPECIAL = re.compile("[\x00-\x1f\x7f/%~\udc80-\udcff]|^\\.")
_ENCODED = re.compile("%[0-9A-F]{2}")


def encode_name(raw: bytes) -> str:
    """The file name of `raw`.  FormatError when it has a NUL byte: no name has one."""
    return _encoded_again(raw) if len(raw) <= SHORT else _encoded(raw)


def _encoded(raw: bytes) -> str:
    if not raw:
        return _EMPTY
    nul = raw.find(0)
    if nul >= 0:
        raise FormatError(nul, "a name without NUL")
    return _SPECIAL.sub(_encode, raw.decode("utf-8", "surrogateescape"))


def _encode(match: re.Match[str]) -> str:
    return f"%{match[0].encode('utf-8', 'surrogateescape')[0]:02X}"


_encoded_again = lru_cache(maxsize=REMEMBERED)(_encoded)


def decode_name(text: str) -> bytes:
    """The name that a file name stands for.  FormatError unless it is the canonical encoding."""
    if text == _EMPTY:
        return b""
    try:
        raw = _ENCODED.sub(_decode, text).encode("utf-8", "surrogateescape")
        canonical = bool(text) and encode_name(raw) == text
    except ValueError:
        canonical = False
    if not canonical:
        raise FormatError(0, "a name in canonical percent encoding")
    return raw


def _decode(match: re.Match[str]) -> str:
    byte = bytes([int(match[0][1:], 16)])
    return byte.decode("ascii", "surrogateescape")
