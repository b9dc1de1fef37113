# SPDX-License-Identifier: MIT
"""One mount and its daemons, from the first request for it until nothing of it is left.

The life of a mount is one coroutine, `ServedMount.run`: it starts a daemon, supervises it until it
ends, clears up after it, and starts the next.  The next daemon takes the mount over as long as
ccfsd has the FUSE connection (ccfs.takeover.fuse_connection); else the dead mount is replaced.

Knows the order of things; never sessions, nor which client asked for what.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import trio

from ccfs.ccfsd import cleanup, daemon_request, received_connection, spawner
from ccfs.ccfsd.background import Background, logged
from ccfs.ccfsd.daemon_process import DaemonProcess
from ccfs.ccfsd.fork_client import ForkClient
from ccfs.ccfsd.registry import Owner
from ccfs.ccfsd.runtime_dir import Runtime
from ccfs.ccfsd.settings import Settings
from ccfs.ccfsd.start_limit import StartLimit
from ccfs.ccfsd.supervision import Supervision
from ccfs.ccfsd.waiters import Waiters
from ccfs.control.messages import Message
from ccfs.errors import UserError
from ccfs.linux import mountinfo
from ccfs.linux.processes import Process
from ccfs.mounting import mountpoint
from ccfs.takeover.fuse_connection import FuseConnection
from ccfs.takeover.restart_policy import RestartPolicy

log = logging.getLogger(__name__)

FAILED = 1.0
"""Seconds until a mount goes on after an exception."""


class Host(Protocol):
    """What a mount needs of ccfsd."""

    background: Background
    runtime: Runtime
    settings: Settings
    forks: ForkClient

    @property
    def starts(self) -> StartLimit[ServedMount]:
        """The places of daemons that start."""

    @property
    def ping_period(self) -> float:
        """Seconds between two pings of a daemon."""

    def is_used(self, mount: ServedMount) -> bool:
        """True if a session has the mount, or a login waits for it."""

    def check(self, mount: ServedMount) -> None:
        """Called once a period: end the mount if nothing needs it any more."""

    def daemon_changed(self, mount: ServedMount) -> None:
        """Note that the mount has another daemon, or none."""

    def taken_over(self, mount: ServedMount) -> None:
        """Note that a daemon that answers has taken the mount over from another."""

    def connection_lost(self, mount: ServedMount) -> None:
        """Note that no daemon can take the mount over from the dead one."""

    def removed(self, mount: ServedMount) -> None:
        """Note that nothing of the mount is left."""


class ServedMount:
    """One mount.  `name` is that of its directory and its sockets.

    `device`: the device number of the mount, as mountinfo has it.  `fuse_connection`: what the next
    daemon needs to take the mount over; None where that can't be.
    """

    def __init__(self, host: Host, name: str, owner: Owner) -> None:
        self.name = name
        self.owner = owner
        self.device = ""
        self.fuse_connection: FuseConnection | None = None
        self._host = host
        self._daemon: DaemonProcess | None = None
        self._supervision: Supervision | None = None
        self._dead: tuple[int, int] | None = None  # liveness and pid of the daemon that has ended
        self._waiters = Waiters()
        self._asking = 0
        self._wanted = trio.Event()  # a daemon is to be started where there is none
        self._starting = trio.CancelScope()
        self._policy = RestartPolicy(trio.current_time(), host.settings.patience)
        self._leaving = False  # no daemon follows the present one
        self._replacing = False  # the present one was killed so that another follows
        self._has_journal_dir = False

    @property
    def process(self) -> Process | None:
        """The daemon's process."""
        return self._daemon.process if self._daemon else None

    @property
    def is_asked(self) -> bool:
        """True if a client waits for the mount, or for a reply of its daemon."""
        return bool(self._waiters or self._asking)

    async def ready(self, seconds: float) -> None:
        """Wait until the daemon replies to a ping; it is started if need be.

        Raises NotServedError.
        """
        self._wanted.set()
        self._host.starts.hasten(self)
        if self._supervision is not None:
            self._supervision.ping()
        await self._waiters.wait(seconds)

    def refuse(self, failure: str) -> None:
        """Have all that wait for the mount fail."""
        self._waiters.release(failure)

    async def ask(self, data: bytes, seconds: float, passed: Sequence[int] = ()) -> Message:
        """Send the daemon a request, with descriptors.  Raises `daemon_request.FAILURES`."""
        self._asking += 1
        try:
            return await daemon_request.ask(self.socket, data, seconds, passed)
        finally:
            self._asking -= 1

    def adopt(
        self, process: Process, pidfd: int, device: str, connection: FuseConnection | None
    ) -> None:
        """Go on with a daemon that another ccfsd has started; call this before `run`."""
        self._has_journal_dir = self._host.runtime.has_journal_dir(self.name)
        self.device, self.fuse_connection = device, connection
        daemon = DaemonProcess(process, pidfd, self._host.runtime.open_liveness(self.name))
        daemon.is_serving = daemon.is_adopted = True
        self._set_daemon(daemon)

    def adopt_dead(
        self, leader: int, device: str, connection: FuseConnection | None, *, replace: bool
    ) -> None:
        """Go on after a daemon that died while there was no ccfsd; call this before `run`.

        `leader`: its pid, 0 where that is not known.
        """
        self._has_journal_dir = self._host.runtime.has_journal_dir(self.name)
        self._dead = self._host.runtime.open_liveness(self.name), leader
        self.device, self.fuse_connection, self._leaving = device, connection, not replace
        self._wanted.set()

    def replace_daemon(self) -> bool:
        """Have another daemon, of the present program, take over; False where that can't be."""
        daemon = self._daemon
        if not (daemon and daemon.is_serving and not daemon.is_ending and self.can_be_taken_over):
            return False
        self._replacing = daemon.is_ending = True
        if self._supervision is not None:
            self._supervision.kill()
        return True

    def end(self) -> None:
        """End the mount.  For clients that ask for it meanwhile it is started again afterwards."""
        if not self._leaving:
            self.leave()
            self._starting.cancel()
            if self._supervision is not None:
                self._supervision.terminate()

    def close(self) -> None:
        """Let go of the daemon, which goes on: ccfsd ends."""
        if self._daemon is not None:
            self._daemon.close()

    async def run(self) -> None:
        """Serve until nothing of the mount is left; an exception costs FAILED seconds."""
        while True:
            with logged(f"the mount of {self.name}") as failure:
                await self._live()
            if not failure:
                return
            await trio.sleep(FAILED)

    async def _live(self) -> None:
        while True:
            if self._daemon is not None:
                await self._supervise(self._daemon)
                await self._note_end(self._daemon)
            if self._dead is not None:
                await self._clear_up(*self._dead)
            if not self._leaving:
                await self._start()
            elif not await self._remove():
                return

    async def _start(self) -> None:
        """Start a daemon, however often that takes; returns without one when the mount ends."""
        with trio.CancelScope() as self._starting:
            while self._daemon is None and not self._leaving:
                await self._wanted.wait()
                pause = self._policy.pause(trio.current_time())
                if pause is None:
                    self._give_up("no daemon comes up")
                elif failure := await self._try_to_start(pause):
                    if self.can_be_taken_over:  # clients wait in the mount
                        log.error("no daemon for %s: %s", self.name, failure)
                    else:
                        self._give_up(failure)

    async def _try_to_start(self, pause: float) -> str:
        """Start a daemon when it is this mount's turn; returns why that failed, or ""."""
        await trio.sleep(pause)
        await self._host.starts.acquire(self)
        try:
            await self._spawn()
        except UserError as error:
            return error.reason
        except OSError as error:
            return (error.strerror or str(error)).lower()
        finally:
            if self._daemon is None:
                self.release_place()
        return ""

    async def _spawn(self) -> None:
        """Fork a daemon, and mount where there is no mount.  Raises UserError, OSError."""
        host = self._host
        if not self._has_journal_dir:
            host.runtime.mount_journal_dir(self.name, self.owner.uid, self.owner.gid)
            self._has_journal_dir = True
        is_successor = self.fuse_connection is not None
        spawned = await spawner.spawn(
            host.forks, host.runtime, self.name, self.owner, host.settings, self.fuse_connection
        )
        self.fuse_connection = spawned.fuse_connection
        daemon = DaemonProcess(spawned.process, spawned.pidfd, spawned.liveness)
        daemon.is_successor = is_successor
        if not is_successor:
            self.device = host.runtime.device(self.name)
        self._set_daemon(daemon)

    def _set_daemon(self, daemon: DaemonProcess) -> None:
        self._daemon = daemon
        self._wanted.set()
        self._host.daemon_changed(self)

    def _give_up(self, why: str) -> None:
        """Start no daemon until a client asks again.

        Without the FUSE connection the mount answers with an error, so that nothing is stored at
        the mountpoint meanwhile; the journal stays.
        """
        log.error("giving %s up: %s", self.name, why)
        self._drop_connection()
        self._policy.note_ready()
        self._wanted = trio.Event()
        self._waiters.release(why)
        if not self.is_used:
            self.leave()

    async def _supervise(self, daemon: DaemonProcess) -> None:
        """Return when the daemon has ended."""
        try:
            async with trio.open_nursery() as tasks:
                self._supervision = Supervision(self, daemon, tasks)
                if self._replacing:
                    self._supervision.kill()
                elif self._leaving:
                    self._supervision.terminate()
                await self._supervision.run()
        finally:
            self._supervision = None
            self.release_place()

    async def _note_end(self, daemon: DaemonProcess) -> None:
        status = await self._host.forks.exit_status(daemon.process.pid)
        daemon.close()
        self._daemon, self._dead = None, (daemon.liveness, daemon.process.pid)
        self._host.daemon_changed(self)
        if status == 0 or (status is None and not self._host.runtime.device(self.name)):
            # It has wiped its journal: its mount was taken away, or root has told it to end.
            self.leave()
        if self._replacing:
            log.info("the daemon of %s is replaced by another", self.name)
        elif not self._leaving:
            log.warning("the daemon of %s has died (%s), replacing it", self.name, _how(status))
        self._replacing = False

    async def _clear_up(self, liveness: int, leader: int) -> None:
        """Have the notifier of a dead daemon end; take away what no daemon can take over."""
        self._dead = None
        if self.can_be_taken_over:
            cleanup.release_notifier(liveness, leader)
            return
        self._host.connection_lost(self)
        self._drop_connection()  # or the notifier would wait for a reply in the mount
        await cleanup.end_notifier(liveness, leader)
        self._host.runtime.remove_socket(self.name)
        if not self._leaving:
            self._host.runtime.unmount_overmounts(self.name)

    async def _remove(self) -> bool:
        """Take the mount and its journal away; returns True if a client or session still needs it.

        The mountpoint stays as long as a session has its path.
        """
        self._drop_connection()
        host, runtime = self._host, self._host.runtime
        runtime.remove_socket(self.name)
        await cleanup.wipe_journal(host.forks, runtime, self.name, self.owner)
        runtime.unmount(self.name)
        runtime.remove_journal_dir(self.name)
        self._has_journal_dir = self._leaving = False
        self.device = ""
        self._policy.note_ready()
        if self._waiters:
            return True
        self._wanted = trio.Event()
        if self.is_used:
            host.daemon_changed(self)
            return True
        runtime.remove_mountpoint(self.name)
        host.removed(self)
        return False

    async def _fetch_connection(self, daemon: DaemonProcess) -> None:
        """Ask a daemon that another ccfsd has started for its FUSE connection."""
        seconds = self.settings.hang
        try:
            _, descriptors = await daemon_request.ask_for_descriptors(self.socket, b"link", seconds)
        except daemon_request.FAILURES:  # asked again after the next ping
            return
        connection = received_connection.checked(descriptors)
        if self.fuse_connection is None and self._daemon is daemon:
            self.fuse_connection = connection
        elif connection is not None:
            connection.close()

    def _drop_connection(self) -> None:
        """Close the FUSE connection, which only a daemon keeps alive then."""
        connection, self.fuse_connection = self.fuse_connection, None
        if connection is not None:
            connection.close()

    # What the supervision of the daemon needs (supervision.Mount).

    @property
    def settings(self) -> Settings:
        """The settings of ccfsd."""
        return self._host.settings

    @property
    def socket(self) -> str:
        """The path of the daemon's socket."""
        return self._host.runtime.socket(self.name)

    @property
    def ping_period(self) -> float:
        """Seconds between two pings of the daemon."""
        return self._host.ping_period

    @property
    def is_waited_for(self) -> bool:
        """True if a client waits until the daemon replies."""
        return bool(self._waiters)

    @property
    def is_used(self) -> bool:
        """True if a session has the mount, or a login waits for it."""
        return self._host.is_used(self)

    @property
    def can_be_taken_over(self) -> bool:
        """True if another daemon can take the mount over."""
        connection = self.fuse_connection
        return not self._leaving and connection is not None and connection.is_alive

    def release_place(self) -> None:
        """Let the next daemon start."""
        self._host.starts.release(self)

    def note_reply(self, daemon: DaemonProcess) -> None:
        """The daemon has replied to a ping: the clients that wait go on."""
        self._policy.note_ready()
        if daemon.is_successor and not daemon.is_serving:
            self._host.taken_over(self)
        if daemon.is_adopted and self.fuse_connection is None and not self.settings.mount_anew:
            self._host.background.start(self._fetch_connection, daemon)
        if self._waiters and self._host.runtime.device(self.name) != (self.device or "none"):
            log.info("the mount of %s was taken away, or covered, while it is in use", self.name)
            self.end()
            return
        self._waiters.release()

    def check(self) -> None:
        """End the mount if nothing needs it any more."""
        self._host.check(self)

    def abort(self) -> None:
        """End the FUSE connection: requests that wait in the mount get an error."""
        mount = mountinfo.topmost(self._host.runtime.mountpoint(self.name))
        if mount and mount.is_ccfs and self.device.endswith(f":{mount.connection}"):
            mountpoint.abort(mount)
        self._drop_connection()

    def leave(self) -> None:
        """Have no daemon follow the present one."""
        self._leaving = True


def _how(status: int | None) -> str:
    """Say how a process has ended.  `status`: that of `ForkClient.exit_status`."""
    if status is None:
        return "status unknown"
    return f"signal {-status}" if status < 0 else f"status {status}"
