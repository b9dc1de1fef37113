"""The small parent that replaces a daemon that dies.

Knows processes and the mount table; never what the daemon serves.  It holds no descriptor of the
FUSE device, which would keep a dead connection alive.
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

from ccfs import helper, mountpoint
from ccfs.errors import Exit

log = logging.getLogger(__name__)

DEATHS = 5
"""So many deaths within PERIOD seconds are too many."""
PERIOD = 60.0
BACKOFF = 0.05
"""Seconds before the second try in a row; twice that before the third, and so on."""
FAREWELL = 1.0
"""Seconds that the helper of a dead daemon has to wake those who wait at a FIFO, and to end."""


@dataclass(frozen=True, slots=True)
class Life:
    """One daemon's.  `held`: a descriptor to hold while it, or its helper, lives; -1: none."""

    held: int


Serve = Callable[[Callable[[], None], Life], int]
"""Serve a mount: called with `ready()`; returns the exit status."""


class Supervisor:
    """Keeps one mount served.

    `serve` runs in a child process and returns its exit status: 0 when the end was wanted.
    `died` is called here when a child has died, before there may be another one.
    """

    def __init__(self, path: str, serve: Serve, died: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._serve = serve
        self._died = died
        self._child = 0
        self._ending = False
        self._deaths: list[float] = []
        self._ready = mmap.mmap(-1, 1)
        self._was_ready = False

    def run(self, ready: Callable[[], None], first_only: Callable[[], None]) -> int:
        """Serve until the end is wanted, or can't be avoided.

        Returns the exit status of the last child, negative where a signal has ended it.

        `ready` is called in the first child when its mount answers; `first_only` is called here
        when that child runs, to let go of what only it needs.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        life = self._start(ready)
        first_only()
        while True:
            daemon, status = self._wait()
            if self._is_the_end(status):
                return status
            self._died()
            log.warning("the daemon has died (%s), replacing it", _how(status))
            self._clear(life, daemon)
            if not self._may_try():
                return status
            life = self._start(lambda: None)

    def _is_the_end(self, status: int) -> bool:
        """Whether the end was wanted, or a new daemon would fare no better."""
        was_ready, self._ready[0] = bool(self._ready[0]), 0
        if status == 0 or self._ending:
            return True
        if status == Exit.JOURNAL:
            log.error("the journal can't be used, giving up")
            return True
        if was_ready and not self._is_mounted():
            log.info("the mount was taken away")
            return True
        self._was_ready = self._was_ready or was_ready
        return not self._was_ready

    def _start(self, ready: Callable[[], None]) -> int:
        """Fork a child; returns a descriptor that reads as closed once it and its helper end."""
        life, held = os.pipe2(os.O_CLOEXEC)
        self._child = os.fork()
        if self._child == 0:
            os.close(life)
            self._be_child(ready, Life(held))
        os.close(held)
        if self._ending:
            self._end(signal.SIGTERM, None)
        return life

    def _be_child(self, ready: Callable[[], None], life: Life) -> None:
        """Serve and end; never returns."""
        status = 1
        try:
            os.setpgid(0, 0)  # by which its helper is found when it is dead
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            status = self._serve(lambda: self._note_ready(ready), life)
        finally:
            os._exit(status)

    def _note_ready(self, ready: Callable[[], None]) -> None:
        self._ready[0] = 1
        ready()

    def _wait(self) -> tuple[int, int]:
        """The child, and its exit status.  Its number is nobody's afterwards: `_end` spares it."""
        os.waitid(os.P_PID, self._child, os.WEXITED | os.WNOWAIT)
        child, self._child = self._child, 0
        _, status = os.waitpid(child, 0)
        return child, os.waitstatus_to_exitcode(status)

    def _end(self, _: int, __: FrameType | None) -> None:
        """Somebody wants the end: so shall the daemon."""
        self._ending = True
        if self._child:
            os.kill(self._child, signal.SIGTERM)

    def _is_mounted(self) -> bool:
        mount = mountpoint.topmost(self._path, mountpoint.mounts())
        return mount is not None and mount.is_ccfs

    def _clear(self, life: int, daemon: int) -> None:
        """Let waiters of the dead mount go on, end what still hangs in it, and take it away."""
        mount = mountpoint.topmost(self._path, mountpoint.mounts())
        if mount is not None:
            mountpoint.abort(mount)
        _let_helper_end(life, daemon)
        os.close(life)
        try:
            mountpoint.detach(self._path, lazy=True)
        except OSError as error:
            log.warning("cannot take the dead mount away: %s", error.strerror)

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


def _let_helper_end(life: int, daemon: int) -> None:
    """Wait for the helper of a dead daemon, stopped or not, which has its time and no more."""
    poll = select.poll()
    poll.register(life, select.POLLIN)
    if poll.poll(0):
        return
    helper.signal_left(daemon, signal.SIGCONT)
    if not poll.poll(FAREWELL * 1000):
        helper.signal_left(daemon, signal.SIGKILL)


def _how(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"
