"""What every part of the format is made of: integers, and data with a length before it.

Knows how to read and write those with bounds, never what they stand for.  Reading copies only the
data that it returns, whatever buffer it reads from.
"""

from struct import Struct, error
from typing import TypeAlias

from ccfs.format.dialect import ByteOrder
from ccfs.format.errors import FormatError

Buffer: TypeAlias = bytes | bytearray | memoryview

U32_MAX = 0xFFFFFFFF

# No client writes as many components, addresses or authorization data elements.  The bound keeps
# the time of one scan small while a record comes in piece by piece.
COUNT_MAX = 0xFFFF


def read_int(data: Buffer, offset: int, kind: Struct, what: str) -> int:
    """One integer.  FormatError when the bytes end before it does."""
    try:
        value: int = kind.unpack_from(data, offset)[0]
    except error:
        raise FormatError(offset, what) from None
    return value


def read_data(data: Buffer, offset: int, order: ByteOrder, what: str) -> tuple[bytes, int]:
    """Data behind a 32-bit length, and the offset behind it."""
    start = offset + 4
    try:
        end: int = start + order.u32.unpack_from(data, offset)[0]
    except error:
        raise FormatError(offset, f"the length of {what}") from None
    if end > len(data):
        raise FormatError(offset, f"a length of {what} that the bytes hold")
    return bytes(data[start:end]), end


def read_count(data: Buffer, offset: int, order: ByteOrder, what: str) -> int:
    """A 32-bit count of items, at most COUNT_MAX."""
    try:
        count: int = order.u32.unpack_from(data, offset)[0]
    except error:
        raise FormatError(offset, f"the count of {what}") from None
    if count > COUNT_MAX:
        raise FormatError(offset, f"at most {COUNT_MAX} {what}")
    return count


def write_int(value: int, kind: Struct, what: str) -> bytes:
    """One integer.  FormatError when it doesn't fit."""
    try:
        return kind.pack(value)
    except error:
        raise FormatError(0, what) from None


def write_data(contents: bytes, order: ByteOrder) -> bytes:
    """Data with its 32-bit length before it."""
    return write_int(len(contents), order.u32, "data under 4 GiB") + contents


def skip_data(data: Buffer, offset: int, order: ByteOrder, limit: int) -> int:
    """The offset behind data with a length; `struct.error` when the length isn't there yet.

    FormatError when it is beyond `limit`.
    """
    end: int = offset + 4 + order.u32.unpack_from(data, offset)[0]
    if end > limit:
        raise FormatError(offset, f"a length that ends within {limit} bytes")
    return end


def check_count(offset: int, count: int, item_size: int, limit: int) -> None:
    """Refuse a count at `offset` of items that can't fit, however short each is."""
    if count > COUNT_MAX or offset + 4 + count * item_size > limit:
        raise FormatError(offset, f"a count of items that end within {limit} bytes")
