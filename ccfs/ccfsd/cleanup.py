# SPDX-License-Identifier: MIT
"""Clean up after a dead daemon: end its notifier, overwrite its journal.

Knows how long each may take; never why the daemon has died.
"""

from __future__ import annotations

import logging
import os
import signal

import trio

from ccfs.ccfsd import spawner
from ccfs.ccfsd.fork_client import ForkClient
from ccfs.ccfsd.registry import Owner
from ccfs.ccfsd.runtime_dir import Runtime
from ccfs.linux import processes
from ccfs.takeover import notifier

log = logging.getLogger(__name__)

NOTIFIER_SECONDS = 1.0
"""Seconds for the notifier of a dead daemon to wake the readers of its FIFOs, and to end."""
WIPE_SECONDS = 2.0
"""Seconds to overwrite a journal; after that it is removed without being overwritten."""
KILL_SECONDS = 2.0
"""Seconds for a killed process to end: it may wait for a file system that its user mounted."""


async def end_notifier(liveness: int, leader: int) -> None:
    """Wait until the notifier of a dead daemon has ended, which wakes the waiters in its mount.

    Call it before the mount is unmounted: the notifier opens FIFOs by their paths.  `liveness`: a
    FIFO at EOF once the notifier has ended, closed here; -1 for none.  `leader`: the pid of the
    daemon, 0 if unknown.  A notifier that its user has stopped gets SIGCONT; one that has not
    ended in time, SIGKILL.
    """
    try:
        if liveness < 0 or _is_closed(liveness):
            return
        notifier.signal_orphan(leader, signal.SIGCONT)
        with trio.move_on_after(NOTIFIER_SECONDS):
            await trio.lowlevel.wait_readable(liveness)
        if not _is_closed(liveness):
            notifier.signal_orphan(leader, signal.SIGKILL)
    finally:
        _close(liveness)


def release_notifier(liveness: int, leader: int) -> None:
    """Let the notifier of a dead daemon that has a successor end by itself; `liveness` is closed.

    It carries out the orders that it has.  SIGCONT: its user may have stopped it.
    """
    if liveness >= 0 and leader and not _is_closed(liveness):
        notifier.signal_orphan(leader, signal.SIGCONT)
    _close(liveness)


async def wipe_journal(forks: ForkClient, runtime: Runtime, name: str, owner: Owner) -> None:
    """Overwrite the journal that a killed daemon has left, if there is one.

    A process of its owner does that: root opens nothing in a user's directory.
    """
    if not runtime.has_journal(name):
        return
    try:
        wiper = await spawner.fork_wiper(forks, runtime, name, owner)
    except OSError as error:
        log.warning("cannot wipe the journal of %s: %s", name, error.strerror)
        return
    try:
        with trio.move_on_after(WIPE_SECONDS) as limit:
            await trio.lowlevel.wait_readable(wiper.pidfd)
        if limit.cancelled_caught:
            processes.send_signal(wiper.pidfd, signal.SIGKILL)
            with trio.move_on_after(KILL_SECONDS):
                await trio.lowlevel.wait_readable(wiper.pidfd)
        await forks.exit_status(wiper.pid)
    finally:
        os.close(wiper.pidfd)


def _is_closed(liveness: int) -> bool:
    """True if no process has the other end of a FIFO open any more."""
    try:
        return not os.read(liveness, 1)
    except BlockingIOError:
        return False


def _close(liveness: int) -> None:
    if liveness >= 0:
        os.close(liveness)
