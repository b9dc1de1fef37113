# SPDX-License-Identifier: MIT
"""The elements of the format: integers, and data after its length.

Knows how to read and write them with bounds, never what they mean.  Reading copies only the data
that is returned, from any kind of buffer.
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


def read_int(data: Buffer, offset: int, kind: Struct, name: str) -> int:
    """Read an integer; FormatError if it is cut."""
    try:
        value: int = kind.unpack_from(data, offset)[0]
    except error:
        raise FormatError(offset, name) from None
    return value


def read_data(data: Buffer, offset: int, order: ByteOrder, name: str) -> tuple[bytes, int]:
    """Read data after its 32-bit length; return it and the offset after it."""
    start = offset + 4
    try:
        end: int = start + order.u32.unpack_from(data, offset)[0]
    except error:
        raise FormatError(offset, f"the length of {name}") from None
    if end > len(data):
        raise FormatError(offset, f"a length of {name} that the bytes hold")
    return bytes(data[start:end]), end


def read_count(data: Buffer, offset: int, order: ByteOrder, name: str) -> int:
    """Read a 32-bit count of items, at most COUNT_MAX."""
    try:
        count: int = order.u32.unpack_from(data, offset)[0]
    except error:
        raise FormatError(offset, f"the count of {name}") from None
    if count > COUNT_MAX:
        raise FormatError(offset, f"at most {COUNT_MAX} {name}")
    return count


def write_int(value: int, kind: Struct, name: str) -> bytes:
    """Encode an integer; FormatError if it doesn't fit."""
    try:
        return kind.pack(value)
    except error:
        raise FormatError(0, name) from None


def write_data(contents: bytes, order: ByteOrder) -> bytes:
    """Encode data after its 32-bit length."""
    return write_int(len(contents), order.u32, "data under 4 GiB") + contents


def skip_data(data: Buffer, offset: int, order: ByteOrder, limit: int) -> int:
    """Return the offset after data with its length; `struct.error` if the length is missing.

    FormatError if the data exceeds `limit`.
    """
    end: int = offset + 4 + order.u32.unpack_from(data, offset)[0]
    if end > limit:
        raise FormatError(offset, f"a length that ends within {limit} bytes")
    return end


def check_count(offset: int, count: int, item_size: int, limit: int) -> None:
    """Raise FormatError for a count of items that can't fit, however short each item is."""
    if count > COUNT_MAX or offset + 4 + count * item_size > limit:
        raise FormatError(offset, f"a count of items that end within {limit} bytes")
