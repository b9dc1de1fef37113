# SPDX-License-Identifier: MIT
"""What a dead daemon leaves: waiters in its mount, and a journal that is not needed any more.

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

FAREWELL = 1.0
"""Seconds that the notifier of a dead daemon has to wake the waiters at a FIFO, and to end."""
WIPE = 2.0
"""Seconds that a journal is overwritten for, before it is only removed."""
LOST = 2.0
"""Seconds that a killed process has to end: it may wait for a file system that its user mounted."""


async def end_notifier(liveness: int, leader: int) -> None:
    """Wait until the notifier of a dead daemon has ended, which wakes the waiters in its mount.

    It can do so only as long as a path leads to the mount.  `liveness`: reads as closed when the
    notifier has ended, and is closed here; -1 where that can't be seen.  `leader`: the pid of the
    daemon, 0 where that is not known.  A notifier that its user has stopped is woken, and killed.
    """
    try:
        if liveness < 0 or _is_closed(liveness):
            return
        notifier.signal_orphan(leader, signal.SIGCONT)
        with trio.move_on_after(FAREWELL):
            await trio.lowlevel.wait_readable(liveness)
        if not _is_closed(liveness):
            notifier.signal_orphan(leader, signal.SIGKILL)
    finally:
        _close(liveness)


def release_notifier(liveness: int, leader: int) -> None:
    """Let the notifier of a dead daemon that has a successor end by itself; `liveness` is closed.

    It carries out the orders that it has.  Its user may have stopped it.
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
        with trio.move_on_after(WIPE) as limit:
            await trio.lowlevel.wait_readable(wiper.pidfd)
        if limit.cancelled_caught:
            processes.send_signal(wiper.pidfd, signal.SIGKILL)
            with trio.move_on_after(LOST):
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
