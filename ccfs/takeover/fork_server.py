# SPDX-License-Identifier: MIT
"""The process that daemons are forked from: everything imported, nothing done, nothing touched.

A child shares the memory of its parent as long as neither writes to it, and Python writes wherever
it looks (reference counts).  A supervisor is busy: each daemon that it forked itself would soon
hold copies of its pages.  So a process that was forked before there was anything to do forks the
daemons, and a daemon that replaces another need not import anything.

Knows a socket to the supervisor, what it is told to fork, and its children; never why.
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

SECONDS = 10.0
"""That a reply of the fork server may take."""
_MESSAGE_MAX = 65536
_DESCRIPTORS_MAX = 16
_INT = struct.Struct("i")
_UNKNOWN = b"?"

Fork = Callable[[dict[str, object], list[int]], int]
"""Fork a child that does what an order says: values, and descriptors.

Returns its pid; the fork server closes the descriptors afterwards."""


@dataclass(frozen=True, slots=True)
class Child:
    """A child of the fork server."""

    pid: int
    pidfd: int


class ForkServer:
    """The supervisor's side: an order is sent, a child comes back.

    `prepare`: what the fork server does first.
    """

    def __init__(self, prepare: Callable[[], None], fork: Fork) -> None:
        self._prepare = prepare
        self._fork = fork
        self._socket = self._start()

    def fork(self, values: Mapping[str, object], passed: list[int]) -> Child:
        """Have a child forked, with descriptors.  Raises OSError, EOFError."""
        order = json.dumps(values).encode()
        try:
            return self._request(order, passed)
        except TimeoutError:
            self._restart()  # its late reply would be taken for that to another order
            raise
        except (ConnectionError, EOFError):
            self._restart()
            return self._request(order, passed)

    def exit_status(self, pid: int) -> int | None:
        """Return the exit status of a child that has ended, negative for a signal; None: unknown.

        Returns once the fork server is prepared.
        """
        try:
            self._socket.send(json.dumps({"ended": pid}).encode())
            reply = self._socket.recv(_MESSAGE_MAX)
        except OSError:
            self._restart()
            return None
        return int(_INT.unpack(reply)[0]) if len(reply) == _INT.size else None

    def close(self) -> None:
        """Send no more orders: the fork server ends, its children go on."""
        self._socket.close()

    def _restart(self) -> None:
        """Start another one; this one ends when its socket is closed."""
        log.warning("the fork server does not answer, starting another")
        self._socket.close()
        with suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        self._socket = self._start()

    def _request(self, order: bytes, passed: list[int]) -> Child:
        # Proves that there is a descriptor for the pidfd: no child must be forked without one.
        spare = os.dup(self._socket.fileno())
        try:
            socket.send_fds(self._socket, [order], passed)
        finally:
            os.close(spare)
        reply, received = descriptors.receive(self._socket, _MESSAGE_MAX, 1)
        if not reply:
            raise EOFError
        if not received:
            raise OSError(_INT.unpack(reply)[0], "cannot fork")
        return Child(_INT.unpack(reply)[0], received[0])

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            try:
                ours.close()
                run(theirs, self._prepare, self._fork)
            finally:
                os._exit(1)
        theirs.close()
        ours.settimeout(SECONDS)
        return ours


def run(orders: socket.socket, prepare: Callable[[], None], fork: Fork) -> None:
    """Be the fork server until the other end of the socket is closed; never returns."""
    prepare()
    descriptors.close_all_but({orders.fileno()})
    while True:
        data, passed = descriptors.receive(orders, _MESSAGE_MAX, _DESCRIPTORS_MAX)
        if not data:
            os._exit(0)
        order = json.loads(data)
        if "ended" in order:
            orders.send(_reap(order["ended"]))
        else:
            _fork_child(orders, order, passed, fork)
        for descriptor in passed:
            os.close(descriptor)


def _fork_child(
    orders: socket.socket, order: dict[str, object], passed: list[int], fork: Fork
) -> None:
    try:
        pid = fork(order, passed)
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        orders.send(_INT.pack(error.errno or 0))
        return
    socket.send_fds(orders, [_INT.pack(pid)], [pidfd])
    os.close(pidfd)


def _reap(pid: object) -> bytes:
    """The exit status of a child; _UNKNOWN where it hasn't ended, or is no child."""
    with suppress(OSError):
        ended, status = os.waitpid(int(str(pid)), os.WNOHANG)
        if ended:
            return _INT.pack(os.waitstatus_to_exitcode(status))
    return _UNKNOWN
