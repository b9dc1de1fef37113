# SPDX-License-Identifier: MIT
"""Run what each daemon begins with, in the process that daemons are forked from.

Python changes the memory of what it runs: caches are filled, bytecode is specialised.  Done once in
that process, this is shared by all daemons, and done already in each.  There is no mount, no file
and no notifier.

Knows what a daemon does first; never for which user.
"""

from __future__ import annotations

import socket
import tempfile
from contextlib import closing

import trio

from ccfs.control import messages
from ccfs.daemon import main
from ccfs.daemon.control_endpoint import ControlEndpoint
from ccfs.daemon.fuse_loop import Loop
from ccfs.daemon.kcm_endpoint import KcmEndpoint
from ccfs.daemon.kernel_notifier import KernelNotifier
from ccfs.daemon.options import MountOptions
from ccfs.ops.file_system import FileSystem
from ccfs.ops.operations import Operations

ROUNDS = 10
"""The interpreter specialises a function that was called some times."""


def run() -> None:
    """Run the beginning of a daemon ROUNDS times."""
    for _ in range(ROUNDS):
        _run_once()


def _run_once() -> None:
    no_journal = f"{tempfile.gettempdir()}/there-is-no-such-journal/journal"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind("")  # the kernel chooses a free abstract address (unix(7), autobind)
        listener.listen()
        options = MountOptions("/", allow_other=True, journal=no_journal, control=listener.fileno())
        kernel = KernelNotifier(None, options)
        fs = main.make_file_system(options, kernel, main.journal_of(options))
        Operations(fs)
        kcm = KcmEndpoint.of(options, fs.committer, fs.info.owner)
        assert kcm is not None
        control = ControlEndpoint(listener.detach(), fs, kcm)
        with closing(control), Loop() as loop:
            trio.run(_run_tasks, kernel, fs, kcm, control, loop, instruments=[loop.runnable])


async def _run_tasks(
    kernel: KernelNotifier, fs: FileSystem, kcm: KcmEndpoint, control: ControlEndpoint, loop: Loop
) -> None:
    async with trio.open_nursery() as nursery:
        await main.start_tasks(nursery, fs, kernel)
        await nursery.start(kcm.run, loop)
        await nursery.start(control.run)
        main.fuse_options(MountOptions("/"))
        await _ping(control)
        nursery.cancel_scope.cancel()


async def _ping(control: ControlEndpoint) -> None:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) as client:
        client.setblocking(False)
        client.connect(control.address)
        client.send(messages.encode("ping"))
        await trio.lowlevel.wait_readable(client)
        client.recv(messages.MESSAGE_MAX)
