# SPDX-License-Identifier: MIT
"""The restart of ccfsd in place (`ccfsd --restart`): as far as the old program goes.

First the new program is tried in a child, so that a broken one changes nothing.  Then no new
request is begun: connections, and what comes over them, wait for the new program.  Once all
requests that were begun are answered, all coroutines end, and this process executes the new
program with all descriptors that it needs (`passed_descriptors.Program.replace`).

Knows the order of it; never what a request is about.
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable, Iterable

import trio

from ccfs.ccfsd.clients import Clients, Connection
from ccfs.ccfsd.listening import Gate
from ccfs.ccfsd.mounts import Mounts
from ccfs.ccfsd.passed_descriptors import Program
from ccfs.errors import UserError

log = logging.getLogger(__name__)

TRIAL = 30.0
"""Seconds that the new program has to show that it can run."""
HOLD = 1.0
"""Seconds that clients wait, at most, for the requests of others to end."""
LOOK = 0.005
"""Seconds between two looks whether all requests are answered."""
_LINE = 200


class Restart:
    """Prepares the restart.

    `clients`: set before the first request.  `passed`: descriptors of clients that the new program
    takes over, by the names of `passed_descriptors`; None as long as there is no restart.  `end`:
    ends all coroutines.
    """

    clients: Clients

    def __init__(
        self, mounts: Mounts, gate: Gate, program: Program, end: Callable[[], None]
    ) -> None:
        self.passed: dict[str, list[int]] | None = None
        self._mounts = mounts
        self._gate = gate
        self._program = program
        self._end = end
        self._is_under_way = False

    async def run(self, connection: Connection) -> None:
        """Carry the request out; the new program replies.  Raises UserError: nothing changed."""
        if self._is_under_way:
            raise UserError("a restart is under way")
        self._is_under_way = True
        try:
            await self._try_new_program()
            await self._finish_requests(connection)
        except UserError as error:
            log.error("not restarted: %s", error.reason)
            self._is_under_way = False
            self._gate.open()
            raise
        connected = [one for one in self.clients.all if not one.is_closed]
        idle = [one.socket.detach() for one in connected if not one.is_busy]
        asking = [] if connection.is_closed else [connection.socket.detach()]
        self.passed = {"restart": asking, "client": idle}
        self._end()

    async def _try_new_program(self) -> None:
        """Have a child see whether the new program can run, with our options."""
        try:
            with trio.move_on_after(TRIAL) as limit:
                trial = await trio.run_process(
                    [*self._program.command, "--check"],
                    cwd=self._program.directory,
                    env=self._program.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    capture_stderr=True,
                    check=False,
                    deliver_cancel=_kill,
                )
        except OSError as error:
            raise UserError(f"the new ccfsd cannot be tried: {error.strerror}") from None
        if limit.cancelled_caught:
            raise UserError(f"the new ccfsd cannot run: it is not ready after {TRIAL:.0f} s")
        if trial.returncode:
            why = _last_line(trial.stderr or b"") or f"status {trial.returncode}"
            raise UserError(f"the new ccfsd cannot run: {why}")

    async def _finish_requests(self, connection: Connection) -> None:
        """Begin no request, and wait for those that are under way."""
        if self._mounts.stopping:
            raise UserError("ccfsd is ending")
        if connection.is_closed:
            raise UserError("its caller has gone")
        self._gate.close()
        with trio.move_on_after(HOLD):
            while self._unanswered(connection) or self._is_asked():
                await trio.sleep(LOOK)
        # An upgrade waits for requests of root, not for users' that wait for their own daemon.
        unanswered = self._unanswered(connection)
        if any(one.peer.uid == 0 for one in unanswered):
            raise UserError("requests are under way that do not end")
        if not self._mounts.save():
            raise UserError("what the new ccfsd must know cannot be saved")
        for one in unanswered:
            one.send(b"error ccfsd is restarting, ask again")

    def _unanswered(self, connection: Connection) -> list[Connection]:
        """The clients that wait for a reply, beside the one that asks for the restart."""
        return [one for one in self.clients.all if one.is_busy and one is not connection]

    def _is_asked(self) -> bool:
        """True if a daemon is to answer a client of it, or of ccfsd."""
        return any(served.is_asked for served in self._mounts.served.values())


async def _kill(trial: trio.Process) -> None:
    trial.kill()


def _last_line(output: bytes) -> str:
    """The last thing that a program has written, before a hint."""
    lines: Iterable[str] = map(str.strip, output.decode(errors="replace").splitlines())
    messages = [line for line in lines if line and not line.startswith("ccfsd: hint:")]
    return messages[-1].removeprefix("ccfsd: error: ")[:_LINE] if messages else ""
