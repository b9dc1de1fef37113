"""What a dead daemon leaves: those who wait in its mount, and a journal that nobody wants any more.

Knows how long each may take, and calls back when it is over; never why the daemon has died.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable

from ccfs.ccfsd import spawner
from ccfs.ccfsd.loop import Loop
from ccfs.ccfsd.registry import Owner
from ccfs.ccfsd.runtime_dir import Runtime
from ccfs.linux import processes
from ccfs.linux.processes import Process
from ccfs.takeover import notifier
from ccfs.takeover.fork_server import ForkServer

log = logging.getLogger(__name__)

FAREWELL = 1.0
"""Seconds that the helper of a dead daemon has to wake those who wait at a FIFO, and to end."""
WIPE = 2.0
"""Seconds that a journal is overwritten for, before it is only let go."""
LOST = 2.0
"""Seconds that a killed process has to end: it may wait for what a user has mounted."""
BACKOFF = 0.05
"""Seconds before the second try in a row; twice that before the third, and so on."""


class Tries:
    """How often a daemon was started since one has answered."""

    def __init__(self) -> None:
        self._since = 0.0
        self._count = 0

    def forget(self) -> None:
        """There is one that answers."""
        self._count = 0

    def pause(self, now: float, patience: float) -> float | None:
        """Seconds until the next try, a little longer each time; None after `patience` seconds."""
        if not self._count:
            self._since = now
        elif now - self._since >= patience:
            return None
        self._count += 1
        longest = patience / 10
        return min(BACKOFF * 2 ** (self._count - 2), longest) if self._count > 1 else 0.0


def after_helper(loop: Loop, life: int, daemon: Process | None, then: Callable[[], None]) -> None:
    """Call `then` once nobody waits in a dead mount any more, or can't be woken.

    Those who wait there are woken as long as it can be reached by a path.  `life`: reads as closed
    when the daemon's helper has ended, and is closed by us; -1 where that can't be told.  `daemon`:
    the one that is dead; its helper, which its user may have stopped, doesn't outlive it for long.
    """
    if life < 0 or _is_closed(life):
        _close(life)
        then()
        return
    leader = daemon.pid if daemon else 0
    notifier.signal_orphan(leader, signal.SIGCONT)

    def over() -> None:
        limit.cancel()
        loop.forget(life)
        if not _is_closed(life):
            notifier.signal_orphan(leader, signal.SIGKILL)
        _close(life)
        then()

    loop.watch(life, over)
    limit = loop.after(FAREWELL, over)


def let_helper_end(life: int, daemon: Process | None) -> None:
    """Let the helper of a dead daemon end, which has a successor; `life` is closed.

    It does what it was told before.  Its user may have stopped it.
    """
    if life >= 0 and daemon and not _is_closed(life):
        notifier.signal_orphan(daemon.pid, signal.SIGCONT)
    _close(life)


def after_wiping(
    loop: Loop,
    nursery: ForkServer,
    runtime: Runtime,
    name: str,
    owner: Owner,
    then: Callable[[], None],
) -> None:
    """Call `then` once nothing is left in a journal that a killed daemon has left, if there is one.

    A process of its owner overwrites it: root has no business in a user's directory.
    """
    if not runtime.has_journal(name):
        then()
        return
    try:
        wiper = spawner.wiper(nursery, runtime, name, owner)
    except OSError as error:
        log.warning("cannot wipe the journal of %s: %s", name, error.strerror)
        then()
        return

    def over() -> None:
        for limit in limits:
            limit.cancel()
        nursery.exit_status(wiper.pid)
        loop.forget(wiper.pidfd)
        os.close(wiper.pidfd)
        then()

    loop.watch(wiper.pidfd, over)
    kill = loop.after(WIPE, lambda: processes.send_signal(wiper.pidfd, signal.SIGKILL))
    # Who waits for a file system of the user's own, put over a file there, can't even be killed.
    limits = (kill, loop.after(WIPE + LOST, over))


def _is_closed(life: int) -> bool:
    """Whether nobody has the other end of a FIFO any more."""
    try:
        return not os.read(life, 1)
    except BlockingIOError:
        return False


def _close(life: int) -> None:
    if life >= 0:
        os.close(life)
