"""The parent that keeps one mount served: when a daemon dies there is another one.

It holds the descriptor of the FUSE connection, so that clients of a dead daemon wait until the next
one takes the connection over; before Linux 6.9 that one gets a new mount (ccfs.supervisor.remount).
Daemons are forked by a fork server, which has imported all that they need.

Knows processes and mounts; never what the daemon serves.
"""

from __future__ import annotations

import importlib
import logging
import math
import mmap
import os
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

from ccfs.errors import Exit, MountError, redaction
from ccfs.linux import descriptors
from ccfs.linux.fusermount import wait_readable
from ccfs.mounting import mount_lock
from ccfs.mounting.mounter import Attached, Mounter
from ccfs.supervisor import reimport
from ccfs.supervisor.reimport import Plain, Renewed
from ccfs.supervisor.remount import remount
from ccfs.takeover import handover, notifier
from ccfs.takeover.fork_server import Born, ForkServer
from ccfs.takeover.fuse_connection import FuseConnection, greet
from ccfs.takeover.handover import Handover

log = logging.getLogger(__name__)

BACKOFF = 0.05
"""Seconds before the second try in a row; twice that before the third, and so on."""
PATIENCE = 30.0
"""Seconds after which clients get an error, where no daemon comes up."""
LOOK = 10.0
"""Seconds between two looks at a daemon: one that leaves requests alone for so long hangs."""
END = 5.0
"""Seconds that a daemon has to end after SIGTERM."""
SETTLE = 0.2
"""Seconds between a change of the mount table and a look at it."""
RENEW = signal.SIGHUP
"""What `ccfs restart` sends."""
STATE = 1
"""The version of what one version of this code leaves to another."""
ENDING = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Life:
    """What a daemon is given.

    `held`: a descriptor to hold while it, or its helper, lives; -1: none.  `mount`: what it serves,
    at `mountpoint`.  `lock`: a descriptor of the directory below (ccfs.mounting.mount_lock).
    `handover`: what the one before has left, None where it is not kept.  `live`: whether
    there was one before on this mount.  `keeper`: the pid of its supervisor, 0 for none.  `given`:
    descriptors that each daemon gets; `first`: for the first one alone.
    """

    held: int
    mount: Attached
    mountpoint: str
    lock: int
    handover: Handover | None = None
    live: bool = False
    keeper: int = 0
    given: Sequence[int] = ()
    first: Sequence[int] = ()


class Attended(Protocol):
    """What is attended to here for as long as there are daemons, and has descriptors for them."""

    def fileno(self) -> int:
        """What is readable when there is anything to do."""

    def attend(self) -> None:
        """Do it, without waiting."""

    def descriptors_for_daemon(self) -> list[int]:
        """Two: one that stays open here, and one that is closed once the daemon has it."""


Serve = Callable[[Callable[[], None], Life], int]
"""Serve a mount: called with `ready()`; returns the exit status."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is kept going: `serve`, in a process of its own; it returns 0 when the end was wanted.

    `fits` says whether this code can serve what another version has left.  `warm` is done in the
    nursery, `first` before there is a daemon, `after` when there will be none any more.  `beside`:
    what else is attended to here, and gives each child descriptors; asked after `first`.  `anew`:
    mount anew after a death, whatever the kernel can.  `state`: plain values, of which the next
    version of the code makes the same job, by the function `job_of` of the module that they name as
    `job`.
    """

    serve: Serve
    fits: Callable[[], bool] = lambda: True
    warm: Callable[[], None] = lambda: None
    first: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None
    beside: Callable[[], Attended | None] = lambda: None
    anew: bool = False
    state: Callable[[], Plain] = dict


class Supervisor:
    """Keeps one mount served."""

    def __init__(self, mounter: Mounter, job: Job, handover: Handover | None = None) -> None:
        self._mounter = mounter
        self._job = job
        self._beside = job.beside()
        self._ready = mmap.mmap(-1, 1)
        self._handover = handover or Handover()
        self._nursery = ForkServer(job.warm, self._fork)
        self._mounts: list[Attached] = []
        self._child: Born | None = None
        self._ending = False
        self._renewing = False
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._was_ready = self._was_ready_last = False
        self._since = self._looked = time.monotonic()
        self._turns = self._life = -1
        self._tries = 0

    @classmethod
    def resumed(cls, state: Plain, job: Job) -> Supervisor:
        """One that goes on with what another version of this code has left (`Renewed`)."""
        mounter = Mounter.resumed(state["mounter"])
        made = cls(mounter, job, Handover(state["handover"]))
        made._mounts = [Attached(*one) for one in state["mounts"]]
        made._child, made._life = Born(*state["child"]), state["life"]
        made._was_ready = True
        made._note_ready()
        return made

    def run(self, first: Sequence[int], first_only: Callable[[], None]) -> int:
        """Serve until the end is wanted, or can't be avoided.

        Returns the exit status of the last child, negative where a signal has ended it.  A mount
        whose daemon can't be replaced stays, dead: what clients write must not go below it.

        `first`: descriptors for the first child; `first_only` is called here when that runs, to let
        go of what only it needs.  Raises MountError.
        """
        self._attend()
        return self._to_the_end(lambda: self._begin(first, first_only))

    def go_on(self) -> int:
        """Replace the daemon that another version of this code has started; then as `run`."""
        self._attend()
        return self._to_the_end(self._replace)

    def _to_the_end(self, begin: Callable[[], None]) -> int:
        stays = renewed = False
        try:
            begin()
            status, stays = self._keep()
            return status
        except Renewed:
            renewed = True
            raise
        finally:
            if not renewed:
                if not stays:
                    self._take_all_away()
                self._job.after()

    def _begin(self, first: Sequence[int], first_only: Callable[[], None]) -> None:
        self._mounts.append(self._mounter.attach())
        self._greet()
        self._start(first, live=False)
        first_only()

    def _replace(self) -> None:
        self._nursery.ended(0)  # it answers when it has imported all
        self._signal(signal.SIGKILL)

    def _attend(self) -> None:
        for number in ENDING:
            signal.signal(number, self._end)
        signal.signal(signal.SIGALRM, self._kill)
        signal.signal(RENEW, self._renew)
        mount_lock.sign(self._mounter.directory)

    def _keep(self) -> tuple[int, bool]:
        """Have one daemon after another; the last one's status, and whether the mount stays."""
        while True:
            daemon, status = self._wait()
            if self._is_the_end(status):
                return status, status == Exit.JOURNAL and self._was_ready
            log.warning("the daemon has died (%s), replacing it", _how(status))
            live = self._can_go_on
            try:
                if not live:
                    self._mount_anew(daemon)
                elif not wait_readable(self._life, 0):
                    notifier.signal_left(daemon, signal.SIGCONT)  # its user may have stopped it
            except MountError as error:
                log.error("giving up: %s", error.reason)
                return status, True
            if not self._may_try():
                return status, not self._ending
            os.close(self._life)
            self._start((), live=live)

    @property
    def _can_go_on(self) -> bool:
        """Whether the next daemon can take the connection over: it is there, and can resend."""
        link = FuseConnection(self._mounts[-1].device, self._handover.descriptor)
        return link.can_resend and link.lives and not self._job.anew

    def _mount_anew(self, daemon: int) -> None:
        remount(self._mounter, self._mounts, self._life, daemon)
        self._greet()

    def _greet(self) -> None:
        """Take the kernel's first request, which each daemon of this connection is to answer."""
        greet(self._mounts[-1].device, self._handover)

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
            self._wait_for({}, min(BACKOFF * 2 ** (self._tries - 2), PATIENCE / 10))
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

    def _start(self, first: Sequence[int], *, live: bool) -> None:
        """Have a child; `_life` reads as closed once it and its helper have ended."""
        mount = self._mounts[-1]
        self._life, held = os.pipe2(os.O_CLOEXEC)
        given = self._beside.descriptors_for_daemon() if self._beside else []
        values = {
            "mount": mount.mount,
            "connection": mount.connection,
            "path": self._mounter.path,
            "live": live,
            "keeper": os.getpid(),
            "given": len(given),
        }
        passed = [held, mount.device, self._mounter.directory, self._handover.descriptor]
        # Nobody is told to end of whom we don't know yet.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            self._child = self._nursery.bear(values, [*passed, *given, *first])
        except (OSError, EOFError) as error:
            if first:
                raise
            log.error("cannot fork a daemon: %s", redaction.describe(error))
        finally:
            os.close(held)
            for descriptor in given[1:]:
                os.close(descriptor)
            if self._ending:
                self._end(signal.SIGTERM, None)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)

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
            descriptors.close_all_but(passed)
            os.setpgid(0, 0)  # by which its helper is found when it is dead
            for number in (*ENDING, RENEW, signal.SIGALRM):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
            held, device, directory, shared, *more = passed
            keeper = int(str(values["keeper"]))
            count = int(str(values["given"]))
            mount = Attached(device, int(str(values["mount"])), int(str(values["connection"])))
            path, live = str(values["path"]), bool(values["live"])
            life = Life(
                held,
                mount,
                path,
                directory,
                Handover(shared),
                live,
                keeper,
                more[:count],
                more[count:],
            )
            status = self._job.serve(self._note_ready, life)
        finally:
            os._exit(status)

    def _note_ready(self) -> None:
        self._ready[0] = 1

    def _wait(self) -> tuple[int, int]:
        """The child, and its exit status.  Its number is nobody's afterwards: `_end` spares it."""
        if self._child is None:  # it could not be forked
            return 0, int(Exit.UNEXPECTED)
        pid, pidfd = self._child.pid, self._child.pidfd
        with open("/proc/self/mountinfo", "rb") as table:
            while not self._ending and not self._changes(table.fileno(), pidfd):
                if self._renewing:
                    self._hand_on()
                self._end_unmounted()
                self._look()
        self._wait_for({pidfd: select.POLLIN}, None)
        self._child = None
        os.close(pidfd)
        status = self._nursery.ended(pid)
        return pid, 1 if status is None else status

    def _renew(self, _: int, __: FrameType | None) -> None:
        """A signal has told us to go on with the code that is installed now."""
        self._renewing = True
        os.eventfd_write(self._bell, 1)

    def _hand_on(self) -> None:
        """Let new code go on from here, if it says that it can.  Raises Renewed."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        if not self._ready[0]:
            return  # not before this daemon serves
        self._renewing = False
        assert self._child is not None
        state: Plain = {
            "format": STATE,
            "job": self._job.state(),
            "mounter": self._mounter.state(),
            "mounts": [[one.device, one.mount, one.connection] for one in self._mounts],
            "handover": self._handover.descriptor,
            "child": [self._child.pid, self._child.pidfd],
            "life": self._life,
        }
        if not self._can_go_on:
            log.error("not replaced: this mount can't be taken over")
        elif reimport.is_ready(__name__, state):
            log.info("going on with new code")
            signal.signal(RENEW, signal.SIG_IGN)
            os.close(self._bell)
            self._nursery.close()
            raise Renewed(__name__, state)

    def _changes(self, table: int, pidfd: int) -> bool:
        """Wait for the next change of a mount table, a bell, or LOOK seconds.

        True where a process ends before.

        Many follow one another, and each of many supervisors looks at all of the table.
        """
        any_of = {pidfd: select.POLLIN, self._bell: select.POLLIN}
        found = self._wait_for({**any_of, table: select.POLLPRI}, LOOK)  # proc(5), /proc/PID/mounts
        if found == table:
            found = self._wait_for(any_of, SETTLE)
        return found == pidfd

    def _wait_for(self, wanted: Mapping[int, int], seconds: float | None) -> int:
        """Wait for one of some descriptors, by what poll(2) is to tell of each; -1 after `seconds`.

        Returns the first that is ready.  Meanwhile what is beside us is attended to.
        """
        poll = select.poll()
        for descriptor, events in wanted.items():
            poll.register(descriptor, events)
        if self._beside:
            poll.register(self._beside.fileno(), select.POLLIN)
        end = math.inf if seconds is None else time.monotonic() + seconds
        while True:
            left = max(0.0, end - time.monotonic())
            found = dict(poll.poll(None if left == math.inf else left * 1000))
            if self._beside and self._beside.fileno() in found:
                _attend(self._beside)
            for descriptor in wanted:
                if descriptor in found:
                    return descriptor
            if not left:
                return -1

    def _look(self) -> None:
        """Kill a daemon that hangs: clients wait, and it does nothing, or never becomes ready."""
        now = time.monotonic()
        if now - self._looked < LOOK:
            return
        self._looked = now
        waits = wait_readable(self._mounts[-1].device, 0)
        before, self._turns = self._turns, self._handover.words[handover.TURNS] if waits else -1
        does_nothing = waits and self._turns == before
        never_comes = now - self._since > PATIENCE
        if does_nothing if self._ready[0] else never_comes:
            log.error("the daemon hangs, killing it")
            self._signal(signal.SIGKILL)

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


def job_of(state: Plain) -> Job:
    """The job that another version of this code has kept going."""
    said = state["job"]
    made: Job = importlib.import_module(said["job"]).job_of(said)
    return made


def can_resume(state: Plain) -> bool:
    """Whether this code can go on with what another version has left."""
    return bool(state["format"] == STATE and job_of(state).fits())


def resume(state: Plain) -> int:
    """Go on with it to the end; returns the exit status as `Supervisor.run` does."""
    return Supervisor.resumed(state, job_of(state)).go_on()


def _attend(beside: Attended) -> None:
    """Nothing that fails there ends the mount."""
    try:
        beside.attend()
    except Exception as error:
        log.error("unforeseen: %s", redaction.describe(error))


def _how(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"
