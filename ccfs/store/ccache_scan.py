# SPDX-License-Identifier: MIT
"""Where header, principal and records of a ccache begin and end, by the codec's scanners.

Knows bytes in FILE format, and turns the codec's FormatError into refusals of the store.
"""

from ccfs.format.ccache import Prefix
from ccfs.format.ccache import scan_prefix as _scan_prefix
from ccfs.format.credential import scan_credential
from ccfs.format.dialect import Dialect
from ccfs.format.errors import FormatError
from ccfs.store.errors import BadContentError, CcacheLimitError


def scan_prefix(data: bytes | bytearray, limit: int) -> tuple[Prefix, int] | None:
    """Read header and principal: these, and where they end; None while they are incomplete.

    `limit`: the most bytes of a ccache.  BadContentError: the bytes can't become a ccache.
    """
    try:
        return _scan_prefix(data, limit)
    except FormatError as error:
        raise BadContentError(str(error)) from None


def scan_record(data: bytearray, start: int, dialect: Dialect, limit: int) -> int | None:
    """Return the end of the record at `start`; None while it is incomplete.

    BadContentError: the bytes can't become a record.  CcacheLimitError: they could in a larger
    ccache.
    """
    try:
        end = scan_credential(data, start, dialect, start + limit)
    except FormatError as error:
        raise BadContentError(str(error)) from None
    try:
        return end if end is not None else scan_credential(data, start, dialect, limit)
    except FormatError:
        raise CcacheLimitError(f"over {limit} bytes in one ccache") from None


def is_whole(data: bytes | bytearray, limit: int) -> bool:
    """Whether `data` is a ccache from its header to the end of its last record."""
    return count_records(data, limit) is not None


def count_records(data: bytes | bytearray, limit: int) -> int | None:
    """The number of records of a whole ccache, placeholders included; None if it isn't one."""
    try:
        prefix_and_end = _scan_prefix(data, limit)
        if prefix_and_end is None:
            return None
        prefix, start = prefix_and_end
        end: int | None = start
        count = 0
        while end is not None and end < len(data):
            end = scan_credential(data, end, prefix.header.dialect, limit)
            count += 1
    except FormatError:
        return None
    return count if end is not None else None
