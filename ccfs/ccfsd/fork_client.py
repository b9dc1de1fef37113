# SPDX-License-Identifier: MIT
"""The fork server of ccfsd, and what ccfsd asks of it.

Daemons are forked from a process of their own (ccfs.takeover.fork_server), so that they share its
memory and have nothing of ccfsd's.  The first one is forked from ccfsd before trio runs.  When it
has ended a new one is executed cold, from the program that ccfsd was started with: a child that is
forked while trio runs has trio's state, and no daemon could run trio in it.

Knows orders, replies and the end of one process; never what a child does.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import struct
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import trio

from ccfs.ccfsd.background import logged
from ccfs.ccfsd.passed_descriptors import FORK_SERVER, Program
from ccfs.linux import descriptors
from ccfs.takeover import fork_server
from ccfs.takeover.fork_server import Child, Fork

log = logging.getLogger(__name__)

SECONDS = 10.0
"""Seconds that a fork may take, that of a fork server that has just been executed, too."""
_REPLY_MAX = 4096
_NUMBER = struct.Struct("i")


@dataclass(frozen=True, slots=True)
class RunningForkServer:
    """A fork server.  `orders`: the socket to it; `pidfd`: readable once it has ended."""

    pid: int
    pidfd: int
    orders: socket.socket


def fork_from_here(prepare: Callable[[], None], fork: Fork) -> RunningForkServer:
    """Fork a fork server from this process, in which trio doesn't run."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            fork_server.run(theirs, prepare, fork)
        finally:
            os._exit(1)
    theirs.close()
    ours.setblocking(False)
    return RunningForkServer(pid, os.pidfd_open(pid), ours)


def execute(program: Program) -> RunningForkServer:
    """Execute the program as a fork server, which is ready once it has imported all."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        child = subprocess.Popen(  # noqa: S603 - our own program
            program.command,
            cwd=program.directory,
            env={**program.environment, FORK_SERVER: str(theirs.fileno())},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
    child.returncode = 0  # reaped in ForkClient, not by subprocess
    ours.setblocking(False)
    return RunningForkServer(child.pid, os.pidfd_open(child.pid), ours)


class ForkClient:
    """Has children forked, one order at a time."""

    def __init__(self, running: RunningForkServer, program: Program) -> None:
        self._running = running
        self._program = program
        self._one_order = trio.Lock()

    async def fork(self, values: Mapping[str, object], passed: Sequence[int]) -> Child:
        """Have a child forked that is given values and descriptors.  Raises OSError."""
        order = json.dumps(values).encode()
        async with self._one_order:
            try:
                return await self._fork(order, passed)
            except TimeoutError:
                self._renew()  # or its late reply would be taken for another one
                raise
            except (ConnectionError, EOFError):
                self._renew()
                return await self._fork(order, passed)

    async def exit_status(self, pid: int) -> int | None:
        """The exit status of a child that has ended, negative for a signal; None: unknown."""
        async with self._one_order:
            try:
                await self._send(json.dumps({"ended": pid}).encode(), ())
                reply, _ = self._receive()
            except TimeoutError:
                with suppress(OSError):
                    self._renew()  # or its late reply would be taken for another one
                return None
            except (OSError, EOFError):
                return None
        return int(_NUMBER.unpack(reply)[0]) if len(reply) == _NUMBER.size else None

    async def keep_running(self) -> None:
        """Execute another fork server whenever the present one has ended, before it is needed."""
        while True:
            running = self._running
            await trio.lowlevel.wait_readable(running.pidfd)
            async with self._one_order:
                if self._running is running:
                    with logged() as failure:
                        self._renew()
            if failure:
                await trio.sleep(SECONDS)

    async def _fork(self, order: bytes, passed: Sequence[int]) -> Child:
        room = os.dup(self._running.orders.fileno())  # or there may be none for the child's pidfd
        try:
            await self._send(order, passed)
        finally:
            os.close(room)
        reply, received = self._receive()
        if not received:
            raise OSError(_NUMBER.unpack(reply)[0], "cannot fork")
        return Child(_NUMBER.unpack(reply)[0], received[0])

    async def _send(self, order: bytes, passed: Sequence[int]) -> None:
        """Send an order and wait for the reply.  Raises OSError.

        Not cancelled once it is sent: its reply would be taken for that to the next order.
        """
        socket.send_fds(self._running.orders, [order], list(passed))
        with trio.CancelScope(deadline=trio.current_time() + SECONDS, shield=True) as limit:
            await trio.lowlevel.wait_readable(self._running.orders)
        if limit.cancelled_caught:
            raise TimeoutError

    def _receive(self) -> tuple[bytes, list[int]]:
        """The reply that has come, with a descriptor or without.  Raises OSError, EOFError."""
        reply, received = descriptors.receive(self._running.orders, _REPLY_MAX, 1)
        if not reply:
            raise EOFError
        return reply, received

    def _renew(self) -> None:
        """Have another fork server.  Raises OSError: the present one stays."""
        log.warning("the fork server does not answer, another one is started")
        before, self._running = self._running, execute(self._program)
        before.orders.close()
        os.close(before.pidfd)
        with suppress(ChildProcessError):
            os.waitpid(before.pid, os.WNOHANG)
