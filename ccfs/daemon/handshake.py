# SPDX-License-Identifier: MIT
"""How a daemon begins with a FUSE connection that other daemons serve before or after it.

libfuse wants to reply to FUSE_INIT first, which the kernel sends once.  So libfuse gets a socket in
place of the device: there it reads the request that the supervisor has kept, and its reply is
written to the kernel, which takes the first one.  Then the kernel is told to resend what the last
daemon has read and not replied to (FUSE_NOTIFY_RESEND): one request, since one thread serves.  That
is looked at here, and given to libfuse by the same socket; after its reply the device takes the
socket's place.

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

from ccfs.linux import fuse_messages
from ccfs.takeover.handover import MARK_STEP, RESENT, Handover

log = logging.getLogger(__name__)

LARGEST_WRITE = 256 * 1024
"""Bytes of a write(2) in one request: no more than what goes through the socket."""
_RESENT_BIT = 1 << 63
"""In the `unique` of a request that was resent (FUSE_UNIQUE_RESEND)."""
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
    """The beginning of one daemon.

    `device`: the descriptor that libfuse is given.  `step_made`: the last daemon made the step of
    the request that it has not replied to; `expect_again()` is called before that request is
    resent.
    """

    def __init__(
        self, device: int, handover: Handover, expect_again: Callable[[], None], *, step_made: bool
    ) -> None:
        self._device = device
        self._real_device = os.dup(device)
        self._init = handover.init
        self._words = handover.words
        self._step_made = step_made
        self._expect_again = expect_again
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, fuse_messages.BUFFER)
        self._socket.setblocking(False)
        with theirs:
            os.dup2(theirs.fileno(), device, inheritable=False)
        self._steps = self._run()

    def goes_on(self) -> bool:
        """True if libfuse has something to read at the socket.

        To be called whenever libfuse is about to read; False: the device is in its place from now
        on.
        """
        return next(self._steps, False)

    def _run(self) -> Iterator[bool]:
        self._socket.send(self._init)
        yield True
        self._reply_to_init()
        os.write(self._real_device, fuse_messages.RESEND)
        while request := self._next_request():
            _, opcode, unique, *_ = fuse_messages.REQUEST.unpack_from(request)
            if unique & _RESENT_BIT and self._refuse_or_note(opcode, unique):
                continue
            self._socket.send(request)
            yield True
            self._forward_replies()
            if opcode not in fuse_messages.WITHOUT_REPLY:
                break
        self._words[MARK_STEP] = 0
        os.dup2(self._real_device, self._device, inheritable=False)
        os.close(self._real_device)
        self._socket.close()

    def _reply_to_init(self) -> None:
        """Write libfuse's reply to FUSE_INIT, which the kernel takes where it is the first one."""
        reply = bytearray(self._socket.recv(fuse_messages.BUFFER))
        (largest,) = _MAX_WRITE.unpack_from(reply, _MAX_WRITE_AT)
        if largest > LARGEST_WRITE:
            _MAX_WRITE.pack_into(reply, _MAX_WRITE_AT, LARGEST_WRITE)
            _MAX_PAGES.pack_into(reply, _MAX_PAGES_AT, LARGEST_WRITE // mmap.PAGESIZE)
        with suppress(FileNotFoundError):
            os.write(self._real_device, reply)

    def _next_request(self) -> bytes:
        """The request that the kernel has next; b"" for none."""
        os.set_blocking(self._real_device, False)
        try:
            while True:
                with suppress(FileNotFoundError, InterruptedError):  # its client was killed
                    return os.read(self._real_device, fuse_messages.BUFFER)
        except BlockingIOError:
            return b""
        finally:
            os.set_blocking(self._real_device, True)

    def _refuse_or_note(self, opcode: int, unique: int) -> bool:
        """Refuse a request that two daemons have died on and that made no step; else note it."""
        if self._step_made:
            self._expect_again()
        elif self._words[RESENT] == unique:
            name = _NAMES.get(opcode, str(opcode))
            log.error("two daemons have died on a request (%s), it is refused", name)
            os.write(self._real_device, fuse_messages.refusal(unique, errno.EIO))
            return True
        self._words[RESENT] = unique
        return False

    def _forward_replies(self) -> None:
        """Write to the kernel what libfuse has written to the socket."""
        with suppress(BlockingIOError):
            while True:
                reply = self._socket.recv(fuse_messages.BUFFER)
                with suppress(OSError):  # its client was killed, or the kernel has no such inode
                    os.write(self._real_device, reply)
