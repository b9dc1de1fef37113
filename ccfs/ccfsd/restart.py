"""The restart of ccfsd in place (`ccfsd --restart`): as far as the old one goes.

First the new program is tried in a child, so that a broken one changes nothing.  Then no new
request is begun; connections and what comes over them wait for the new one.  Once all requests that
were begun are answered this process executes the new program, with everything that it holds.

Knows the order of it; never what a request is about.
"""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from ccfs import __version__
from ccfs.ccfsd.clients import Clients, Connection
from ccfs.ccfsd.daemon_replacement import Renewal
from ccfs.ccfsd.loop import Timer
from ccfs.ccfsd.mounts import Host
from ccfs.ccfsd.passed_descriptors import Program
from ccfs.control import messages

log = logging.getLogger(__name__)

TRIAL = 30.0
"""Seconds that the new program has to show that it can run."""
HOLD = 1.0
"""Seconds that clients wait, at most, for the requests of others to end."""
_LINE = 200


class Restart:
    """Does it when it is asked to.  `listeners`: descriptors where clients connect."""

    def __init__(
        self, host: Host, clients: Clients, program: Program, listeners: list[int]
    ) -> None:
        self._host = host
        self._clients = clients
        self._program = program
        self._listeners = listeners
        self._asked: Connection | None = None
        self._held: list[Callable[[], None]] | None = None
        self._limit: Timer | None = None

    def ask(self, connection: Connection) -> None:
        """The request: the new one answers it, this one refuses where there can't be one."""
        if self._asked is not None:
            connection.refuse("a restart is under way")
            return
        self._asked = connection
        self._try()

    def renew(self, connection: Connection | None) -> None:
        """The part of the new one: replace the daemons, and answer the one who has asked."""
        self._asked = connection
        Renewal(self._host, self._renewed)

    def _renewed(self, renewed: int, kept: int, why: str) -> None:
        asked, self._asked = self._asked, None
        if asked is None:
            return
        if why:
            asked.refuse(f"a daemon of the new ccfsd does not come up, {kept} go on as they were")
        else:
            asked.reply(messages.encode("ok", renewed=renewed, kept=kept, version=__version__))

    def settle(self) -> None:
        """Called after each round of the loop, when replies are out."""
        if self._held is not None and not self._waiting():
            self._go()

    def _try(self) -> None:
        """Have a child see whether the new program can run, with our options."""
        with ExitStack() as undo:
            try:
                said = os.memfd_create("ccfsd-trial")
                undo.callback(os.close, said)
                trial = self._start_trial(said)
                undo.callback(trial.kill)
                pidfd = os.pidfd_open(trial.pid)
            except OSError as error:
                self._refuse(f"the new ccfsd cannot be tried: {error.strerror}")
                return
            undo.pop_all()

        def over() -> None:
            limit.cancel()
            self._host.loop.forget(pidfd)
            trial.returncode = _status(pidfd)
            os.close(pidfd)
            last = _last_line(said)
            os.close(said)
            if trial.returncode:
                self._refuse(f"the new ccfsd cannot run: {last or f'status {trial.returncode}'}")
            else:
                self._hold()

        limit = self._host.loop.after(TRIAL, trial.kill)
        self._host.loop.watch(pidfd, over)

    def _start_trial(self, said: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - our own program
            [*self._program.command, "--check"],
            cwd=self._program.directory,
            env=self._program.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )

    def _hold(self) -> None:
        """Begin nothing new."""
        if self._host.stopping or not self._asked or self._asked.closed:
            self._refuse("ccfsd is ending" if self._host.stopping else "its caller has gone")
            return
        self._clients.holding = True
        self._held = [self._host.loop.leave(one) for one in self._listeners]
        self._limit = self._host.loop.after(HOLD, self._hold_no_longer)

    def _hold_no_longer(self) -> None:
        """An upgrade waits for requests of root, not for users' that wait for their own daemon."""
        if any(one.peer.uid == 0 for one in self._unanswered()):
            self._refuse("requests are under way that do not end")
            return
        for one in self._unanswered():
            one.send(b"error ccfsd is restarting, ask again")
        self._go()

    def _unanswered(self) -> list[Connection]:
        return [one for one in self._clients.all if one.busy and one is not self._asked]

    def _waiting(self) -> bool:
        """Whether a client waits for a reply, or a login for a daemon."""
        return bool(self._unanswered()) or any(s.is_asked for s in self._host.served.values())

    def _go(self) -> None:
        assert self._asked is not None
        if not self._host.save():
            self._refuse("what the new ccfsd must know cannot be written down")
            return
        log.info("restarting, %d daemons go on", len(self._host.served))
        idle = [one.socket.fileno() for one in self._clients.all if not one.busy]
        passed: dict[str, Sequence[int]] = {}
        for more in self._host.passes:
            passed |= more()
        asked = [] if self._asked.closed else [self._asked.socket.fileno()]
        passed |= {"restart": asked, "client": idle}
        mounts = self._host.served.values()
        passed |= {f"link:{one.name}": one.link.descriptors for one in mounts if one.link}
        error = self._program.replace(passed)
        self._refuse(f"the new ccfsd cannot run: {error.strerror}")

    def _refuse(self, why: str) -> None:
        """Go on as before."""
        log.error("not restarted: %s", why)
        if self._limit is not None:
            self._limit.cancel()
        asked, self._asked, self._limit = self._asked, None, None
        if asked is not None:
            asked.refuse(why)
        held, self._held = self._held, None
        for watch_again in held or ():
            watch_again()
        if held is not None:
            self._clients.release()
        self._host.loop.after(0, lambda: None)  # or the refusal would wait for the next round


def _status(pidfd: int) -> int:
    """The exit status of a child that has ended; 1 where it was waited for elsewhere."""
    try:
        found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    except ChildProcessError:
        return 1
    return found.si_status if found else 1


def _last_line(said: int) -> str:
    """What a program has said last, before a hint."""
    data = os.pread(said, 65536, max(0, os.fstat(said).st_size - 65536))
    lines = [line.strip() for line in data.decode(errors="replace").splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith("ccfsd: hint:")]
    return told[-1].removeprefix("ccfsd: error: ")[:_LINE] if told else ""
