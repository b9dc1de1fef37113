"""UUIDs of ccaches and credentials: their serial numbers, made to look like nothing.

Knows numbers only.  A serial number is never reused and survives a restart, so its UUID does, too;
and it can be turned back, so nobody has to remember any.

    uuid = serial * _FACTOR mod 2**128, in 16 bytes
"""

from collections.abc import Iterable
from hashlib import blake2b

SIZE = 16
_MASK = 2**128 - 1
_FACTOR = int.from_bytes(blake2b(b"ccfs kcm uuid", digest_size=SIZE).digest(), "big") | 1
_INVERSE = pow(_FACTOR, -1, 2**128)


def uuid(serial: int) -> bytes:
    """The UUID of a serial number."""
    return (serial * _FACTOR & _MASK).to_bytes(SIZE, "big")


def listing(serials: Iterable[int]) -> bytes:
    """The UUIDs of many, one behind the other."""
    return b"".join([(serial * _FACTOR & _MASK).to_bytes(SIZE, "big") for serial in serials])


def serial(data: bytes) -> int:
    """The serial number of a UUID; of one that was never given it is some large number."""
    return int.from_bytes(data, "big") * _INVERSE & _MASK
