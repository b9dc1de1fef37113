"""sendmmsg(2) and recvmmsg(2) of one message: the kernel itself notes how much was moved.

Their struct mmsghdr ends in a count, which the kernel writes inside the system call.  Where that is
memory that outlives the process, the count is right whenever the process is killed.
"""

from __future__ import annotations

import ctypes
import os
import socket
from errno import EAGAIN

_libc = ctypes.CDLL(None, use_errno=True)
_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class _Vector(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_char_p), ("size", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_size", ctypes.c_uint),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (("header", _Header), ("count", ctypes.c_uint))


WORDS = 8
"""Words of eight bytes that a message takes."""


class _Counted:
    """One message at `at` among `words`.  The count that is there stays until the next call."""

    def __init__(self, words: memoryview[int], at: int) -> None:
        self._vector = _Vector()
        self._message = _Message.from_buffer(words.cast("B"), at * words.itemsize)
        self._message.header = _Header(vectors=ctypes.addressof(self._vector), vector_count=1)
        self._address = ctypes.c_void_p(ctypes.addressof(self._message))

    @property
    def count(self) -> int:
        """Bytes that were moved."""
        return int(self._message.count)

    def reset(self) -> None:
        """Nothing was moved yet."""
        self._message.count = 0


class CountedSend(_Counted):
    """Sends."""

    def send(self, descriptor: int, data: bytes) -> int:
        """Send what the kernel takes; returns how many bytes.  Raises OSError."""
        self._vector.base, self._vector.size = data, len(data)
        if _libc.sendmmsg(descriptor, self._address, 1, _FLAGS) == 1:
            return int(self._message.count)
        return _failed()


class CountedReceive(_Counted):
    """Receives, and throws away: of what was looked at before by MSG_PEEK."""

    def __init__(self, words: memoryview[int], at: int, most: int) -> None:
        super().__init__(words, at)
        self._buffer = ctypes.create_string_buffer(most)
        self._vector.base = ctypes.cast(self._buffer, ctypes.c_char_p)

    def receive(self, descriptor: int, size: int) -> int:
        """Take `size` bytes out of a socket; returns how many there were.  Raises OSError."""
        self._vector.size = size
        if _libc.recvmmsg(descriptor, self._address, 1, _FLAGS, None) == 1:
            return int(self._message.count)
        return _failed()


def _failed() -> int:
    number = ctypes.get_errno()
    if number == EAGAIN:
        return 0
    raise OSError(number, os.strerror(number))
