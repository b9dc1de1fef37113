"""The parent that replaces a daemon that dies.

Knows processes and mounts; never what the daemon serves.  It holds the descriptor of the FUSE
connection, so that clients of a dead daemon's mount wait until there is the next one.

`Mounter.replace` puts the next mount in its place.
"""

from __future__ import annotations

import logging
import mmap
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

from ccfs import helper, mountlock
from ccfs.errors import Exit, MountError
from ccfs.held_connection import HeldConnection
from ccfs.linux.fusermount import wait_readable
from ccfs.mounting import Attached, Mounter

log = logging.getLogger(__name__)

DEATHS = 5
"""So many deaths within PERIOD seconds are too many."""
PERIOD = 60.0
BACKOFF = 0.05
"""Seconds before the second try in a row; twice that before the third, and so on."""
FAREWELL = 1.0
"""Seconds that the helper of a dead daemon has to wake those who wait at a FIFO, and to end."""
END = 5.0
"""Seconds that a daemon has to end after SIGTERM."""
SETTLE = 0.2
"""Seconds between a change of the mount table and a look at it."""
ENDING = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Life:
    """What a daemon is given.

    `held`: a descriptor to hold while it, or its helper, lives; -1: none.  `mount`: what it serves,
    at `mountpoint`.  `lock`: a descriptor of the directory below (ccfs.mountlock).
    """

    held: int
    mount: Attached
    mountpoint: str
    lock: int


Serve = Callable[[Callable[[], None], Life], int]
"""Serve a mount: called with `ready()`; returns the exit status."""


class Supervisor:
    """Keeps one mount served.

    `serve` runs in a child process and returns its exit status: 0 when the end was wanted.
    `died` is called here when a child has died, before there may be another one.
    """

    def __init__(
        self, mounter: Mounter, serve: Serve, died: Callable[[], None] = lambda: None
    ) -> None:
        self._mounter = mounter
        self._serve = serve
        self._died = died
        self._child = 0
        self._ending = False
        self._deaths: list[float] = []
        self._ready = mmap.mmap(-1, 1)
        self._was_ready = False
        self._mounts: list[Attached] = []
        self._holding: HeldConnection | None = None

    def run(self, ready: Callable[[], None], first_only: Callable[[], None]) -> int:
        """Serve until the end is wanted, or can't be avoided.

        Returns the exit status of the last child, negative where a signal has ended it.  A mount
        whose daemon can't be replaced stays, dead: what clients write must not go below it.

        `ready` is called in the first child when its mount answers; `first_only` is called here
        when that child runs, to let go of what only it needs.  Raises MountError.
        """
        for number in ENDING:
            signal.signal(number, self._end)
        signal.signal(signal.SIGALRM, self._kill)
        mountlock.sign(self._mounter.directory)
        self._mounts.append(self._mounter.attach())
        stays = False
        try:
            life = self._start(ready)
            first_only()
            while True:
                daemon, status = self._wait()
                if self._is_the_end(status):
                    stays = status == Exit.JOURNAL and self._was_ready
                    return status
                self._died()
                log.warning("the daemon has died (%s), replacing it", _how(status))
                stays = True
                try:
                    self._replace_mount(life, daemon)
                except MountError as error:
                    log.error("giving up: %s", error.reason)
                    return status
                if not self._may_try():
                    stays = not self._ending
                    return status
                life = self._start(lambda: None)
                stays = False
        finally:
            if not stays:
                self._take_all_away()

    def _is_the_end(self, status: int) -> bool:
        """Whether the end was wanted, or a new daemon would fare no better."""
        was_ready, self._ready[0] = bool(self._ready[0]), 0
        if status == 0 or self._ending:
            return True
        if status == Exit.JOURNAL:
            log.error("the journal can't be used, giving up")
            return True
        if was_ready and not self._mounter.is_attached(self._mounts[-1]):
            log.info("the mount was taken away")
            return True
        self._was_ready = self._was_ready or was_ready
        return not self._was_ready

    def _start(self, ready: Callable[[], None]) -> int:
        """Fork a child; returns a descriptor that reads as closed once it and its helper end."""
        life, held = os.pipe2(os.O_CLOEXEC)
        # A signal between fork and the child's default disposition would be taken by our handler.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        self._child = os.fork()
        if self._child == 0:
            os.close(life)
            self._be_child(ready, held)
        os.close(held)
        if self._ending:
            self._end(signal.SIGTERM, None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        return life

    def _be_child(self, ready: Callable[[], None], held: int) -> None:
        """Serve and end; never returns."""
        status = 1
        try:
            os.setpgid(0, 0)  # by which its helper is found when it is dead
            for number in (*ENDING, signal.SIGALRM):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
            directory = self._mounter.directory
            life = Life(held, self._mounts[-1], self._mounter.path, directory)
            status = self._serve(lambda: self._note_ready(ready), life)
        finally:
            os._exit(status)

    def _note_ready(self, ready: Callable[[], None]) -> None:
        self._ready[0] = 1
        ready()

    def _wait(self) -> tuple[int, int]:
        """The child, and its exit status.  Its number is nobody's afterwards: `_end` spares it."""
        pidfd = os.pidfd_open(self._child)
        with open("/proc/self/mountinfo", "rb") as table:
            while not self._ending and not _changes(table.fileno(), pidfd):
                self._end_unmounted()
        wait_readable(pidfd, None)
        os.close(pidfd)
        child, self._child = self._child, 0
        _, status = os.waitpid(child, 0)
        return child, os.waitstatus_to_exitcode(status)

    def _end_unmounted(self) -> None:
        """End a daemon whose mount was taken away, which copies in other namespaces keep alive."""
        if self._ready[0] and not self._mounter.is_attached(self._mounts[-1]):
            log.info("the mount was taken away")
            self._end(signal.SIGTERM, None)

    def _end(self, _: int, __: FrameType | None) -> None:
        """End the daemon: a signal has told us to end."""
        self._ending = True
        if self._child:
            os.kill(self._child, signal.SIGTERM)
            signal.setitimer(signal.ITIMER_REAL, END)

    def _kill(self, _: int, __: FrameType | None) -> None:
        """Kill a daemon that doesn't end: it is stopped, or hangs, and its clients with it."""
        if self._child:
            os.kill(self._child, signal.SIGKILL)

    def _wait_readable(self, descriptor: int, seconds: float) -> bool:
        """Wait for a descriptor while clients of the dead mount are held; False after `seconds`."""
        holding = self._holding
        if holding is None:
            return wait_readable(descriptor, seconds)
        deadline = time.monotonic() + seconds
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.register(holding.device, select.POLLIN)
        while True:
            left = max(0.0, deadline - time.monotonic())
            found = [number for number, _ in poll.poll(left * 1000)]
            if descriptor in found or not left:
                return descriptor in found
            if holding.device in found and not holding.answer():
                poll.unregister(holding.device)

    def _replace_mount(self, life: int, daemon: int) -> None:
        """Mount anew in place of a dead daemon's mount, and let its clients go there.

        Raises MountError where there can't be a mount.
        """
        self._holding = HeldConnection(self._mounts[-1].device, daemon)
        self._let_helper_end(life, daemon)
        os.close(life)
        self._mounter.replace(self._mounts, self._holding, self._wait_readable)
        self._holding = None

    def _let_helper_end(self, life: int, daemon: int) -> None:
        """Wait for the helper of a dead daemon, stopped or not, which has its time and no more."""
        if self._wait_readable(life, 0):
            return
        helper.signal_left(daemon, signal.SIGCONT)
        if not self._wait_readable(life, FAREWELL):
            helper.signal_left(daemon, signal.SIGKILL)

    def _take_all_away(self) -> None:
        """Unmount what is ours, the topmost first, and end the connections."""
        for attached in reversed(self._mounts):
            self._mounter.abort(attached)
            self._mounter.try_detach(attached)
            if attached.device >= 0:
                os.close(attached.device)
        self._mounter.release()

    def _may_try(self) -> bool:
        """Wait a little longer each time; False after too many deaths, and when the end came."""
        now = time.monotonic()
        self._deaths = [then for then in self._deaths if now - then < PERIOD] + [now]
        if len(self._deaths) > DEATHS:
            log.error("the daemon has died %d times in a minute, giving up", len(self._deaths))
            return False
        if len(self._deaths) > 1:
            time.sleep(BACKOFF * 2 ** (len(self._deaths) - 2))
        return not self._ending


def _changes(table: int, pidfd: int) -> bool:
    """Wait for the next change of a mount table; True where a process ends before.

    Many follow one another, and each of many supervisors looks at all of the table.
    """
    poll = select.poll()
    poll.register(table, select.POLLPRI)  # proc(5), /proc/PID/mounts
    poll.register(pidfd, select.POLLIN)
    ended = pidfd in [number for number, _ in poll.poll()]
    return ended or wait_readable(pidfd, SETTLE)


def _how(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"
