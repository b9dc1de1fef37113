# SPDX-License-Identifier: MIT
"""The supervision of one daemon, from its start to its end: pings, and an end within a bound.

Knows a process and its replies; never whether another daemon follows it.
"""

from __future__ import annotations

import logging
import signal
from typing import Protocol

import trio

from ccfs.ccfsd import daemon_request
from ccfs.ccfsd.daemon_process import DaemonProcess
from ccfs.ccfsd.daemon_request import FAILURES, LateError
from ccfs.ccfsd.settings import Settings
from ccfs.control.messages import Message

log = logging.getLogger(__name__)

END = 3.0
"""Seconds that a daemon has to end."""
LOST = 2.0
"""Seconds that a killed daemon has to end: it may wait for a file system that its user mounted."""
SLOW = 2.0
"""Seconds that a daemon may start before it keeps no others from starting."""


class Mount(Protocol):
    """What the supervision of a daemon needs of its mount."""

    name: str

    @property
    def settings(self) -> Settings:
        """The settings of ccfsd."""

    @property
    def socket(self) -> str:
        """The path of the daemon's socket."""

    @property
    def ping_period(self) -> float:
        """Seconds between two pings."""

    @property
    def is_waited_for(self) -> bool:
        """True if a client waits until the daemon replies."""

    @property
    def is_used(self) -> bool:
        """True if a session has the mount, or a login waits for it."""

    @property
    def can_be_taken_over(self) -> bool:
        """True if another daemon can take the mount over."""

    def release_place(self) -> None:
        """Let the next daemon start."""

    def note_reply(self, daemon: DaemonProcess) -> None:
        """The daemon has replied to a ping."""

    def check(self) -> None:
        """Called once a period: end the mount if nothing needs it any more."""

    def abort(self) -> None:
        """End the FUSE connection."""

    def leave(self) -> None:
        """Have no daemon follow this one."""


class Supervision:
    """Supervises one daemon; `run` returns when its process has ended."""

    def __init__(self, mount: Mount, daemon: DaemonProcess, tasks: trio.Nursery) -> None:
        self._mount = mount
        self._daemon = daemon
        self._tasks = tasks
        self._ping_now = trio.Event()

    async def run(self) -> None:
        """Ping the daemon until it has ended; then `tasks` is cancelled."""
        self._tasks.start_soon(self._ping_regularly)
        self._tasks.start_soon(self._release_place)
        await self._daemon.wait()
        self._tasks.cancel_scope.cancel()

    def ping(self) -> None:
        """Ping the daemon now; its reply to a ping that is under way will do."""
        self._ping_now.set()

    def terminate(self) -> None:
        """Have the daemon end, and kill it where it doesn't."""
        self._mount.release_place()
        self._daemon.send(signal.SIGTERM)
        self._tasks.start_soon(self._kill_later)

    def kill(self) -> None:
        """Kill the daemon."""
        self._daemon.send(signal.SIGKILL)
        self._tasks.start_soon(self._abandon)

    async def _ping_regularly(self) -> None:
        """Ping the daemon at once, when a client wants the mount, and once a period."""
        check_at = trio.current_time() + self._mount.ping_period
        while not self._daemon.is_ending:
            await self._ping()
            self._ping_now = trio.Event()
            with trio.move_on_at(check_at):
                await self._ping_now.wait()
            if trio.current_time() >= check_at:
                check_at = trio.current_time() + self._mount.ping_period
                self._mount.check()

    async def _ping(self) -> None:
        """Ping the daemon; kill it if it neither replies nor works."""
        daemon = self._daemon
        while not daemon.is_ending:
            daemon.note_ping()
            try:
                reply = await self._ask(b"ping")
            except LateError as error:
                failure = str(error)
                if daemon.is_busy():
                    self._mount.release_place()
                    continue
            except FAILURES as error:
                failure = str(error)
            else:
                if not daemon.is_ending:
                    self._note_reply(reply)
                return
            if not daemon.is_ending and daemon.is_alive:
                self._kill_because(failure)
            return

    async def _ask(self, data: bytes) -> Message:
        return await daemon_request.ask(self._mount.socket, data, self._mount.settings.hang)

    def _note_reply(self, reply: Message) -> None:
        daemon, mount = self._daemon, self._mount
        daemon.note_reply()
        mount.release_place()
        mount.note_reply(daemon)
        daemon.is_serving = True
        now, requests = trio.current_time(), reply.number("requests")
        if requests != daemon.requests or reply.number("credentials") or mount.is_used:
            daemon.requests, daemon.quiet_since = requests, now
        elif now - daemon.quiet_since >= mount.settings.idle and not mount.is_waited_for:
            daemon.quiet_since = now
            self._tasks.start_soon(self._retire)

    async def _retire(self) -> None:
        """Have a daemon end that has had no request, and nothing to keep, for long."""
        try:
            await self._ask(b"retire")
        except FAILURES:  # it is in use
            return
        if not self._daemon.is_ending:
            log.info("the daemon of %s had nothing to do", self._mount.name)
            self._daemon.is_ending = True
            self._mount.leave()
            await self._kill_later()

    async def _release_place(self) -> None:
        """Let other daemons start where this one takes long."""
        await trio.sleep(SLOW)
        self._mount.release_place()

    async def _kill_later(self) -> None:
        await trio.sleep(END)
        self._kill_because("it does not end")

    def _kill_because(self, why: str) -> None:
        """Kill a daemon that can't be expected to end by itself."""
        log.error("killing the daemon of %s: %s", self._mount.name, why)
        if not self._mount.can_be_taken_over:
            self._mount.abort()
        self.kill()

    async def _abandon(self) -> None:
        """Go on without a daemon that does not even end when it is killed."""
        await trio.sleep(LOST)
        log.error("the daemon of %s cannot be killed, going on without it", self._mount.name)
        self._mount.abort()
        self._tasks.cancel_scope.cancel()
