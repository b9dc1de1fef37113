# SPDX-License-Identifier: MIT
"""ccfsd's client of the fork server, with fork servers that do not answer."""

import os
import socket
import subprocess
from collections.abc import Iterator

import pytest
import trio
from trio.testing import MockClock

from ccfs.ccfsd.fork_client import ForkClient, RunningForkServer
from ccfs.ccfsd.passed_descriptors import Program

SILENT = ["/bin/sleep", "60"]


@pytest.fixture
def silent() -> Iterator[tuple[RunningForkServer, socket.socket]]:
    """A fork server that never replies, and its end of the socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with subprocess.Popen(SILENT) as process, ours, theirs:
        yield RunningForkServer(process.pid, os.pidfd_open(process.pid), ours), theirs
        process.kill()


def test_late_reply_is_not_taken_for_the_next_one(
    silent: tuple[RunningForkServer, socket.socket],
) -> None:
    """Also the question for an exit status ends in another fork server when it is not answered."""
    running, theirs = silent
    client = ForkClient(running, Program(["/bin/true"], "/", {}))

    async def scene() -> None:
        assert await client.exit_status(7) is None
        with pytest.raises(OSError, match=r"reset|Broken"):
            theirs.send(b"\0\0\0\0")
        another = client._running
        assert another.pid != running.pid
        os.waitpid(another.pid, 0)
        os.close(another.pidfd)
        another.orders.close()

    trio.run(scene, clock=MockClock(autojump_threshold=0.02))
