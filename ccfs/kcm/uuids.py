# SPDX-License-Identifier: MIT
"""UUIDs of ccaches and credentials: their serial numbers, multiplied so that they look random.

A serial number is never reused and survives a restart, and so does its UUID.  The serial number can
be computed from the UUID: no table is needed.  Knows numbers only.

    uuid = serial * _FACTOR mod 2**128, in 16 bytes
"""

from collections.abc import Iterable
from hashlib import blake2b

SIZE = 16
_MASK = 2**128 - 1
_FACTOR = int.from_bytes(blake2b(b"ccfs kcm uuid", digest_size=SIZE).digest(), "big") | 1
_INVERSE = pow(_FACTOR, -1, 2**128)


def uuid(serial: int) -> bytes:
    """Return the UUID of a serial number."""
    return (serial * _FACTOR & _MASK).to_bytes(SIZE, "big")


def listing(serials: Iterable[int]) -> bytes:
    """Return the UUIDs of serial numbers, concatenated."""
    return b"".join([(serial * _FACTOR & _MASK).to_bytes(SIZE, "big") for serial in serials])


def serial(data: bytes) -> int:
    """Return the serial number of a UUID; of a random UUID it is some large number."""
    return int.from_bytes(data, "big") * _INVERSE & _MASK
