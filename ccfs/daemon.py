"""The process that serves one user's mount: mounting, signals, and the end of it.

Knows processes, pipes and the FUSE session; never the bytes of a ccache.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ccfs import helper
from ccfs.errors import MountError
from ccfs.store.values import Limits

if TYPE_CHECKING:
    from ccfs.ops.server import Server

log = logging.getLogger(__name__)

HOUSEKEEPING = 30.0
"""Seconds between two looks at scratch files that nobody uses."""
FAREWELL = 1.0
"""Seconds that those who wait at a FIFO have to be woken at the end."""
QUIET = 60.0
"""Seconds after the last look-up of a FIFO in which somebody may still be about to open it."""


@dataclass(frozen=True, slots=True)
class MountOptions:
    """What to mount, where, and for whom.

    `mountpoint`: absolute, without symbolic links.  `allow_root`: uid 0 may use the mount, too;
    `allow_other`: processes of the owner that run on other terms (setfsuid) may.
    """

    mountpoint: str
    allow_root: bool = False
    allow_other: bool = False
    debug: bool = False
    limits: Limits = field(default_factory=Limits)


def serve(options: MountOptions, ready: Callable[[], None]) -> int:
    """Mount and serve until SIGTERM, SIGINT or an unmount.  Returns the exit status.

    `ready()` is called once, when the mount answers.  Raises MountError where it can't be made.
    """
    os.umask(0o077)
    os.chdir("/")
    # Before pyfuse3 is there: the helper must never hold a descriptor of the FUSE device.
    child = helper.start(options.mountpoint)
    try:
        return _serve(options, child, ready)
    finally:
        child.end()


def _serve(options: MountOptions, child: helper.Helper, ready: Callable[[], None]) -> int:
    import pyfuse3
    import trio

    from ccfs.ops.operations import Operations

    kicker = Kicker(child)
    server = _server(options, child, kicker)
    kicker.armed = server.armed
    try:
        pyfuse3.init(Operations(server), options.mountpoint, _fuse_options(options))
    except RuntimeError:
        raise MountError(
            f"cannot mount on {options.mountpoint}",
            "run 'ccfs mount --foreground --debug' to see why",
        ) from None
    try:
        trio.run(_run, server, kicker, ready)
    finally:
        pyfuse3.close(unmount=True)
    return 0


def _server(options: MountOptions, child: helper.Helper, kicker: Kicker) -> Server:
    from ccfs.ops.server import Owner, Server
    from ccfs.store import Stamp, Store, Who

    owner = Owner(os.geteuid(), os.getegid(), options.allow_root)
    birth = Stamp(time.time(), Who(owner.uid, os.getpid(), "ccfs"))
    return Server(
        store=Store(options.limits, birth),
        owner=owner,
        mountpoint=options.mountpoint,
        ident=secrets.token_hex(16),
        pid=os.getpid(),
        kernel=kicker,
        helper=child.pid,
    )


def _fuse_options(options: MountOptions) -> set[str]:
    wanted = {"fsname=ccfs", "subtype=ccfs", "nosuid", "nodev", "noexec", "default_permissions"}
    if options.allow_other or options.allow_root:
        wanted.add("allow_other")
    if options.debug:
        wanted.add("debug")
    return wanted


async def _run(server: Server, kicker: Kicker, ready: Callable[[], None]) -> None:
    import pyfuse3
    import trio

    async with trio.open_nursery() as nursery:
        await nursery.start(_watch_signals, kicker)
        nursery.start_soon(kicker.hear)
        nursery.start_soon(_keep_house, server)
        log.info("serving %s as pid %d", server.mountpoint, server.pid)
        ready()
        await pyfuse3.main()
        nursery.cancel_scope.cancel()


async def _watch_signals(kicker: Kicker, task_status: object = None) -> None:
    """End at SIGTERM and SIGINT: first wake those who wait, then let the session go."""
    import pyfuse3
    import trio

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()  # type: ignore[attr-defined]
        async for number in signals:
            log.info("ending: %s", signal.Signals(number).name)
            with trio.move_on_after(FAREWELL):
                await kicker.say_farewell()
            pyfuse3.terminate()
            return


async def _keep_house(server: Server) -> None:
    import trio

    while True:
        await trio.sleep(HOUSEKEEPING)
        server.store.expire(server.clock())
        server.settle()


class Kicker:
    """The kernel's side of a server: invalidation, and the child that wakes waiters.

    A FIFO is kicked at most once at a time; a change meanwhile is one more kick afterwards.
    """

    def __init__(self, child: helper.Helper) -> None:
        import pyfuse3
        import trio

        self._invalidate = pyfuse3.invalidate_inode
        self._child = child
        self._busy: set[int] = set()
        self._again: set[int] = set()
        self._idle = trio.Event()
        self.armed: dict[int, float] = {}

    def invalidate(self, inode: int) -> None:
        """Have the kernel ask for the attributes again; it may not know the inode at all."""
        with suppress(OSError):
            self._invalidate(inode, attr_only=True)

    def kick(self, serial: int) -> None:
        """Wake those who wait at the FIFO of a serial number."""
        if serial in self._busy:
            self._again.add(serial)
            return
        try:
            os.write(self._child.orders, helper.order(serial))
        except OSError as error:
            log.warning("cannot reach the helper: %s", error.strerror)
            return
        self._busy.add(serial)

    async def hear(self) -> None:
        """Take the helper's answers in until it is gone."""
        import trio

        while True:
            await trio.lowlevel.wait_readable(self._child.answers)
            data = os.read(self._child.answers, helper.ANSWER * 64)
            if not data:
                return
            for serial, woke in helper.answers(data):
                self._answered(serial, woke)

    async def say_farewell(self) -> None:
        """Wake everybody who may wait anywhere; returns when that is done."""
        import trio

        self._idle = trio.Event()
        for serial in list(self.armed):
            self.kick(serial)
        if self._busy:
            await self._idle.wait()

    def _answered(self, serial: int, woke: bool) -> None:
        self._busy.discard(serial)
        if not woke and time.time() - self.armed.get(serial, 0.0) > QUIET:
            self.armed.pop(serial, None)
        if serial in self._again:
            self._again.discard(serial)
            self.kick(serial)
        if not self._busy:
            self._idle.set()
