"""The process that serves one user's mount: mounting, signals, and the end of it.

Knows processes, pipes and the FUSE session; never the bytes of a ccache.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import secrets
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ccfs import helper, journals, mountpoint
from ccfs.errors import Exit, JournalError, MountError
from ccfs.store.values import Limits

if TYPE_CHECKING:
    from ccfs.ops.operations import Operations
    from ccfs.ops.server import Server
    from ccfs.store import Stamp, Store

log = logging.getLogger(__name__)

HOUSEKEEPING = 30.0
"""Seconds between two looks at scratch files that nobody uses."""
FAREWELL = 1.0
"""Seconds that those who wait at a FIFO have to be woken at the end."""
TOUCH_PAUSE = 0.1
"""Seconds between two touches of one file."""


@dataclass(frozen=True, slots=True)
class MountOptions:
    """What to mount, where, and for whom.

    `mountpoint`: absolute, without symbolic links.  `allow_root`: uid 0 may use the mount, too;
    `allow_other`: processes of the owner that run on other terms (setfsuid) may.  `journal`: the
    path of the journal, "" for none.  `held`: a descriptor that the helper keeps open, -1 for none.
    """

    mountpoint: str
    allow_root: bool = False
    allow_other: bool = False
    journal: str = ""
    held: int = -1
    debug: bool = False
    limits: Limits = field(default_factory=Limits)


def serve(options: MountOptions, ready: Callable[[], None]) -> int:
    """Mount and serve until SIGTERM, SIGINT or an unmount.  Returns the exit status.

    0: the end was wanted, and the journal is wiped.  Exit.DEAD_MOUNT: the connection was cut while
    the mount is still there, and the journal is kept.  `ready()` is called once, when the mount
    answers.  Raises MountError where it can't be made, JournalError where the journal is unusable.
    """
    os.umask(0o077)
    os.chdir("/")
    # Before pyfuse3 is there: the helper must never hold a descriptor of the FUSE device.
    child = helper.start(options.mountpoint, options.held)
    try:
        return _serve(options, child, ready)
    except BaseException:
        with suppress(OSError):  # it may have ended in order
            child.end()
        raise


def _serve(options: MountOptions, child: helper.Helper, ready: Callable[[], None]) -> int:
    gc.disable()  # nothing that is imported becomes garbage
    import pyfuse3
    import trio

    from ccfs.hardening import harden
    from ccfs.ops.operations import Operations

    gc.freeze()
    gc.enable()
    harden()
    kicker = Kicker(child, options.mountpoint, options.held)
    kept = Kept.open(options) if options.journal else None
    kicker.server = server = _server(options, child, kicker, kept)
    _mount(options, Operations(server))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # what trio puts back when the end has begun
    wanted = False
    try:
        trio.run(_run, server, kicker, ready)
        wanted = kicker.ending or not _is_mounted(options.mountpoint)
    finally:
        # In this order: who is about to wait at a FIFO is woken while the way there is known.
        pyfuse3.close(unmount=False)
        kicker.child.end()
        if wanted:
            _unmount(options.mountpoint)
        if kept:
            kept.close(wipe=wanted)
    return Exit.OK if wanted else Exit.DEAD_MOUNT


def _unmount(path: str) -> None:
    """Take the mount away, in use or not, unless somebody has done so."""
    try:
        if _is_mounted(path):
            mountpoint.detach(path, lazy=True)
    except OSError as error:
        log.warning("cannot unmount %s: %s", path, error.strerror)


def _is_mounted(path: str) -> bool:
    mount = mountpoint.topmost(path, mountpoint.mounts())
    return mount is not None and mount.is_ccfs


def _mount(options: MountOptions, operations: Operations) -> None:
    import pyfuse3

    try:
        pyfuse3.init(operations, options.mountpoint, _fuse_options(options))
    except RuntimeError:
        raise MountError(
            f"cannot mount on {options.mountpoint}",
            "run 'ccfs mount --foreground --debug' to see why",
        ) from None


def _server(
    options: MountOptions, child: helper.Helper, kicker: Kicker, kept: Kept | None
) -> Server:
    from ccfs.ops.server import Owner, Server
    from ccfs.store import Stamp, Store, Who

    owner = Owner(os.geteuid(), os.getegid(), options.allow_root)
    birth = Stamp(time.time(), Who(owner.uid, os.getpid(), "ccfs"))
    store = kept.store(options, birth) if kept else Store(options.limits, birth)
    return Server(
        store=store,
        owner=owner,
        mountpoint=options.mountpoint,
        ident=secrets.token_hex(16),
        pid=os.getpid(),
        kernel=kicker,
        helper=child.pid,
        journal=kept.journal if kept else None,
        journal_path=options.journal,
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
        nursery.start_soon(kicker.show_news)
        nursery.start_soon(_keep_house, server, kicker)
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
            kicker.ending = True
            with trio.move_on_after(FAREWELL):
                await kicker.say_farewell()
            pyfuse3.terminate()
            return


async def _keep_house(server: Server, kicker: Kicker) -> None:
    """Announce what expires, and let scratch files go that nobody uses."""
    nobody = server.stamp(server.owner.uid, 0).who
    while True:
        await kicker.rest(HOUSEKEEPING)
        now = server.clock()
        server.store.ledger.announce(now, nobody)
        server.store.expire(now)
        server.settle()
        server.scrub()
        kicker.expect(server.store.ledger.register.next_deadline())


class Kept:
    """The journal of a mount, open."""

    def __init__(self, path: str, *, fresh: bool) -> None:
        from ccfs.store.journal import Journal

        self._path = path
        self._fresh = fresh
        self._step = journals.Step(path)
        self.journal = Journal(path, self._step.write)
        self._file = journals.identity(path)

    @classmethod
    def open(cls, options: MountOptions) -> Kept:
        """Open or make the journal; JournalError where it can't be used."""
        from ccfs.store.journal import DamagedError, InUseError

        path = options.journal
        fresh = not journals.check_file(path)
        if fresh and journals.has_lost_its_file(path):
            raise _aside(path, "its database is gone")
        try:
            return cls(path, fresh=fresh)
        except InUseError:
            raise JournalError(
                f"the journal {path} is in use by process {journals.holder(path)}",
                "end that one, or name another path with '--journal'",
            ) from None
        except DamagedError as error:
            raise _aside(path, str(error)) from None

    def store(self, options: MountOptions, at: Stamp) -> Store:
        """The store that the journal has, or a new one that it has from now on."""
        return self._made(options, at) if self._fresh else self._loaded(options, at)

    def close(self, *, wipe: bool) -> None:
        """Close it; `wipe`: its content is wanted no more.

        Somebody may have put the file away, and another mount may have one in its place.
        """
        self.journal.close()
        if wipe and journals.identity(self._path) == self._file:
            self._step.write(0)
            journals.wipe(self._path)
        self._step.close()

    def _made(self, options: MountOptions, at: Stamp) -> Store:
        from ccfs.store import Store
        from ccfs.store.journal import DamagedError

        store = Store(options.limits, at)
        try:
            self.journal.create(options.mountpoint, at.who.uid, store)
        except DamagedError as error:
            self.close(wipe=True)
            raise JournalError(f"cannot make the journal {self._path}: {error}") from None
        return store

    def _loaded(self, options: MountOptions, at: Stamp) -> Store:
        from ccfs.store import Store
        from ccfs.store.errors import StoreError
        from ccfs.store.journal import DamagedError, ForeignError

        path = self._path
        try:
            saved = self.journal.load(options.mountpoint, at.who.uid, self._step.read())
            return Store(options.limits, at, saved)
        except ForeignError:
            raise JournalError(
                f"the journal {path} belongs to another mountpoint", "name another path"
            ) from None
        except StopIteration:
            raise _aside(path, "it is damaged") from None
        except (DamagedError, StoreError) as error:
            raise _aside(path, str(error)) from None
        except JournalError as error:
            raise _aside(path, error.reason) from None


def _aside(path: str, why: str) -> JournalError:
    aside = journals.set_aside(path)
    return JournalError(
        f"cannot use the journal {path}: {why}",
        f"it is kept as {aside}; mount again to begin without it",
    )


class Kicker:
    """The kernel's side of a server: invalidation, and the child that wakes waiters.

    A FIFO is kicked at most once at a time; a change meanwhile is one more kick afterwards.  A
    ccache is touched at most ten times a second.
    """

    def __init__(self, child: helper.Helper, mountpoint: str, held: int = -1) -> None:
        import pyfuse3
        import trio

        self._invalidate = pyfuse3.invalidate_inode
        self._mountpoint = mountpoint
        self._held = held
        self.child = child
        self._busy: set[int] = set()
        self._again: set[int] = set()
        self._touched: set[str] = set()
        self._news = trio.Event()
        self._sooner = trio.Event()
        self._due = math.inf
        self._idle = trio.Event()
        self.ending = False
        self.server: Server | None = None

    def invalidate(self, inode: int) -> None:
        """Have the kernel ask for the attributes again; it may not know the inode at all."""
        with suppress(OSError):
            self._invalidate(inode, attr_only=True)

    def kick(self, serial: int) -> None:
        """Wake those who wait at the FIFO of a serial number."""
        if serial in self._busy:
            self._again.add(serial)
        elif self._send(helper.KICK, format(serial, "x")):
            self._busy.add(serial)

    def expect(self, due: int | None) -> None:
        """There will be something to announce at `due`: whoever rests may have to get up sooner."""
        before, self._due = self._due, math.inf if due is None else due
        if self._due < before:
            self._sooner.set()

    async def rest(self, longest: float) -> None:
        """Return when something is due, after `longest` seconds at the latest."""
        import trio

        deadline = trio.current_time() + longest
        while (left := min(deadline - trio.current_time(), self._due - time.time())) > 0:
            self._sooner = trio.Event()
            with trio.move_on_after(left):
                await self._sooner.wait()

    def learn(self, serial: int) -> None:
        """Somebody may wait at this FIFO: have the helper know the way there."""
        self._send(helper.LEARN, format(serial, "x"))

    def touch(self, ident: str) -> None:
        """Show those who watch the file of a ccache that there is news of it."""
        self._touched.add(ident)
        self._news.set()

    async def show_news(self) -> None:
        """Touch what there is news of, each file at most ten times a second."""
        import trio

        while True:
            await self._news.wait()
            self._news = trio.Event()
            touched, self._touched = self._touched, set()
            for ident in touched:
                self._send(helper.TOUCH, ident)
            await trio.sleep(TOUCH_PAUSE)

    async def hear(self) -> None:
        """Take the helper's answers in; where it has died there is a new one."""
        import trio

        while True:
            await trio.lowlevel.wait_readable(self.child.answers)
            data = os.read(self.child.answers, helper.RECORD * 64)
            if data:
                self._hear(data)
            else:
                self._replace_child()

    async def say_farewell(self) -> None:
        """Wake everybody who may wait anywhere; returns when that is done."""
        import trio

        self._idle = trio.Event()
        for serial in self.server.armed if self.server else ():
            self.kick(serial)
        if self._busy:
            await self._idle.wait()

    def _hear(self, data: bytes) -> None:
        for answer in helper.answers(data):
            if answer.kind == helper.KICK:
                self._kicked(answer.serial)
        if not self._busy:
            self._idle.set()

    def _kicked(self, serial: int) -> None:
        self._busy.discard(serial)
        if serial in self._again:
            self._again.discard(serial)
            self.kick(serial)

    def _send(self, kind: bytes, serial: str) -> bool:
        try:
            self.child.send(kind, serial)
        except OSError as error:
            log.warning("cannot reach the helper: %s", error.strerror)
            return False
        return True

    def _replace_child(self) -> None:
        log.warning("the helper has ended, there is a new one")
        self.child.end()
        self.child = helper.start(self._mountpoint, self._held)
        if self.server:
            self.server.helper = self.child.pid
        for serial in self.server.armed if self.server else ():
            self.learn(serial)
        lost = self._busy | self._again
        self._busy, self._again = set(), set()
        for serial in lost:
            self.kick(serial)
