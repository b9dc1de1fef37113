"""How a daemon begins with a FUSE connection that lives already, or is to outlive it.

libfuse wants to answer FUSE_INIT first, which the kernel sends once.  So it gets a socket in place
of the device, reads the request there that the supervisor has kept, and its answer goes to the
kernel, which takes the first one.  Then the kernel is told to give out again what the last daemon
has read and not answered (FUSE_NOTIFY_RESEND): one request, since one thread serves.  It is looked
at here, and given to libfuse by the same socket; after its answer the device takes that place.

Knows the heads of FUSE messages (linux/fuse.h); never what a request asks.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from ccfs.linux import fuse_messages
from ccfs.takeover.handover import MARK_STEP, RESENT

if TYPE_CHECKING:
    from ccfs.takeover.handover import Handover

log = logging.getLogger(__name__)

LARGEST_WRITE = 256 * 1024
"""Bytes of a write(2) in one request: no more than what goes through the socket."""
_AGAIN = 1 << 63
"""In the number of a request that was sent again (FUSE_UNIQUE_RESEND)."""
_MAX_WRITE = struct.Struct("<I")
_MAX_WRITE_AT = fuse_messages.REPLY.size + 20
_MAX_PAGES = struct.Struct("<H")
_MAX_PAGES_AT = fuse_messages.REPLY.size + 28

_NAMES = {
    1: "lookup", 3: "getattr", 4: "setattr", 5: "readlink", 6: "symlink", 8: "mknod", 9: "mkdir",
    10: "unlink", 11: "rmdir", 12: "rename", 14: "open", 15: "read", 16: "write", 18: "release",
    20: "fsync", 27: "opendir", 28: "readdir", 29: "releasedir", 34: "access", 35: "create",
    40: "poll", 44: "readdirplus", 45: "rename",
}  # fmt: skip


class Handshake:
    """The begin of one daemon.

    `device`: the descriptor that libfuse is given.  `made`: whether the last daemon made the step
    of the request that it has not answered; `again()` is called before that one comes once more.
    """

    def __init__(
        self, device: int, handover: Handover, again: Callable[[], None], *, made: bool
    ) -> None:
        self._device = device
        self._real = os.dup(device)
        self._init = handover.init
        self._words = handover.words
        self._made = made
        self._again = again
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, fuse_messages.BUFFER)
        self._ours.setblocking(False)
        with theirs:
            os.dup2(theirs.fileno(), device, inheritable=False)
        self._steps = self._begin()

    def goes_on(self) -> bool:
        """Whether libfuse has something to read at the socket.

        To be called whenever it wants to read; False: the device is in its place from now on.
        """
        return next(self._steps, False)

    def _begin(self) -> Iterator[bool]:
        self._ours.send(self._init)
        yield True
        self._answer_init()
        os.write(self._real, fuse_messages.RESEND)
        while request := self._next_request():
            _, opcode, unique, *_ = fuse_messages.REQUEST.unpack_from(request)
            if unique & _AGAIN and self._refuses(opcode, unique):
                continue
            self._ours.send(request)
            yield True
            self._pass_answers()
            if opcode not in fuse_messages.WITHOUT_REPLY:
                break
        self._words[MARK_STEP] = 0
        os.dup2(self._real, self._device, inheritable=False)
        os.close(self._real)
        self._ours.close()

    def _answer_init(self) -> None:
        """Give the kernel the answer to its first request, where no earlier daemon has."""
        answer = bytearray(self._ours.recv(fuse_messages.BUFFER))
        (largest,) = _MAX_WRITE.unpack_from(answer, _MAX_WRITE_AT)
        if largest > LARGEST_WRITE:
            _MAX_WRITE.pack_into(answer, _MAX_WRITE_AT, LARGEST_WRITE)
            _MAX_PAGES.pack_into(answer, _MAX_PAGES_AT, LARGEST_WRITE // mmap.PAGESIZE)
        with suppress(FileNotFoundError):
            os.write(self._real, answer)

    def _next_request(self) -> bytes:
        """The request that the kernel has next; b"" for none."""
        os.set_blocking(self._real, False)
        try:
            while True:
                with suppress(FileNotFoundError, InterruptedError):  # its client is gone
                    return os.read(self._real, fuse_messages.BUFFER)
        except BlockingIOError:
            return b""
        finally:
            os.set_blocking(self._real, True)

    def _refuses(self, opcode: int, unique: int) -> bool:
        """Answer a request that two daemons have died on, and that made no step; else note it."""
        if self._made:
            self._again()
        elif self._words[RESENT] == unique:
            name = _NAMES.get(opcode, str(opcode))
            log.error("two daemons have died on a request (%s), it is refused", name)
            os.write(self._real, fuse_messages.refusal(unique, errno.EIO))
            return True
        self._words[RESENT] = unique
        return False

    def _pass_answers(self) -> None:
        """Give the kernel what libfuse has said."""
        with suppress(BlockingIOError):
            while True:
                said = self._ours.recv(fuse_messages.BUFFER)
                with suppress(OSError):  # its client is gone, or the kernel knows no such inode
                    os.write(self._real, said)
