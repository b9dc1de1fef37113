"""One mount and its daemon: started, asked, replaced when it dies, ended when nobody wants it.

Knows processes, and the order of things; never sessions, nor who asked for what.  It is a machine
of few phases: whatever happens arrives as a call from the loop, and nothing here waits.

    GONE -> QUEUED -> STARTING -> SERVING -> QUEUED  it has died: another takes the mount over
                                  SERVING -> CLEARING -> QUEUED  where none can: a new mount
                                  SERVING -> ENDING -> CLEARING -> GONE  nobody wants it any more

What makes the difference is the link (ccfs.takeover.fuse_connection): there is one while another
daemon can go on.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from enum import Enum

from ccfs.ccfsd import received_connection, spawner
from ccfs.ccfsd.asking import LATE, Question
from ccfs.ccfsd.cleanup import LOST, Tries, after_helper, after_wiping, let_helper_end
from ccfs.ccfsd.loop import Timer
from ccfs.ccfsd.registry import Owner
from ccfs.ccfsd.surroundings import Surroundings, Want
from ccfs.control.messages import Message
from ccfs.errors import UserError
from ccfs.linux import mountinfo, processes
from ccfs.linux.processes import Process
from ccfs.mounting import mountpoint
from ccfs.takeover.fuse_connection import FuseConnection

log = logging.getLogger(__name__)

BUSY = 12
"""So many times `hang` a daemon that works may be without an answer."""
LOADING = 120.0
"""Seconds that a daemon may take to load its journal, as long as it uses CPU time."""
END = 3.0
"""Seconds that a daemon has to end."""


class Phase(Enum):
    """Where a mount is in its life."""

    GONE = "gone"
    QUEUED = "queued"
    STARTING = "starting"
    SERVING = "serving"
    ENDING = "ending"
    CLEARING = "clearing"


class Served:
    """One mount.  `owner` is whose it is; `name` is its directory's, and its sockets'."""

    def __init__(self, host: Surroundings, name: str, owner: Owner) -> None:
        self.name = name
        self.owner = owner
        self.phase = Phase.GONE
        self.process: Process | None = None
        self.device = ""
        self._host = host
        self.link: FuseConnection | None = None
        self._pidfd = -1
        self._life = -1
        self._wants: list[Want] = []
        self._question: Question | None = None
        self._timer: Timer | None = None
        self._beat: Timer | None = None
        self._questions: set[Question] = set()
        self._tries = Tries()
        self._leaving = False
        self._adopted = self._succeeds = False
        self._renewing = False
        self._worked: processes.Work | None = None
        self._busy_for = 0
        self._has_journals = False
        self._requests = -1
        self._quiet_since = 0.0
        self._begun = 0.0
        self._cpu_time = 0

    @property
    def is_wanted(self) -> bool:
        """Whether anybody waits for it."""
        return bool(self._wants)

    @property
    def is_asked(self) -> bool:
        """Whether anybody waits for it, or for something that it was asked."""
        return bool(self._wants or self._questions)

    def want(self, want: Want, seconds: float) -> None:
        """Have somebody told when it answers; `failed` is called when it doesn't in time."""
        want.limit = self._host.loop.after(seconds, lambda: self._give_up(want))
        self._wants.append(want)
        if self.phase is Phase.GONE:
            self._begin()
        elif self.phase is Phase.SERVING:
            self.ping()

    def drop(self, want: Want) -> None:
        """Somebody doesn't wait any more."""
        if want in self._wants:
            self._wants.remove(want)
            _cancel(want.limit)

    def refuse(self, why: str) -> None:
        """Tell all who wait that there is nothing to wait for."""
        self._fail(why)

    def ping(self) -> None:
        """See that the daemon answers; one that doesn't is replaced."""
        if self._question is None and self.process is not None:
            self._worked = processes.work_done(self.process)
            self._question = self._ask(b"ping", self._heard)

    def ask(
        self,
        data: bytes,
        answer: Callable[[Message | None, str], None],
        seconds: float,
        passed: tuple[int, ...] = (),
    ) -> Question:
        """Send the daemon a request of a client of ours; `answer` gets the reply, or why not."""

        def over(reply: Message | None, why: str) -> None:
            self._questions.discard(question)
            answer(reply, why)

        path = self._host.runtime.socket(self.name)
        question = Question(self._host.loop, path, data, over, seconds, passed)
        self._questions.add(question)
        return question

    def _ask(self, data: bytes, answer: Callable[[Message | None, str], None]) -> Question:
        """Ask the daemon something that only matters here."""
        path = self._host.runtime.socket(self.name)
        return Question(self._host.loop, path, data, answer, self._host.settings.hang)

    def start(self) -> None:
        """Have a daemon, and a mount where there is none yet: it is this one's turn."""
        if self.phase is not Phase.QUEUED:
            self._host.started(self)
            return
        try:
            self._make_journals()
            host = self._host
            made = spawner.spawn(
                host.nursery, host.runtime, self.name, self.owner, host.settings, self.link
            )
        except UserError as error:
            self._cannot_start(error.reason)
        except OSError as error:
            self._cannot_start((error.strerror or str(error)).lower())
        else:
            if self.link is None:
                self.device = host.runtime.device(self.name)
            self._succeeds = self.link is not None
            self.link, self._adopted = made.link, False
            self._has(made.process, made.pidfd, made.life, Phase.STARTING)

    def adopt(self, process: Process, pidfd: int, device: str, link: FuseConnection | None) -> None:
        """Go on with a daemon that another ccfsd has started; without a link, ask it for one."""
        self._has_journals = self._host.runtime.has_journals(self.name)
        life = self._host.runtime.open_life(self.name)
        self.device, self.link, self._adopted = device, link, True
        self._has(process, pidfd, life, Phase.SERVING)

    def take_over(
        self, daemon: Process | None, device: str, link: FuseConnection | None, *, replace: bool
    ) -> None:
        """Go on after a daemon that died while there was no ccfsd, or when that one ended."""
        self._has_journals = self._host.runtime.has_journals(self.name)
        self._life = self._host.runtime.open_life(self.name)
        self.device, self.link, self._leaving = device, link, not replace
        self._follow(daemon)

    def renew(self) -> bool:
        """Have another daemon take over, from the present code; False where that can't be."""
        if self.phase is not Phase.SERVING or not self._can_go_on:
            return False
        self._renewing = True
        self._send_kill()
        return True

    def end(self) -> None:
        """Nobody wants it any more.  Who asks for it meanwhile gets a new one afterwards."""
        if self.phase in (Phase.STARTING, Phase.SERVING):
            if self.phase is Phase.STARTING:
                self._host.started(self)
            self.phase = Phase.ENDING
            self._leaving = True
            processes.send_signal(self._pidfd, signal.SIGTERM)
            self._timer = self._host.loop.after(END, lambda: self.kill("it does not end"))
        elif self.phase is Phase.CLEARING:
            self._leaving = True
        elif self.phase in (Phase.GONE, Phase.QUEUED):
            self.phase = Phase.CLEARING
            self._leaving = True
            self._cleared()

    def kill(self, why: str) -> None:
        """End a daemon that can't be trusted to end by itself."""
        log.error("killing the daemon of %s: %s", self.name, why)
        if not self._can_go_on:
            self._abort()
        self._send_kill()

    def _send_kill(self) -> None:
        processes.send_signal(self._pidfd, signal.SIGKILL)
        lost = self.process
        self._host.loop.after(LOST, lambda: self._lose(lost))

    def _lose(self, process: Process | None) -> None:
        """One that does not even end when it is killed keeps nobody from anything."""
        if process is not None and self.process is process:
            log.error("the daemon of %s cannot be killed, going on without it", self.name)
            self._abort()
            self._ended()

    @property
    def _can_go_on(self) -> bool:
        """Whether another daemon can take the mount over."""
        return not self._leaving and self.link is not None and self.link.is_alive

    def _abort(self) -> None:
        """End the connection: who waits in the mount gets an error."""
        mount = mountinfo.topmost(self._host.runtime.mountpoint(self.name))
        if mount and mount.is_ccfs and self.device.endswith(f":{mount.connection}"):
            mountpoint.abort(mount)
        self._drop_link()

    def _drop_link(self) -> None:
        """Let go of the connection, which only a daemon keeps alive then."""
        link, self.link = self.link, None
        if link is not None:
            link.close()

    def _begin(self) -> None:
        self.phase = Phase.QUEUED
        self._host.queue(self)

    def _make_journals(self) -> None:
        if not self._has_journals:
            self._host.runtime.make_journals(self.name, self.owner.uid, self.owner.gid)
            self._has_journals = True

    def _has(self, process: Process, pidfd: int, life: int, phase: Phase) -> None:
        self.process, self.phase = process, phase
        self._pidfd, self._life = pidfd, life
        self._requests, self._busy_for = -1, 0
        self._begun = time.monotonic()
        self._host.loop.watch(pidfd, self._ended)
        self._host.changed(self)
        self._host.loop.after(0, self.ping)  # not before all that is there has its descriptors
        self._beat = self._host.loop.after(self._host.period, self._check)

    def _check(self) -> None:
        """Once a period, whoever uses it or not."""
        self._beat = self._host.loop.after(self._host.period, self._check)
        self._host.check(self)
        if self.phase in (Phase.STARTING, Phase.SERVING):
            self.ping()

    def _heard(self, reply: Message | None, why: str) -> None:
        self._question = None
        if self.phase not in (Phase.STARTING, Phase.SERVING) or self._renewing:
            return
        if reply is None:
            if why == LATE and self._is_busy():
                self._host.started(self)  # the next one need not wait for it
                self.ping()
            elif processes.find(self.process.pid) == self.process if self.process else False:
                self.kill(why)
            return
        self._busy_for = 0
        self._tries.forget()
        if self.phase is Phase.STARTING:
            self.phase = Phase.SERVING
            self._host.started(self)
            if self._succeeds:
                self._host.succeeded(self)
        if self._adopted and self.link is None:
            self._ask_for_link()
        if self._wants and self._host.runtime.device(self.name) != (self.device or "none"):
            log.info("the mount of %s was taken away, or covered, while it is in use", self.name)
            self.end()
            return
        wants, self._wants = self._wants, []
        for want in wants:
            _cancel(want.limit)
            want.ready()
        self._look_for_idleness(reply)

    def _ask_for_link(self) -> None:
        """Be able to replace a daemon that another ccfsd has started; tried at each ping."""
        if self._host.settings.mount_anew:
            return
        process = self.process

        def answer(reply: Message | None, why: str) -> None:
            if reply is not None and self.link is None and self.process is process:
                self.link = received_connection.link(question.take())

        question = self._ask(b"link", answer)

    def _is_busy(self) -> bool:
        """Whether a daemon that hasn't answered in time does something, or would if it had a core.

        One that loads a large journal, or is on a machine that is overloaded, isn't hung; but that
        lasts LOADING seconds, or BUSY times `hang`, at most.
        """
        now = processes.work_done(self.process) if self.process else None
        if now is None or self._worked is None:
            return False
        is_starting = self.phase is Phase.STARTING
        if time.monotonic() - self._begun > LOADING if is_starting else self._busy_for >= BUSY:
            return False
        self._busy_for += 1
        return now.runnable or now.ticks > self._worked.ticks

    def _look_for_idleness(self, reply: Message) -> None:
        """Let a daemon go that has had nothing to do, and nothing to keep, for long."""
        now, requests = time.monotonic(), reply.number("requests")
        if requests != self._requests or reply.number("credentials") or self._host.is_used(self):
            self._requests, self._quiet_since = requests, now
        elif now - self._quiet_since >= self._host.settings.idle and not self._wants:
            self._quiet_since = now
            self.ask(b"retire", self._retired, self._host.settings.hang)

    def _retired(self, reply: Message | None, why: str) -> None:
        if reply is not None and self.phase is Phase.SERVING:
            log.info("the daemon of %s had nothing to do", self.name)
            self.phase = Phase.ENDING
            self._leaving = True
            self._timer = self._host.loop.after(END, lambda: self.kill("it does not end"))

    def _ended(self) -> None:
        """The daemon has ended, for whatever reason."""
        daemon = self.process
        status = self._host.nursery.exit_status(daemon.pid) if daemon else None
        self._let_go_of_the_process()
        if self.phase is Phase.STARTING:
            self._host.started(self)
        if status == 0 or (status is None and not self._host.runtime.device(self.name)):
            # It has wiped its journal: its mount was taken away, or somebody told it to end.
            self._leaving = True
        if self._renewing:
            log.info("the daemon of %s is replaced by another", self.name)
        elif not self._leaving:
            log.warning("the daemon of %s has died (%s), replacing it", self.name, _how(status))
        self._renewing = False
        self._follow(daemon)

    def _let_go_of_the_process(self) -> None:
        self._host.loop.forget(self._pidfd)
        os.close(self._pidfd)
        self._pidfd, self.process = -1, None
        for timer in (self._timer, self._beat):
            _cancel(timer)
        if self._question is not None:
            self._question.drop()
            self._question = None
        self._host.changed(self)

    def _follow(self, daemon: Process | None) -> None:
        """Have another daemon after a dead one: on the same mount, or when that is cleared away."""
        life, self._life = self._life, -1
        if self._can_go_on:
            let_helper_end(life, daemon)
            self._try_again()
            return
        self.phase = Phase.CLEARING
        self._host.lost(self)
        self._drop_link()  # or its helper would wait in the mount for an answer
        after_helper(self._host.loop, life, daemon, self._cleared)

    def _cleared(self) -> None:
        """The helper has ended: take the dead mount away, or what is piled on it."""
        _cancel(self._timer)
        self._drop_link()
        runtime = self._host.runtime
        runtime.remove_socket(self.name)
        if self._leaving:
            host = self._host
            after_wiping(host.loop, host.nursery, runtime, self.name, self.owner, self._leave)
            return
        runtime.uncover(self.name)
        self._try_again()

    def _try_again(self) -> None:
        pause = self._tries.pause(time.monotonic(), self._host.settings.patience)
        if pause is None:
            self._stay_away("no daemon comes up")
        else:
            self.phase = Phase.QUEUED
            self._timer = self._host.loop.after(pause, lambda: self._host.queue(self))

    def _stay_away(self, why: str) -> None:
        """Give up until somebody asks again; the mountpoint is closed to all, the journal stays."""
        log.error("giving %s up: %s", self.name, why)
        self._drop_link()
        self._tries.forget()
        self.phase = Phase.GONE
        self._fail(why)
        if self.phase is Phase.GONE and not self._host.is_used(self):
            self.end()

    def _cannot_start(self, why: str) -> None:
        """It could not even be begun; clients of a mount that is there wait for the next try."""
        self._host.started(self)
        if self._can_go_on:
            log.error("no daemon for %s: %s", self.name, why)
            self._try_again()
        else:
            self._stay_away(why)

    def _leave(self) -> None:
        """Nothing stays; only the mountpoint does as long as a session has the path of it."""
        runtime = self._host.runtime
        runtime.detach(self.name)
        runtime.remove_journals(self.name)
        self._has_journals = self._leaving = False
        self.device = ""
        self._tries.forget()
        self.phase = Phase.GONE
        if self._wants:
            self._begin()
        elif self._host.is_used(self):
            self._host.changed(self)
        else:
            runtime.remove_mountpoint(self.name)
            self._host.gone(self)

    def _give_up(self, want: Want) -> None:
        if want in self._wants:
            self._wants.remove(want)
            want.failed("the daemon does not answer in time")

    def _fail(self, why: str) -> None:
        wants, self._wants = self._wants, []
        for want in wants:
            _cancel(want.limit)
            want.failed(why)


def _cancel(timer: Timer | None) -> None:
    if timer is not None:
        timer.cancel()


def _how(status: int | None) -> str:
    if status is None:
        return "nobody knows how"
    return f"signal {-status}" if status < 0 else f"status {status}"
