"""The parent that keeps one mount served: when a daemon dies there is another one.

It holds the descriptor of the FUSE connection, so that clients of a dead daemon wait until the next
one takes the connection over; before Linux 6.9 that one gets a new mount (ccfs.remount).  Daemons
are forked by a nursery, which has imported all that they need.

Knows processes and mounts; never what the daemon serves.
"""

from __future__ import annotations

import logging
import mmap
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType

from ccfs import mountlock
from ccfs.errors import Exit, MountError
from ccfs.handover import Handover
from ccfs.link import greet
from ccfs.linux.fusermount import wait_readable
from ccfs.mounting import Attached, Mounter
from ccfs.nursery import Born, Nursery
from ccfs.remount import remount

log = logging.getLogger(__name__)

DEATHS = 5
"""So many deaths in a row, of daemons that were not ready, before it is tried less often."""
BACKOFF = 0.05
"""Seconds before the second try in a row; twice that before the third, and so on."""
PATIENCE = 30.0
"""Seconds after which clients get an error, where no daemon comes up."""
END = 5.0
"""Seconds that a daemon has to end after SIGTERM."""
SETTLE = 0.2
"""Seconds between a change of the mount table and a look at it."""
ENDING = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Life:
    """What a daemon is given.

    `held`: a descriptor to hold while it, or its helper, lives; -1: none.  `mount`: what it serves,
    at `mountpoint`.  `lock`: a descriptor of the directory below (ccfs.mountlock).  `handover`:
    what the one before has left, None where nobody keeps it.  `live`: whether there was one before
    on this mount.  `given`: descriptors that whoever mounts has for each
    daemon; `first`: for the first one alone.
    """

    held: int
    mount: Attached
    mountpoint: str
    lock: int
    handover: Handover | None = None
    live: bool = False
    given: Sequence[int] = ()
    first: Sequence[int] = ()


Serve = Callable[[Callable[[], None], Life], int]
"""Serve a mount: called with `ready()`; returns the exit status."""


class Supervisor:
    """Keeps one mount served.

    `warm` is what the nursery does first; `serve` runs in a child of the nursery's and returns its
    exit status: 0 when the end was wanted.  `died` is called here when a child has died, before
    there is another one.  `given`: descriptors for each.  `anew`: mount anew after a
    death, whatever the kernel can.
    """

    def __init__(
        self,
        mounter: Mounter,
        serve: Serve,
        warm: Callable[[], None],
        died: Callable[[], None] = lambda: None,
        given: Sequence[int] = (),
        *,
        anew: bool = False,
    ) -> None:
        self._mounter = mounter
        self._serve = serve
        self._died = died
        self._given = given
        self._anew = anew
        self._ready = mmap.mmap(-1, 1)
        self._handover = Handover()
        self._nursery = Nursery(warm, self._fork)
        self._mounts: list[Attached] = []
        self._child: Born | None = None
        self._ending = False
        self._was_ready = self._was_ready_last = False
        self._since = 0.0
        self._tries = 0

    def run(self, first: Sequence[int], first_only: Callable[[], None]) -> int:
        """Serve until the end is wanted, or can't be avoided.

        Returns the exit status of the last child, negative where a signal has ended it.  A mount
        whose daemon can't be replaced stays, dead: what clients write must not go below it.

        `first`: descriptors for the first child; `first_only` is called here when that runs, to let
        go of what only it needs.  Raises MountError.
        """
        for number in ENDING:
            signal.signal(number, self._end)
        signal.signal(signal.SIGALRM, self._kill)
        mountlock.sign(self._mounter.directory)
        self._mounts.append(self._mounter.attach())
        stays = False
        try:
            self._greet()
            life = self._start(first, live=False)
            first_only()
            while True:
                daemon, status = self._wait()
                if self._is_the_end(status):
                    stays = status == Exit.JOURNAL and self._was_ready
                    return status
                self._died()
                log.warning("the daemon has died (%s), replacing it", _how(status))
                stays = True
                if not self._go_on(life, daemon):
                    stays = not self._ending
                    return status
                life = self._start((), live=not self._anew)
                stays = False
        finally:
            if not stays:
                self._take_all_away()

    def _greet(self) -> None:
        """Take the kernel's first request, which each daemon of this connection is to answer."""
        greet(self._mounts[-1].device, self._handover)
        self._anew = self._anew or not self._handover.can_resend

    def _go_on(self, life: int, daemon: int) -> bool:
        """Make ready for the next daemon; False where there can't be one."""
        if self._anew:
            try:
                remount(self._mounter, self._mounts, life, daemon)
            except MountError as error:
                log.error("giving up: %s", error.reason)
                return False
            self._greet()
        else:
            os.close(life)
        return self._may_try()

    def _may_try(self) -> bool:
        """Wait a little longer each time; False when that has lasted too long, or the end came."""
        now = time.monotonic()
        self._tries += 1
        if self._was_ready_last:
            self._since, self._tries = now, 0
        elif now - self._since > PATIENCE:
            log.error("no daemon comes up, giving up after %d tries", self._tries)
            return False
        if self._tries > 1:
            time.sleep(min(BACKOFF * 2 ** (self._tries - 2), PATIENCE / 10))
        return not self._ending

    def _is_the_end(self, status: int) -> bool:
        """Whether the end was wanted, or a new daemon would fare no better."""
        self._was_ready_last, self._ready[0] = bool(self._ready[0]), 0
        if status == 0 or self._ending:
            return True
        if status == Exit.JOURNAL:
            log.error("the journal can't be used, giving up")
            return True
        if self._was_ready_last and not self._mounter.is_attached(self._mounts[-1]):
            log.info("the mount was taken away")
            return True
        self._was_ready = self._was_ready or self._was_ready_last
        return not self._was_ready

    def _start(self, first: Sequence[int], *, live: bool) -> int:
        """Have a child; returns a descriptor that reads as closed once it and its helper end."""
        mount = self._mounts[-1]
        life, held = os.pipe2(os.O_CLOEXEC)
        values = {
            "mount": mount.mount,
            "connection": mount.connection,
            "path": self._mounter.path,
            "live": live,
            "given": len(self._given),
        }
        passed = [held, mount.device, self._mounter.directory, self._handover.descriptor]
        # Nobody is told to end of whom we don't know yet.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            self._child = self._nursery.bear(values, [*passed, *self._given, *first])
        finally:
            os.close(held)
            if self._ending:
                self._end(signal.SIGTERM, None)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        return life

    def _fork(self, values: dict[str, object], passed: list[int]) -> int:
        """In the nursery: fork a daemon."""
        pid = os.fork()
        if pid == 0:
            self._be_child(values, passed)
        return pid

    def _be_child(self, values: dict[str, object], passed: list[int]) -> None:
        """Serve and end; never returns."""
        status = 1
        try:
            os.setpgid(0, 0)  # by which its helper is found when it is dead
            for number in (*ENDING, signal.SIGALRM):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
            held, device, directory, shared, *more = passed
            count = int(str(values["given"]))
            mount = Attached(device, int(str(values["mount"])), int(str(values["connection"])))
            path, live = str(values["path"]), bool(values["live"])
            life = Life(
                held, mount, path, directory, Handover(shared), live, more[:count], more[count:]
            )
            status = self._serve(self._note_ready, life)
        finally:
            os._exit(status)

    def _note_ready(self) -> None:
        self._ready[0] = 1

    def _wait(self) -> tuple[int, int]:
        """The child, and its exit status.  Its number is nobody's afterwards: `_end` spares it."""
        assert self._child is not None
        pid, pidfd = self._child.pid, self._child.pidfd
        with open("/proc/self/mountinfo", "rb") as table:
            while not self._ending and not _changes(table.fileno(), pidfd):
                self._end_unmounted()
        wait_readable(pidfd, None)
        self._child = None
        os.close(pidfd)
        status = self._nursery.ended(pid)
        return pid, 1 if status is None else status

    def _end_unmounted(self) -> None:
        """End a daemon whose mount was taken away, which copies in other namespaces keep alive."""
        if self._ready[0] and not self._mounter.is_attached(self._mounts[-1]):
            log.info("the mount was taken away")
            self._end(signal.SIGTERM, None)

    def _end(self, _: int, __: FrameType | None) -> None:
        """End the daemon: a signal has told us to end."""
        self._ending = True
        self._signal(signal.SIGTERM)
        signal.setitimer(signal.ITIMER_REAL, END)

    def _kill(self, _: int, __: FrameType | None) -> None:
        """Kill a daemon that doesn't end: it is stopped, or hangs, and its clients with it."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._child.pidfd, number)

    def _take_all_away(self) -> None:
        """Unmount what is ours, the topmost first, and end the connections."""
        for attached in reversed(self._mounts):
            self._mounter.abort(attached)
            self._mounter.try_detach(attached)
            if attached.device >= 0:
                os.close(attached.device)
        self._mounter.release()


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
