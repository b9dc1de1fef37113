# SPDX-License-Identifier: MIT
"""sendmmsg(2) and recvmmsg(2) of one message, with the number of bytes in given memory.

Their struct mmsghdr ends in a count, which the kernel writes inside the system call.  Where that is
memory that outlives the process, the count is right whenever the process is killed.

Each KCM request takes such a call, so that sizes are stored through memoryviews, which is faster
than through ctypes fields.
"""

from __future__ import annotations

import ctypes
import os
import socket
from errno import EAGAIN

from ccfs.linux.libc import libc

_sendmmsg, _recvmmsg = libc.sendmmsg, libc.recvmmsg
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


class Counted:
    """One message, whose struct mmsghdr is at byte `at` of some memory.

    `room`: the most bytes that `take_out` receives.
    `count[0]`: the bytes that were sent or received; stays until the next call, or is set to 0.
    """

    def __init__(self, memory: memoryview[int], at: int, room: int = 0) -> None:
        memory = memory.cast("B")
        end = at + ctypes.sizeof(_Message)
        self.count = memory[end - 8 : end].cast("I")[_Message.count.offset % 8 // 4 :]
        self._buffer = ctypes.create_string_buffer(room)
        self._vector = _Vector(ctypes.addressof(self._buffer), 0)
        self._size = memoryview(self._vector).cast("B").cast("L")[1:]
        self._message = _Message.from_buffer(memory, at)
        self._message.header = _Header(vectors=ctypes.addressof(self._vector), vector_count=1)
        self._address = ctypes.c_void_p(ctypes.addressof(self._message))

    def send(self, descriptor: int, data: bytes) -> int:
        """Send as many bytes as the socket has room for; return how many.  Raises OSError."""
        self._vector.base = data
        self._size[0] = len(data)
        if _sendmmsg(descriptor, self._address, 1, _FLAGS) == 1:
            return self.count[0]
        return _failed()

    def take_out(self, descriptor: int, size: int) -> int:
        """Receive bytes that MSG_PEEK has shown; return how many.  Raises OSError."""
        self._size[0] = size
        if _recvmmsg(descriptor, self._address, 1, _FLAGS, None) == 1:
            return self.count[0]
        return _failed()


def _failed() -> int:
    number = ctypes.get_errno()
    if number == EAGAIN:
        return 0
    raise OSError(number, os.strerror(number))
