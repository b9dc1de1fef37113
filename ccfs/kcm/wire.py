"""KCM messages as bytes on a stream.

Knows where a request begins and ends, and how a reply is put together; never a socket, nor what a
request means.

    request = length(u32) version(u16) opcode(u16) payload      length: of what is behind it
    reply   = length(u32) outer(i32)=0 status(i32) payload      length: of status and payload
    version = 02 00

The outer status is always 0: MIT's client does not read on behind another one.
"""

from dataclasses import dataclass
from struct import Struct

VERSION = 0x0200
SMALL = 64 * 1024
"""Bytes of a message that every connection may hold at any time."""
MAX_REPLY = 10 * 1024 * 1024
"""The longest reply that MIT's client takes, status included."""

_LENGTH = Struct(">I")
_HEAD = Struct(">HH")
_REPLY = Struct(">Iii")
HEAD = _HEAD.size


class ProtocolError(Exception):
    """These bytes are no KCM: there is nothing to be in step with.  Says what was wanted."""


@dataclass(frozen=True, slots=True)
class TooLarge:
    """A request that was passed over, for its length in bytes."""

    length: int


class Room:
    """How many bytes of large messages all connections together may hold."""

    def __init__(self, size: int) -> None:
        self.left = size

    def take(self, size: int) -> bool:
        """Whether there was room for `size` bytes, which are taken then."""
        if size > self.left:
            return False
        self.left -= size
        return True

    def give(self, size: int) -> None:
        """Give back what was taken."""
        self.left += size


class Pieces:
    """A request that is taken in as it comes, `size` bytes with its length.

    `limit`: the most bytes of a request.  One that is longer, or that finds no room, is passed
    over without being kept, so that the stream stays in step.  `missing`: bytes still to come.
    """

    __slots__ = ("_buffer", "_length", "_room", "_taken", "missing")

    def __init__(self, size: int, limit: int, room: Room) -> None:
        self.missing = size
        self._length = length = size - _LENGTH.size
        self._room = room
        self._taken = length if SMALL < length <= limit and room.take(length) else 0
        self._buffer = bytearray() if length <= SMALL or self._taken else None

    def feed(self, data: bytes) -> None:
        """More bytes of it, `missing` at most."""
        self.missing -= len(data)
        if self._buffer is not None:
            self._buffer += data

    def whole(self) -> bytes | TooLarge:
        """The request, from its version on, once nothing is missing."""
        self.close()
        if self._buffer is None:
            return TooLarge(self._length)
        return bytes(memoryview(self._buffer)[_LENGTH.size :])

    def close(self) -> None:
        """Give back the room that it has taken."""
        self._room.give(self._taken)
        self._taken = 0


def size_of(data: bytes) -> int:
    """Bytes of the request that `data` begins with, 0 where its length has not come.

    Raises ProtocolError for a length that has no room for a version and an opcode.
    """
    if len(data) < _LENGTH.size:
        return 0
    length = int(_LENGTH.unpack_from(data)[0])
    if length < HEAD:
        raise ProtocolError("a request of four bytes at least")
    return _LENGTH.size + length


def opcode_of(data: bytes) -> int:
    """The opcode of the request that `data` begins with; -1 where it has not come."""
    return int(_HEAD.unpack_from(data, _LENGTH.size)[1]) if len(data) >= _LENGTH.size + HEAD else -1


def single(data: bytes) -> bool:
    """Whether `data` is one request from its length to its end: nearly always it is."""
    return len(data) >= 8 and _LENGTH.unpack_from(data)[0] == len(data) - 4


def head(opcode: int) -> bytes:
    """How a request of an opcode begins, behind its length."""
    return _HEAD.pack(VERSION, opcode)


def check_version(request: bytes) -> None:
    """ProtocolError for a request (from its version on) of another version."""
    if _HEAD.unpack_from(request)[0] != VERSION:
        raise ProtocolError("version 2.0")


def reply(status: int, payload: bytes = b"") -> bytes:
    """The bytes of a reply.  `status`: 0, or a code of `ccfs.kcm.codes`."""
    return _REPLY.pack(4 + len(payload), 0, status) + payload
