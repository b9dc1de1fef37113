"""The start of a daemon, done before there is any.

Python changes the memory of what it runs: caches are filled, code is specialised.  Done once in the
process that daemons are forked from, that is shared by all of them, and done already in each.  No
mount, no file, no helper; knows what a daemon does first, never for whom.
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
from ccfs.daemon.lazy_journal import keep
from ccfs.daemon.options import MountOptions
from ccfs.ops.file_system import FileSystem
from ccfs.ops.operations import Operations

ROUNDS = 10
"""So often is a function called before the interpreter thinks it worth specialising."""


def run() -> None:
    """Do it."""
    for _ in range(ROUNDS):
        _once()


def _once() -> None:
    nowhere = f"{tempfile.gettempdir()}/there-is-no-such-journal/journal"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind("")  # the kernel finds an address that nobody else has (unix(7), autobind)
        listener.listen()
        options = MountOptions("/", allow_other=True, journal=nowhere, control=listener.fileno())
        kicker = KernelNotifier(None, options)
        kept = keep(options)
        fs = main.make_file_system(options, None, kicker, kept)
        kicker.waiters = fs.waiters
        Operations(fs)
        face = KcmEndpoint.of(options, fs.committer, fs.info.owner)
        assert face is not None
        keeper = ControlEndpoint(listener.detach(), fs, face)
        with closing(keeper), Loop() as loop:
            trio.run(_run, kicker, fs, face, keeper, loop, instruments=[loop.runnable])


async def _run(
    kicker: KernelNotifier, fs: FileSystem, face: KcmEndpoint, keeper: ControlEndpoint, loop: Loop
) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(main.watch_signals, kicker)
        nursery.start_soon(kicker.hear)
        nursery.start_soon(kicker.show_news)
        nursery.start_soon(main.keep_house, fs, kicker)
        await nursery.start(face.run, loop)
        await nursery.start(keeper.run)
        main.fuse_options(MountOptions("/"))
        await _ping(keeper)
        nursery.cancel_scope.cancel()


async def _ping(keeper: ControlEndpoint) -> None:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) as client:
        client.setblocking(False)
        client.connect(keeper.address)
        client.send(messages.encode("ping"))
        await trio.lowlevel.wait_readable(client)
        client.recv(messages.MESSAGE_MAX)
