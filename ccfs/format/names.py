# SPDX-License-Identifier: MIT
"""Names of ccaches and credentials as file names.

Knows the percent encoding, never what has the name.  Encoded are `/`, `%`, `~`, a leading `.`,
control bytes (0 to 31, and 127) and bytes that aren't part of valid UTF-8; the empty name is `%00`.
Each name has exactly one encoding, and other texts don't decode.
"""

import re
from functools import lru_cache

from ccfs.format.errors import FormatError

CACHED_NAMES = 1024
"""Entries of each cache of names."""
MAX_CACHED = 512
"""Bytes of the longest cached name: a name may be as long as a ccache, and memory is locked."""
_EMPTY = "%00"
_SPECIAL = re.compile("[\x00-\x1f\x7f/%~\udc80-\udcff]|^\\.")
_ENCODED = re.compile("%[0-9A-F]{2}")


def encode_name(raw: bytes) -> str:
    """Return the file name of `raw`; FormatError if it has a NUL byte."""
    return _cached_encode(raw) if len(raw) <= MAX_CACHED else _encode_uncached(raw)


def _encode_uncached(raw: bytes) -> str:
    if not raw:
        return _EMPTY
    nul = raw.find(0)
    if nul >= 0:
        raise FormatError(nul, "a name without NUL")
    return _SPECIAL.sub(_encode_character, raw.decode("utf-8", "surrogateescape"))


def _encode_character(match: re.Match[str]) -> str:
    return f"%{match[0].encode('utf-8', 'surrogateescape')[0]:02X}"


_cached_encode = lru_cache(maxsize=CACHED_NAMES)(_encode_uncached)


def decode_name(text: str) -> bytes:
    """Return the name of a file name; FormatError unless it is encoded canonically."""
    if text == _EMPTY:
        return b""
    try:
        raw = _ENCODED.sub(_decode_character, text).encode("utf-8", "surrogateescape")
        canonical = bool(text) and encode_name(raw) == text
    except ValueError:
        canonical = False
    if not canonical:
        raise FormatError(0, "a name in canonical percent encoding")
    return raw


def _decode_character(match: re.Match[str]) -> str:
    byte = bytes([int(match[0][1:], 16)])
    return byte.decode("ascii", "surrogateescape")
