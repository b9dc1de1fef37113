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


class Requests:
    """The requests in a stream, however it is cut into pieces.

    `limit`: the most bytes of a request.  One that is longer, or that finds no room, is passed
    over without being kept, so that the stream stays in step.
    """

    __slots__ = ("_buffer", "_left", "_limit", "_passed", "_room", "_taken")

    def __init__(self, limit: int, room: Room) -> None:
        self._limit = limit
        self._room = room
        self._buffer = bytearray()
        self._taken = 0
        self._passed: TooLarge | None = None
        self._left = 0

    @property
    def idle(self) -> bool:
        """Whether the last request was complete, and nothing has come behind it."""
        return not self._buffer and self._passed is None

    @property
    def missing(self) -> int:
        """How many bytes the present request still wants, as far as is known; 0 for none."""
        if self._left:
            return self._left
        have = len(self._buffer)
        if have < _LENGTH.size:
            return have and _LENGTH.size - have
        return max(_LENGTH.size + int(_LENGTH.unpack_from(self._buffer)[0]) - have, 0)

    def feed(self, data: bytes) -> None:
        """More bytes of the stream."""
        self._buffer += data

    def take(self) -> bytes | TooLarge | None:
        """The next request, from its version on; None where more bytes are wanted.

        Raises ProtocolError for a length that has no room for a version and an opcode.
        """
        if self._passed:
            return self._pass_over()
        if len(self._buffer) < _LENGTH.size:
            return None
        length = _LENGTH.unpack_from(self._buffer)[0]
        if length < HEAD:
            raise ProtocolError("a request of four bytes at least")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return self._await(length)
        request = bytes(memoryview(self._buffer)[_LENGTH.size : end])
        del self._buffer[:end]
        self.close()
        return request

    def close(self) -> None:
        """Give back the room that a request has taken."""
        self._room.give(self._taken)
        self._taken = 0

    def _await(self, length: int) -> TooLarge | None:
        """A request that is not complete yet: see whether it may become so."""
        if length <= SMALL or self._taken:
            return None
        if length <= self._limit and self._room.take(length):
            self._taken = length
            return None
        self._passed, self._left = TooLarge(length), _LENGTH.size + length
        return self._pass_over()

    def _pass_over(self) -> TooLarge | None:
        """Let go of what has come of a request that is not to be kept."""
        gone = min(self._left, len(self._buffer))
        del self._buffer[:gone]
        self._left -= gone
        if self._left:
            return None
        passed, self._passed = self._passed, None
        return passed


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
