# SPDX-License-Identifier: MIT
"""The loop of a supervisor: when the daemon of its mount dies, another one is started.

The supervisor holds the descriptor of the FUSE connection, so that clients of a dead daemon wait
until the next one takes the connection over.  Before Linux 6.9 the next daemon gets a new mount
(ccfs.supervisor.remount).

Knows processes and mounts; never what the daemon serves.
"""

from __future__ import annotations

import importlib
import logging
import math
import os
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence

from ccfs.errors import Exit, MountError, redaction
from ccfs.linux import mountinfo
from ccfs.linux.descriptors import wait_readable
from ccfs.mounting import mount_lock
from ccfs.mounting.mounter import FuseMount, Mounter
from ccfs.supervisor import reimport
from ccfs.supervisor.daemon_process import DaemonProcess
from ccfs.supervisor.daemon_spec import Acceptor, DaemonSetup, DaemonSpec
from ccfs.supervisor.reimport import ReimportRequest, State
from ccfs.supervisor.remount import remount
from ccfs.supervisor.signals import Signals
from ccfs.takeover import handover, notifier
from ccfs.takeover.fuse_connection import FuseConnection, take_init
from ccfs.takeover.handover import Handover
from ccfs.takeover.restart_policy import PATIENCE, RestartPolicy

log = logging.getLogger(__name__)

LOOK = 10.0
"""Seconds between two looks at a daemon: one that makes no progress meanwhile hangs."""
SETTLE = 0.2
"""Seconds between a change of the mount table and a look at it."""
STATE_VERSION = 2
"""Of the state that one version of this code leaves to another."""


class Supervisor:
    """Keeps one mount served."""

    def __init__(
        self, mounter: Mounter, spec: DaemonSpec, handover: Handover | None = None
    ) -> None:
        self._mounter = mounter
        self._spec = spec
        self._acceptor = spec.open_acceptor()
        self._handover = handover or Handover()
        self._daemon = DaemonProcess(spec)
        self._signals = Signals(self._daemon.signal)
        self._mounts: list[FuseMount] = []
        self._policy = RestartPolicy(time.monotonic(), PATIENCE)
        self._has_served = False
        self._looked = time.monotonic()
        self._progress = -1

    @classmethod
    def from_state(cls, state: State, spec: DaemonSpec) -> Supervisor:
        """Make one that goes on with the state of another version of this code."""
        mounter = Mounter.from_state(state["mounter"])
        supervisor = cls(mounter, spec, Handover(state["handover"]))
        supervisor._mounts = [FuseMount(*mount) for mount in state["mounts"]]
        supervisor._daemon.adopt(state["daemon"], state["liveness"])
        supervisor._has_served = True
        return supervisor

    def run(self, startup: Sequence[int], started: Callable[[], None]) -> int:
        """Mount and serve until the end is wanted, or can't be avoided.

        Returns the exit status of the last daemon, negative where a signal has ended it.  A mount
        whose daemon can't be replaced stays, dead: what clients write must not go to the directory
        below.

        `startup`: descriptors for the first daemon; `started` is called once that runs, to close
        what only it needs.  Raises MountError.
        """
        self._prepare()
        return self._run(lambda: self._begin(startup, started))

    def resume(self) -> int:
        """Replace the daemon that another version of this code has started; then as `run`."""
        self._prepare()
        return self._run(self._replace_daemon)

    def _prepare(self) -> None:
        self._signals.install()
        mount_lock.sign(self._mounter.directory)

    def _run(self, begin: Callable[[], None]) -> int:
        stays = goes_on = False
        try:
            begin()
            status, stays = self._supervise()
            return status
        except ReimportRequest:
            goes_on = True
            raise
        finally:
            if not goes_on:
                if not stays:
                    self._unmount_all()
                self._spec.tear_down()

    def _begin(self, startup: Sequence[int], started: Callable[[], None]) -> None:
        self._mounts.append(self._mounter.mount())
        self._take_init()
        self._start(startup)
        started()

    def _replace_daemon(self) -> None:
        self._daemon.wait_for_fork_server()
        self._daemon.signal(signal.SIGKILL)

    def _supervise(self) -> tuple[int, bool]:
        """Run one daemon after another; return the last one's status, and if the mount stays."""
        while True:
            pid, status = self._wait_for_end()
            if self._is_last(status):
                return status, status == Exit.JOURNAL and self._has_served
            log.warning("the daemon has died (%s), replacing it", _describe(status))
            takes_over = self._can_take_over
            try:
                if not takes_over:
                    remount(self._mounter, self._mounts, self._daemon.liveness, pid)
                    self._take_init()
                elif not self._daemon.notifier_has_ended():
                    notifier.signal_orphan(pid, signal.SIGCONT)  # its user may have stopped it
            except MountError as error:
                log.error("giving up: %s", error.reason)
                return status, True
            if not self._pause():
                return status, not self._signals.ending
            self._start((), takes_over=takes_over)

    @property
    def _can_take_over(self) -> bool:
        """True if the next daemon can take the connection over: it lives, and can resend."""
        connection = FuseConnection(self._mounts[-1].device, self._handover.descriptor)
        return connection.can_resend and connection.is_alive and not self._spec.mount_anew

    def _take_init(self) -> None:
        """Take the kernel's first request, which each daemon of this connection is to answer."""
        take_init(self._mounts[-1].device, self._handover)

    def _pause(self) -> bool:
        """Pause before the next start; False when patience has ended, or the end is wanted."""
        pause = self._policy.pause(time.monotonic())
        if pause is None:
            log.error("no daemon becomes ready, giving up")
            return False
        if pause:
            self._wait({}, pause)
        return not self._signals.ending

    def _is_last(self, status: int) -> bool:
        """True if the end was wanted, or a new daemon would fare no better."""
        if status == 0 or self._signals.ending:
            return True
        if status == Exit.JOURNAL:
            log.error("the journal can't be used, giving up")
            return True
        if not self._daemon.is_ready:
            return not self._has_served
        if not self._mounter.is_mounted(self._mounts[-1]):
            log.info("the mount was taken away")
            return True
        self._policy.note_ready()
        self._has_served = True
        return False

    def _start(self, startup: Sequence[int], *, takes_over: bool = False) -> None:
        acceptor = self._acceptor.descriptors_for_daemon() if self._acceptor else []
        setup = DaemonSetup(
            -1,
            self._mounts[-1],
            self._mounter.path,
            self._mounter.directory,
            self._handover,
            takes_over=takes_over,
            supervisor=os.getpid(),
            acceptor=acceptor,
            startup=startup,
        )
        with self._signals.deferred():
            try:
                self._daemon.start(setup)
            finally:
                for descriptor in acceptor[1:]:
                    os.close(descriptor)

    def _wait_for_end(self) -> tuple[int, int]:
        """Wait for the daemon's end; return its pid and exit status as `DaemonProcess.reap`."""
        pidfd = self._daemon.pidfd
        if pidfd >= 0:
            with open(mountinfo.PATH, "rb") as table:
                while not self._signals.ending and not self._wait_for_change(table.fileno(), pidfd):
                    if self._signals.reimport_wanted:
                        self._reimport()
                    self._end_unmounted()
                    self._kill_hanging()
            self._wait({pidfd: select.POLLIN}, None)
        return self._daemon.reap()

    def _reimport(self) -> None:
        """Let new code go on from here, if it says that it can.  Raises ReimportRequest."""
        self._signals.clear()
        if not self._daemon.is_ready:
            return  # once this daemon serves
        self._signals.reimport_wanted = False
        state: State = {
            "version": STATE_VERSION,
            "spec": self._spec.state(),
            "mounter": self._mounter.to_state(),
            "mounts": [[mount.device, mount.id, mount.connection] for mount in self._mounts],
            "handover": self._handover.descriptor,
            "daemon": self._daemon.to_state(),
            "liveness": self._daemon.liveness,
        }
        if not self._can_take_over:
            log.error("not replaced: no other daemon could take this mount over")
        elif reimport.can_resume(__name__, state):
            log.info("going on with new code")
            self._signals.release()
            self._daemon.release()
            raise ReimportRequest(__name__, state)

    def _wait_for_change(self, table: int, pidfd: int) -> bool:
        """Wait for a change of the mount table, a request for new code, or LOOK seconds.

        True where the daemon ends before.  Changes of the table follow one another, and each of
        many supervisors reads the whole table: SETTLE seconds are waited for more of them.
        """
        others = {pidfd: select.POLLIN, self._signals.fileno(): select.POLLIN}
        found = self._wait({**others, table: select.POLLPRI}, LOOK)  # proc(5), /proc/PID/mounts
        if found == table:
            found = self._wait(others, SETTLE)
        return found == pidfd

    def _wait(self, events: Mapping[int, int], seconds: float | None) -> int:
        """Wait for one of some descriptors, by its poll(2) events, and serve the acceptor.

        Returns the first descriptor that is ready, -1 after `seconds`.
        """
        poll = select.poll()
        for descriptor, mask in events.items():
            poll.register(descriptor, mask)
        if self._acceptor:
            poll.register(self._acceptor.fileno(), select.POLLIN)
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        while True:
            left = max(0.0, deadline - time.monotonic())
            ready = dict(poll.poll(None if left == math.inf else left * 1000))
            if self._acceptor and self._acceptor.fileno() in ready:
                _serve(self._acceptor)
            for descriptor in events:
                if descriptor in ready:
                    return descriptor
            if not left:
                return -1

    def _kill_hanging(self) -> None:
        """Kill a daemon that hangs: clients wait and it makes no progress, or is never ready."""
        now = time.monotonic()
        if now - self._looked < LOOK:
            return
        self._looked = now
        has_requests = wait_readable(self._mounts[-1].device, 0)
        before = self._progress
        self._progress = self._handover.words[handover.PROGRESS] if has_requests else -1
        makes_no_progress = has_requests and self._progress == before
        if makes_no_progress if self._daemon.is_ready else self._policy.is_overdue(now):
            log.error("the daemon hangs, killing it")
            self._daemon.signal(signal.SIGKILL)

    def _end_unmounted(self) -> None:
        """End a daemon whose mount was taken away; copies in other namespaces keep it alive."""
        if self._daemon.is_ready and not self._mounter.is_mounted(self._mounts[-1]):
            log.info("the mount was taken away")
            self._signals.end()

    def _unmount_all(self) -> None:
        """Unmount what this process has mounted, the topmost first, and end the connections."""
        for mount in reversed(self._mounts):
            self._mounter.abort(mount)
            self._mounter.try_unmount(mount)
            if mount.device >= 0:
                os.close(mount.device)
        self._mounter.release()


def spec_of(state: State) -> DaemonSpec:
    """Make the spec that another version of this code has had."""
    spec: DaemonSpec = importlib.import_module(state["spec"]["module"]).spec_of(state["spec"])
    return spec


def can_resume(state: State) -> bool:
    """True if this code can go on with the state of another version."""
    return bool(state["version"] == STATE_VERSION and spec_of(state).is_compatible())


def resume(state: State) -> int:
    """Go on with a state to the end; returns the exit status as `Supervisor.run` does."""
    return Supervisor.from_state(state, spec_of(state)).resume()


def _serve(acceptor: Acceptor) -> None:
    """Handle an acceptor's events; a failure there doesn't end the mount."""
    try:
        acceptor.handle_events()
    except Exception as error:
        log.error("unexpected exception: %s", redaction.describe(error))


def _describe(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"
