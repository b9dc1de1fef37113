"""The process that daemons are forked from: all imported, nothing done, nothing touched.

A child shares the memory of its parent as long as neither writes to it, and Python writes wherever
it looks.  Who keeps daemons is busy: each of them would be left alone with what that one changes
after the fork.  So a process that was forked before there was anything to do forks them, and a
daemon that replaces another need not import anything.

Knows a socket to whoever keeps the daemons, what it is told to fork, and its children; never who
wanted them.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from ccfs.linux import descriptors

log = logging.getLogger(__name__)

_ROOM = 65536
_ENDED = struct.Struct("i")
SECONDS = 10.0
"""That it may take to fork."""

Fork = Callable[[dict[str, object], list[int]], int]
"""Fork a child that does what an order says, given with it: values, and descriptors.

Returns its pid; the nursery closes the descriptors afterwards."""


@dataclass(frozen=True, slots=True)
class Born:
    """A child of the nursery."""

    pid: int
    pidfd: int


class ForkServer:
    """The side of who keeps daemons: orders out, a child back.

    `settle`: what the nursery does first.
    """

    def __init__(self, settle: Callable[[], None], fork: Fork) -> None:
        self._settle = settle
        self._fork = fork
        self._socket = self._open()

    def bear(self, values: Mapping[str, object], passed: list[int]) -> Born:
        """Have a child forked.  Raises OSError."""
        order = json.dumps(values).encode()
        try:
            return self._bear(order, passed)
        except TimeoutError:
            self._renew()  # or its late answer would be taken for another one
            raise
        except (ConnectionError, EOFError):
            self._renew()
            return self._bear(order, passed)

    def ended(self, pid: int) -> int | None:
        """How a child has ended that has: its status, negative for a signal; None: unknown."""
        try:
            self._socket.send(json.dumps({"ended": pid}).encode())
            reply = self._socket.recv(_ROOM)
        except OSError:
            self._renew()
            return None
        return int(_ENDED.unpack(reply)[0]) if len(reply) == _ENDED.size else None

    def close(self) -> None:
        """Ask no more: the nursery ends, its children go on."""
        self._socket.close()

    def _renew(self) -> None:
        """Have another one; this one ends when it sees that nobody asks it any more."""
        log.warning("the nursery does not answer, there is a new one")
        self._socket.close()
        with suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        self._socket = self._open()

    def _bear(self, order: bytes, passed: list[int]) -> Born:
        room = os.dup(self._socket.fileno())  # for the child's: nobody is born who can't be watched
        try:
            socket.send_fds(self._socket, [order], passed)
        finally:
            os.close(room)
        reply, descriptors, _, _ = socket.recv_fds(self._socket, _ROOM, 1)
        if not reply:
            raise EOFError
        if not descriptors:
            raise OSError(_ENDED.unpack(reply)[0], "cannot fork")
        os.set_inheritable(descriptors[0], False)
        return Born(_ENDED.unpack(reply)[0], descriptors[0])

    def _open(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            try:
                ours.close()
                _serve(theirs, self._settle, self._fork)
            finally:
                os._exit(1)
        theirs.close()
        ours.settimeout(SECONDS)
        return ours


def _serve(orders: socket.socket, settle: Callable[[], None], fork: Fork) -> None:
    """Be the nursery, until nobody asks it any more."""
    settle()
    descriptors.close_all_but({orders.fileno()})
    while True:
        data, passed, _, _ = socket.recv_fds(orders, _ROOM, 16)
        for descriptor in passed:
            os.set_inheritable(descriptor, False)
        if not data:
            os._exit(0)
        order = json.loads(data)
        if "ended" in order:
            orders.send(_reap(order["ended"]))
        else:
            _bear(orders, order, passed, fork)
        for descriptor in passed:
            os.close(descriptor)


def _bear(orders: socket.socket, order: dict[str, object], passed: list[int], fork: Fork) -> None:
    try:
        pid = fork(order, passed)
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        orders.send(_ENDED.pack(error.errno or 0))
        return
    socket.send_fds(orders, [_ENDED.pack(pid)], [pidfd])
    os.close(pidfd)


def _reap(pid: object) -> bytes:
    """How a child has ended; nothing where it hasn't, or is somebody else's."""
    with suppress(OSError):
        found, status = os.waitpid(int(str(pid)), os.WNOHANG)
        if found:
            return _ENDED.pack(os.waitstatus_to_exitcode(status))
    return b"?"
