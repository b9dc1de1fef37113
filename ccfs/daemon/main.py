# SPDX-License-Identifier: MIT
"""The process that serves one user's mount: start, signals and end of it.

Knows the order in which the parts of a daemon begin and end; never the bytes of a ccache.
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

from ccfs.daemon.options import MountOptions
from ccfs.errors import Exit, MountError
from ccfs.journal.lazy_journal import open_journal
from ccfs.linux import mountinfo
from ccfs.linux.fsuid import filesystem_uid
from ccfs.mounting import mount_lock, mountpoint
from ccfs.takeover import notifier

if TYPE_CHECKING:  # imported after the notifier is forked, or in the process that daemons come from
    import trio

    from ccfs.daemon.fuse_loop import Loop
    from ccfs.daemon.handshake import Handshake
    from ccfs.daemon.kcm_endpoint import KcmEndpoint
    from ccfs.daemon.kernel_notifier import KernelNotifier
    from ccfs.journal.lazy_journal import LazyJournal
    from ccfs.journal.open_journal import OpenJournal
    from ccfs.ops.file_system import FileSystem
    from ccfs.ops.operations import Operations

log = logging.getLogger(__name__)

END_SECONDS = 1.0
"""In which the readers of FIFOs are woken at the end."""


def serve(options: MountOptions, ready: Callable[[], None]) -> int:
    """Serve a mount until SIGTERM, SIGINT or an unmount.  Returns the exit status.

    0: the end was wanted, and the journal is wiped.  Exit.DEAD_MOUNT: the connection was aborted
    while the mount is still there, and the journal is kept.  `ready()` is called once, when the
    mount answers.  Raises MountError where it can't be served, JournalError where the journal is
    unusable.
    """
    os.umask(0o077)
    os.chdir("/")
    if options.control >= 0:  # one of many on this host: the notifier starts with its first order
        return _serve(options, None, ready)
    # Before pyfuse3 is imported: the notifier must never hold a descriptor of the FUSE device.
    process = notifier.start(options.mountpoint, options.liveness)
    try:
        return _serve(options, process, ready)
    except BaseException:
        with suppress(OSError):  # it may have ended in order
            process.end()
        raise


def _serve(
    options: MountOptions, process: notifier.Notifier | None, ready: Callable[[], None]
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
    kernel = KernelNotifier(process, options)
    journal = journal_of(options)
    fs = make_file_system(options, kernel, journal)
    gc.freeze()
    gc.enable()
    kcm = KcmEndpoint.of(options, fs.committer, fs.info.owner)
    handshake = _begin_handshake(options, fs)
    try:
        _init_fuse(options, Operations(fs))
    except MountError:
        if kcm:
            kcm.close(final=False)
        raise
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # what trio restores once the end has begun
    final = False
    try:
        _run_loop(options, fs, kernel, kcm, ready, handshake)
        final = kernel.ending or not _is_mounted(options)
    finally:
        # In this order: readers that are about to open a FIFO are woken while its name is known.
        pyfuse3.close(unmount=False)
        if kcm:
            kcm.close(final=final)
        kernel.notifier.end()
        if final and options.unmounts:
            _unmount(options)
        if journal:
            journal.close(wipe=final)
    return Exit.OK if final else Exit.DEAD_MOUNT


def _unmount(options: MountOptions) -> None:
    """Unmount, in use or not, unless that has been done."""
    try:
        if _is_mounted(options):
            mountpoint.unmount(options.mountpoint, lazy=True)
    except OSError as error:
        log.warning("cannot unmount %s: %s", options.mountpoint, error.strerror)


def _is_mounted(options: MountOptions) -> bool:
    """True if this daemon's mount is the topmost; beneath may be one of an earlier daemon."""
    mount = mountinfo.topmost(options.mountpoint)
    return mount is not None and mount.is_ccfs and options.mount in (0, mount.id)


def _init_fuse(options: MountOptions, operations: Operations) -> None:
    import pyfuse3

    try:
        pyfuse3.init(operations, f"/dev/fd/{options.device}", fuse_options(options))
    except RuntimeError:
        raise MountError(
            f"cannot serve the mount on {options.mountpoint}",
            "run 'ccfs mount --foreground --debug' to see why",
        ) from None


def _begin_handshake(options: MountOptions, fs: FileSystem) -> Handshake | None:
    """Begin where the supervisor has read FUSE_INIT; None where libfuse is to read it."""
    if options.handover is None:
        return None
    from ccfs.daemon.handshake import Handshake

    step_made = fs.committer.has_made_request() if options.takes_over else False
    return Handshake(options.device, options.handover, fs.expect_resent, step_made=step_made)


def _resume(options: MountOptions, fs: FileSystem, kernel: KernelNotifier) -> None:
    """Send the notifications of the last daemon, if this one takes over from it."""
    if options.takes_over and options.handover:
        from ccfs.ops import resume

        kernel.wake_pollers()
        journal = fs.committer.journal
        resume.resume(fs, options.handover, journal.last if journal else None)


def journal_of(options: MountOptions) -> OpenJournal | LazyJournal | None:
    """Open the journal of a mount; JournalError where it can't be used.

    A mount of ccfsd's gets one at the first step that has to last: most hold nothing.
    """
    if not options.journal:
        return None
    lazy = options.control >= 0
    return open_journal(options.journal, options.journal_mountpoint, lazy=lazy)


def make_file_system(
    options: MountOptions, kernel: KernelNotifier, journal: OpenJournal | LazyJournal | None
) -> FileSystem:
    """Make the file system, with the store that the journal has or a new one."""
    from ccfs.ops.file_system import FileSystem
    from ccfs.service.commit import Committer
    from ccfs.service.info import MountInfo, Owner
    from ccfs.store import Client, Stamp, Store

    owner = Owner(filesystem_uid(), os.getegid(), options.allow_root)
    start = Stamp(time.time(), Client(owner.uid, os.getpid(), "ccfs"))
    store = journal.store(options.limits, start) if journal else Store(options.limits, start)
    if options.takes_over:
        store.generations.presume_open()
    else:
        store.open_files.drop_restored(start)
        store.generations.drop_orphans()
    info = MountInfo(
        owner=owner,
        mountpoint=options.mountpoint,
        ident=secrets.token_hex(16),
        pid=os.getpid(),
        journal_path=options.journal,
        kcm_socket=options.kcm_socket,
        supervisor_pid=options.supervisor,
    )
    process = kernel.notifier.process
    fs = FileSystem(
        Committer(store, journal=journal.journal if journal else None, handover=options.handover),
        info,
        kernel,
        notifier_pid=process.pid if process else 0,
        taken_over=options.takes_over,
    )
    kernel.notifier.waiters = fs.waiters
    return fs


def fuse_options(options: MountOptions) -> set[str]:
    """Return the options for libfuse; those of the mount were given to mount(2)."""
    return {"fsname=ccfs", "subtype=ccfs"} | ({"debug"} if options.debug else set())


def _run_loop(
    options: MountOptions,
    fs: FileSystem,
    kernel: KernelNotifier,
    kcm: KcmEndpoint | None,
    ready: Callable[[], None],
    handshake: Handshake | None,
) -> None:
    """Serve to the end, with the loop of ccfs below trio's."""
    import trio

    from ccfs.daemon.fuse_loop import Loop

    with Loop(options.handover) as loop:
        if handshake:
            loop.begin(handshake, lambda: _resume(options, fs, kernel))
        trio.run(_run, options, fs, kernel, kcm, ready, loop, instruments=[loop.runnable])


async def _run(
    options: MountOptions,
    fs: FileSystem,
    kernel: KernelNotifier,
    kcm: KcmEndpoint | None,
    ready: Callable[[], None],
    loop: Loop,
) -> None:
    import pyfuse3
    import trio

    from ccfs.daemon.control_endpoint import ControlEndpoint

    async with trio.open_nursery() as nursery:
        await start_tasks(nursery, fs, kernel)
        nursery.start_soon(kernel.notifier.supervise)
        if kcm:
            await nursery.start(kcm.run, loop)
        if options.control >= 0:
            control = ControlEndpoint(options.control, fs, kcm, options.connection)
            await nursery.start(control.run)
        log.info("serving %s as pid %d", fs.info.mountpoint, fs.info.pid)
        ready()
        await pyfuse3.main(max_tasks=1)  # no handler ever waits
        signal.setitimer(signal.ITIMER_REAL, 0)  # trio closes its wake-up descriptor first
        nursery.cancel_scope.cancel()


async def start_tasks(nursery: trio.Nursery, fs: FileSystem, kernel: KernelNotifier) -> None:
    """Start the tasks that every daemon has beside its loop."""
    from ccfs.daemon import maintenance

    await nursery.start(_end_on_signals, kernel)
    nursery.start_soon(kernel.notifier.receive)
    nursery.start_soon(kernel.notifier.send_touches)
    nursery.start_soon(maintenance.run, fs, kernel.deadline)


async def _end_on_signals(kernel: KernelNotifier, task_status: trio.TaskStatus[None]) -> None:
    """End at SIGTERM and SIGINT: wake the readers of FIFOs, then close the FUSE session."""
    import pyfuse3
    import trio

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            log.info("ending: %s", signal.Signals(number).name)
            kernel.ending = True
            with trio.move_on_after(END_SECONDS):
                await kernel.notifier.wake_all()
            pyfuse3.terminate()
            return
