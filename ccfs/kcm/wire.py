# SPDX-License-Identifier: MIT
"""KCM messages as bytes on a stream: framing of requests, encoding of replies.

Never knows a socket, nor what a request means.

    request = length(u32) version(u16) opcode(u16) payload      length: of what follows
    reply   = length(u32) outer(i32)=0 status(i32) payload      length: of status and payload
    version = 02 00

The outer status is always 0: MIT's client reads no payload after any other.
"""

from dataclasses import dataclass
from struct import Struct

VERSION = 0x0200
SMALL = 64 * 1024
"""Bytes of a message that every connection may buffer at any time."""
MAX_REPLY = 10 * 1024 * 1024
"""Bytes of the longest reply that MIT's client accepts, status included."""

_LENGTH = Struct(">I")
_HEAD = Struct(">HH")
_REPLY = Struct(">Iii")
HEAD = _HEAD.size


class ProtocolError(Exception):
    """No KCM request: where the next one begins is unknown.  The message says what was expected."""


@dataclass(frozen=True, slots=True)
class TooLarge:
    """A request that was skipped, for its length in bytes."""

    length: int


class MemoryBudget:
    """Limits the bytes of large messages that all connections together buffer."""

    def __init__(self, size: int) -> None:
        self.available = size

    def reserve(self, size: int) -> bool:
        """Reserve `size` bytes; returns whether they were available."""
        if size > self.available:
            return False
        self.available -= size
        return True

    def release(self, size: int) -> None:
        """Release reserved bytes."""
        self.available += size


class PartialRequest:
    """A request that is read from its socket in parts: `size` bytes, its length field included.

    `limit`: the largest length.  A longer request, or one that the budget has no memory for, is
    read and dropped, so that the next one is found.  `missing`: bytes that were not read yet.
    """

    __slots__ = ("_budget", "_buffer", "_length", "_reserved", "missing")

    def __init__(self, size: int, limit: int, budget: MemoryBudget) -> None:
        self.missing = size
        self._length = length = size - _LENGTH.size
        self._budget = budget
        self._reserved = length if SMALL < length <= limit and budget.reserve(length) else 0
        self._buffer = bytearray() if length <= SMALL or self._reserved else None

    def feed(self, data: bytes) -> None:
        """Add more bytes, `missing` at most."""
        self.missing -= len(data)
        if self._buffer is not None:
            self._buffer += data

    def finish(self) -> bytes | TooLarge:
        """Return the request, from its version on, once nothing is missing."""
        self.close()
        if self._buffer is None:
            return TooLarge(self._length)
        return bytes(memoryview(self._buffer)[_LENGTH.size :])

    def close(self) -> None:
        """Release its part of the budget."""
        self._budget.release(self._reserved)
        self._reserved = 0


def size_of(data: bytes) -> int:
    """Return the size in bytes of the request that `data` begins with; 0 before its length field.

    Raises ProtocolError for a length too small for a version and an opcode.
    """
    if len(data) < _LENGTH.size:
        return 0
    length = int(_LENGTH.unpack_from(data)[0])
    if length < HEAD:
        raise ProtocolError("a request of four bytes at least")
    return _LENGTH.size + length


def opcode_of(data: bytes) -> int:
    """Return the opcode of the request that `data` begins with; -1 where that is incomplete."""
    return int(_HEAD.unpack_from(data, _LENGTH.size)[1]) if len(data) >= _LENGTH.size + HEAD else -1


def is_one_request(data: bytes) -> bool:
    """Whether `data` is exactly one request, as it nearly always is."""
    return len(data) >= 8 and _LENGTH.unpack_from(data)[0] == len(data) - 4


def head(opcode: int) -> bytes:
    """Return the version and opcode of a request, which follow its length."""
    return _HEAD.pack(VERSION, opcode)


def check_version(request: bytes) -> None:
    """Raise ProtocolError for a request (from its version on) of another version."""
    if _HEAD.unpack_from(request)[0] != VERSION:
        raise ProtocolError("version 2.0")


def reply(status: int, payload: bytes = b"") -> bytes:
    """Encode a reply.  `status`: 0, or a code of `ccfs.kcm.codes`."""
    return _REPLY.pack(4 + len(payload), 0, status) + payload
