# SPDX-License-Identifier: MIT
"""Versions of the format, and the byte order of their integers.

Knows versions and byte orders, never what a field means.

    05 01   version 1, byte order of the machine that wrote it
    05 02   version 2, likewise
    05 03   version 3, big-endian
    05 04   version 4, big-endian, with a header
"""

from dataclasses import dataclass
from struct import Struct


class ByteOrder:
    """`struct.Struct` objects for integers of one byte order."""

    __slots__ = ("i16", "i32", "u16", "u32", "u32x4")

    def __init__(self, mark: str) -> None:
        self.u16 = Struct(mark + "H")
        self.u32 = Struct(mark + "I")
        self.i16 = Struct(mark + "h")
        self.i32 = Struct(mark + "i")
        self.u32x4 = Struct(mark + "4I")


BIG = ByteOrder(">")
LITTLE = ByteOrder("<")


@dataclass(frozen=True, slots=True)
class Dialect:
    """A version of the format (1 to 4) and its byte order.  ValueError for any other."""

    version: int
    big_endian: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.version <= 4:
            raise ValueError("versions are 1 to 4")
        if self.version > 2 and not self.big_endian:
            raise ValueError("versions 3 and 4 are big-endian")

    @property
    def order(self) -> ByteOrder:
        """The structs for the dialect's integers."""
        return BIG if self.big_endian else LITTLE


DIALECT_V4 = Dialect(4, True)
