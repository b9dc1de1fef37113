# SPDX-License-Identifier: MIT
"""The daemon of a supervisor as a process: forked, signalled, waited for.

It is forked by a fork server, which has imported all that a daemon needs.  Knows one process at a
time; never why it is started, nor what it serves.
"""

from __future__ import annotations

import dataclasses
import logging
import mmap
import os
import signal
from collections.abc import Sequence
from contextlib import suppress

from ccfs.errors import Exit, redaction
from ccfs.linux import descriptors
from ccfs.supervisor import signals
from ccfs.supervisor.daemon_spec import DaemonSetup, DaemonSpec, Serve
from ccfs.takeover.fork_server import Child, ForkServer

log = logging.getLogger(__name__)


class DaemonProcess:
    """One daemon after another.

    `liveness`: the reading end of a pipe; it reads as closed once the present daemon and its
    notifier have ended.
    """

    def __init__(self, spec: DaemonSpec) -> None:
        self._serve: Serve = spec.serve
        self._ready = mmap.mmap(-1, 1)  # a byte that is shared with the daemon
        self._fork_server = ForkServer(spec.preload, self._fork)
        self._child: Child | None = None
        self.liveness = -1

    def adopt(self, child: Sequence[int], liveness: int) -> None:
        """Go on with a daemon that serves, of another version of this code: its pid and pidfd."""
        self._child, self.liveness = Child(*child), liveness
        self._note_ready()

    def to_state(self) -> list[int]:
        """Return the pid and pidfd of the daemon, for `adopt`."""
        assert self._child is not None
        return [self._child.pid, self._child.pidfd]

    @property
    def pidfd(self) -> int:
        """The pidfd of the daemon, -1 where it could not be forked."""
        return self._child.pidfd if self._child else -1

    @property
    def is_ready(self) -> bool:
        """True if the present daemon serves, or has served until it died."""
        return bool(self._ready[0])

    def start(self, setup: DaemonSetup) -> None:
        """Fork a daemon.  Raises OSError or EOFError for the first one, logs that for others."""
        self._ready[0] = 0
        if self.liveness >= 0:
            os.close(self.liveness)
        self.liveness, liveness = os.pipe2(os.O_CLOEXEC)
        values, passed = dataclasses.replace(setup, liveness=liveness).to_order()
        try:
            self._child = self._fork_server.fork(values, passed)
        except (OSError, EOFError) as error:
            if setup.startup:
                raise
            log.error("cannot fork a daemon: %s", redaction.describe(error))
        finally:
            os.close(liveness)

    def signal(self, number: signal.Signals) -> None:
        """Send the daemon a signal, if there is one.  May be called in a signal handler."""
        if self._child is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._child.pidfd, number)

    def wait_for_fork_server(self) -> None:
        """Return once the fork server can fork: it replies when it has imported everything."""
        self._fork_server.exit_status(0)

    def reap(self) -> tuple[int, int]:
        """Return the pid and the exit status of the daemon, which has ended; pid 0 for none.

        The status is negative where a signal has ended it.
        """
        # Signal handlers must not use the pidfd any more: its number is free once it is closed.
        child, self._child = self._child, None
        if child is None:
            return 0, int(Exit.UNEXPECTED)
        os.close(child.pidfd)
        status = self._fork_server.exit_status(child.pid)
        return child.pid, 1 if status is None else status

    def notifier_has_ended(self) -> bool:
        """True if the notifier of the dead daemon has ended, too."""
        return descriptors.wait_readable(self.liveness, 0)

    def release(self) -> None:
        """Give way to new code, which has a fork server of its own; the daemon goes on."""
        self._fork_server.close()

    def _fork(self, values: dict[str, object], passed: list[int]) -> int:
        """In the fork server: fork a daemon."""
        pid = os.fork()
        if pid == 0:
            self._run(values, passed)
        return pid

    def _run(self, values: dict[str, object], passed: list[int]) -> None:
        """Be the daemon; never returns."""
        status = 1
        try:
            descriptors.close_all_but(passed)
            os.setpgid(0, 0)  # by which its notifier is found when it is dead
            signals.restore_defaults()
            status = self._serve(self._note_ready, DaemonSetup.from_order(values, passed))
        finally:
            os._exit(status)

    def _note_ready(self) -> None:
        self._ready[0] = 1
