"""The process that serves one user's mount: mounting, signals, and the end of it.

Knows processes, pipes and the FUSE session; never the bytes of a ccache.
"""

from __future__ import annotations

import gc
import logging
import os
import secrets
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from ccfs.daemon.lazy_journal import keep
from ccfs.daemon.options import MountOptions
from ccfs.errors import Exit, MountError
from ccfs.linux import mountinfo
from ccfs.linux.fsuid import filesystem_uid
from ccfs.mounting import mount_lock, mountpoint
from ccfs.takeover import notifier

if TYPE_CHECKING:
    from ccfs.daemon.fuse_loop import Loop
    from ccfs.daemon.handshake import Handshake
    from ccfs.daemon.kcm_endpoint import KcmEndpoint
    from ccfs.daemon.kernel_notifier import KernelNotifier
    from ccfs.daemon.lazy_journal import LazyJournal
    from ccfs.daemon.open_journal import OpenJournal
    from ccfs.ops.file_system import FileSystem
    from ccfs.ops.operations import Operations

log = logging.getLogger(__name__)

HOUSEKEEPING = 30.0
"""Seconds between two looks at scratch files that nobody uses."""
FAREWELL = 1.0
"""Seconds that those who wait at a FIFO have to be woken at the end."""


def serve(options: MountOptions, ready: Callable[[], None]) -> int:
    """Serve a mount until SIGTERM, SIGINT or an unmount.  Returns the exit status.

    0: the end was wanted, and the journal is wiped.  Exit.DEAD_MOUNT: the connection was cut while
    the mount is still there, and the journal is kept.  `ready()` is called once, when the mount
    answers.  Raises MountError where it can't be made, JournalError where the journal is unusable.
    """
    os.umask(0o077)
    os.chdir("/")
    if options.control >= 0:  # one of many on this host: no helper before somebody needs it
        return _serve(options, None, ready)
    # Before pyfuse3 is there: the helper must never hold a descriptor of the FUSE device.
    child = notifier.start(options.mountpoint, options.liveness)
    try:
        return _serve(options, child, ready)
    except BaseException:
        with suppress(OSError):  # it may have ended in order
            child.end()
        raise


def _serve(
    options: MountOptions, child: notifier.Notifier | None, ready: Callable[[], None]
) -> int:
    gc.disable()  # nothing that is imported or loaded becomes garbage
    import pyfuse3

    from ccfs.daemon.kcm_endpoint import KcmEndpoint
    from ccfs.daemon.kernel_notifier import KernelNotifier
    from ccfs.linux.hardening import harden
    from ccfs.ops.operations import Operations

    harden()
    if options.lock >= 0:
        mount_lock.sign(options.lock)
    kicker = KernelNotifier(child, options)
    kept = keep(options)
    fs = make_file_system(options, child, kicker, kept)
    kicker.waiters = fs.waiters
    gc.freeze()
    gc.enable()
    face = KcmEndpoint.of(options, fs.committer, fs.info.owner)
    handshake = _shake_hands(options, fs)
    try:
        _mount(options, Operations(fs))
    except MountError:
        if face:
            face.close(wanted=False)
        raise
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # what trio puts back when the end has begun
    wanted = False
    try:
        _run_loop(options, fs, kicker, face, ready, handshake)
        wanted = kicker.ending or not _is_mounted(options)
    finally:
        # In this order: who is about to wait at a FIFO is woken while the way there is known.
        pyfuse3.close(unmount=False)
        if face:
            face.close(wanted=wanted)
        kicker.end()
        if wanted and options.unmounts:
            _unmount(options)
        if kept:
            kept.close(wipe=wanted)
    return Exit.OK if wanted else Exit.DEAD_MOUNT


def _unmount(options: MountOptions) -> None:
    """Take the mount away, in use or not, unless that has been done."""
    try:
        if _is_mounted(options):
            mountpoint.unmount(options.mountpoint, lazy=True)
    except OSError as error:
        log.warning("cannot unmount %s: %s", options.mountpoint, error.strerror)


def _is_mounted(options: MountOptions) -> bool:
    """Whether our mount is there; under it there may be another of an earlier daemon."""
    mount = mountinfo.topmost(options.mountpoint)
    return mount is not None and mount.is_ccfs and options.mount in (0, mount.id)


def _mount(options: MountOptions, operations: Operations) -> None:
    import pyfuse3

    try:
        pyfuse3.init(operations, f"/dev/fd/{options.device}", fuse_options(options))
    except RuntimeError:
        raise MountError(
            f"cannot serve the mount on {options.mountpoint}",
            "run 'ccfs mount --foreground --debug' to see why",
        ) from None


def _resume(options: MountOptions, fs: FileSystem, kicker: KernelNotifier) -> None:
    """Go on where the daemon before has ended, if there was one."""
    if options.takes_over and options.handover:
        from ccfs.ops import resume

        kicker.wake_pollers()
        journal = fs.committer.journal
        resume.resume(fs, options.handover, journal.last if journal else None)


def _shake_hands(options: MountOptions, fs: FileSystem) -> Handshake | None:
    """How to begin where the supervisor has read FUSE_INIT; None where libfuse is to read it."""
    if options.handover is None:
        return None
    from ccfs.daemon.handshake import Handshake

    made = fs.committer.has_made_request() if options.takes_over else False
    return Handshake(options.device, options.handover, fs.expect_resent, made=made)


def make_file_system(
    options: MountOptions,
    child: notifier.Notifier | None,
    kicker: KernelNotifier,
    kept: OpenJournal | LazyJournal | None,
) -> FileSystem:
    """Make the file system, with the store that the journal has or a new one."""
    from ccfs.ops.file_system import FileSystem
    from ccfs.service.commit import Committer
    from ccfs.service.info import MountInfo, Owner
    from ccfs.store import Client, Stamp, Store

    owner = Owner(filesystem_uid(), os.getegid(), options.allow_root)
    birth = Stamp(time.time(), Client(owner.uid, os.getpid(), "ccfs"))
    store = kept.store(options, birth) if kept else Store(options.limits, birth)
    if options.takes_over:
        store.generations.presume_open()
    else:
        store.open_files.drop_waiting(birth)
        store.generations.drop_unopened()
    committer = Committer(store, journal=kept.journal if kept else None, handover=options.handover)
    info = MountInfo(
        owner=owner,
        mountpoint=options.mountpoint,
        ident=secrets.token_hex(16),
        pid=os.getpid(),
        journal_path=options.journal,
        kcm_socket=options.kcm_socket,
        supervisor_pid=options.supervisor,
    )
    return FileSystem(
        committer,
        info,
        kicker,
        notifier_pid=child.pid if child else 0,
        taken_over=options.takes_over,
    )


def fuse_options(options: MountOptions) -> set[str]:
    """The options for libfuse; those of the mount were given to the kernel when it was made."""
    return {"fsname=ccfs", "subtype=ccfs"} | ({"debug"} if options.debug else set())


def _run_loop(
    options: MountOptions,
    fs: FileSystem,
    kicker: KernelNotifier,
    face: KcmEndpoint | None,
    ready: Callable[[], None],
    handshake: Handshake | None,
) -> None:
    """Serve to the end, with a loop of our own under trio's."""
    import trio

    from ccfs.daemon.fuse_loop import Loop

    with Loop(options.handover) as loop:
        if handshake:
            loop.begin(handshake, lambda: _resume(options, fs, kicker))
        trio.run(_run, options, fs, kicker, face, ready, loop, instruments=[loop.runnable])


async def _run(
    options: MountOptions,
    fs: FileSystem,
    kicker: KernelNotifier,
    face: KcmEndpoint | None,
    ready: Callable[[], None],
    loop: Loop,
) -> None:
    import pyfuse3
    import trio

    from ccfs.daemon.control_endpoint import ControlEndpoint

    async with trio.open_nursery() as nursery:
        await nursery.start(watch_signals, kicker)
        nursery.start_soon(kicker.hear)
        nursery.start_soon(kicker.show_news)
        nursery.start_soon(kicker.keep_child_going)
        nursery.start_soon(keep_house, fs, kicker)
        if face:
            await nursery.start(face.run, loop)
        if options.control >= 0:
            await nursery.start(ControlEndpoint(options.control, fs, face, options.connection).run)
        log.info("serving %s as pid %d", fs.info.mountpoint, fs.info.pid)
        ready()
        await pyfuse3.main(max_tasks=1)  # no handler ever waits
        signal.setitimer(signal.ITIMER_REAL, 0)  # trio closes first what signals are written to
        nursery.cancel_scope.cancel()


async def watch_signals(kicker: KernelNotifier, task_status: object = None) -> None:
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


async def keep_house(fs: FileSystem, kicker: KernelNotifier) -> None:
    """Add events for credentials that expire, and drop scratch files that are not used."""
    committer = fs.committer
    nobody = committer.stamp(fs.info.owner.uid, 0).client
    while True:
        await kicker.rest(HOUSEKEEPING, committer.store.next_deadline())
        now = committer.clock()
        committer.store.announce_expiry(now, nobody)
        committer.store.expire(now, nobody)
        committer.commit_or_warn()
