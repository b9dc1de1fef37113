"""How the daemon waits for requests: what pyfuse3 gets in place of the module `trio`.

A pass through trio's scheduler costs more than most requests: pyfuse3 makes three of them for each,
at its lock and at the wait itself.  Handlers here never wait, so one worker is enough and its lock
can be none; a request that is there already is taken without a pass; and the daemon sleeps in
poll(2) on the FUSE device and on what trio itself would sleep on, so that neither waits for the
other.  What the rest of the daemon needs it gets: a pass at least every BATCH requests or PATIENCE
seconds, and at once when there is nothing else to do.

This leans on how pyfuse3 3.5 finds `trio` (its own asyncio mode does the same) and on one private
name of trio's; where that one is not to be had the daemon sleeps in trio.  Knows descriptors and
the clock; never what a request asks.
"""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Callable
from types import TracebackType

import pyfuse3
import trio

from ccfs.daemon.cpu_load import Load, Tick
from ccfs.daemon.handshake import Handshake
from ccfs.takeover.handover import MARK_STEP, PROGRESS, Handover, words_of

log = logging.getLogger(__name__)

BATCH = 16
"""The most requests between two passes through trio."""
PATIENCE = 0.001
"""The most seconds of work between two passes through trio."""
SPIN = 0.000_050
"""The most seconds to look for the next request before sleeping."""
SOON = 2 * SPIN
"""Seconds after which the last one may have come for that to be worth trying."""
LONGEST = 3600.0
"""The most seconds to sleep; poll(2) knows no more than some days."""


class Runnable(trio.abc.Instrument):
    """Counts the tasks that are to run, and notes that one has run.

    `waiting`: how many are scheduled and have not had their turn.  `ran`: whether any has since
    that was last reset: deadlines may be others then.
    """

    def __init__(self) -> None:
        self.waiting = 0
        self.ran = True

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        self.waiting += 1

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.waiting -= 1
        self.ran = True


class NoLock:
    """A lock for one worker."""

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


class Loop:
    """What pyfuse3 knows as `trio`, and as `trio.lowlevel`: no more than it uses.

    Use it around `trio.run`, with `instruments=[loop.runnable]`, and one task in pyfuse3.main.
    """

    Lock = NoLock
    ClosedResourceError = trio.ClosedResourceError
    open_nursery = staticmethod(trio.open_nursery)
    current_task = staticmethod(trio.lowlevel.current_task)
    current_trio_token = staticmethod(trio.lowlevel.current_trio_token)

    def __init__(self, handover: Handover | None = None) -> None:
        """`handover`: where it is noted that a request is being carried out."""
        self.lowlevel = self
        self.runnable = Runnable()
        self._air = words_of(handover)
        self._handshake: Handshake | None = None
        self._then: Callable[[], None] = lambda: None
        self._load = Load()
        self._tick = Tick()
        self._closing = False
        self._device = -1
        self._others = -1
        self._asked = -1
        self._answer: Callable[[], int] = _nobody
        self._request = select.poll()
        self._anything = select.poll()
        self._left = 0
        self._until = 0.0
        self._quick = False
        self._deadline = 0.0

    def __enter__(self) -> Loop:
        self._tick.start()
        pyfuse3.trio = self  # type: ignore[attr-defined]
        return self

    def __exit__(self, *_: object) -> None:
        pyfuse3.trio = trio  # type: ignore[attr-defined]
        self._tick.stop()
        self._load.close()

    def begin(self, handshake: Handshake, then: Callable[[], None]) -> None:
        """Have libfuse read what that one says, as long as it goes on; then call `then`."""
        self._handshake, self._then = handshake, then

    def notify_closing(self, device: int) -> None:
        """The session is about to end: nobody shall wait for its requests."""
        self._closing = True
        trio.lowlevel.notify_closing(device)

    async def wait_readable(self, device: int) -> None:
        """Return when there is a request.  Raises ClosedResourceError at the end."""
        if device != self._device:
            self._attend(device)
        if self._handshake is not None:
            if self._handshake.goes_on():
                return
            self._handshake = None
            self._then()
        if self._air[MARK_STEP]:
            self._air[MARK_STEP] = 0  # it was answered
        if not (self._left > 0 and self._request.poll(0) and time.monotonic() < self._until):
            await self._wait()
        self._left -= 1
        self._tick.guard()

    def answer(self, descriptor: int, answer: Callable[[], int]) -> bool:
        """Have `answer` called whenever `descriptor` is readable, without a pass through trio.

        It never waits, and returns how many it has answered.  False where a task has to wait for
        the descriptor, because we wait in trio ourselves.  To be called in trio.
        """
        if _descriptor_of_trio() < 0:
            return False
        self._asked, self._answer = descriptor, answer
        self._anything.register(descriptor, select.POLLIN)
        return True

    def _attend(self, device: int) -> None:
        """Know what to look at."""
        self._device, self._others = device, _descriptor_of_trio()
        self._request.register(device, select.POLLIN)
        self._anything.register(device, select.POLLIN)
        if self._others >= 0:
            self._anything.register(self._others, select.POLLIN)

    async def _wait(self) -> None:
        """Give others their turn where it is time for that or they want it; then wait."""
        idle = time.monotonic()
        if self._left <= 0 or idle >= self._until or self.runnable.waiting:
            await self._pass()
        if self._request.poll(0) or self._spin(idle):
            return
        while not await self._sleep():
            await self._pass()
        self._quick = time.monotonic() - idle < SOON
        self._renew()

    async def _pass(self) -> None:
        """Let all others have their turn."""
        await trio.lowlevel.checkpoint()
        if self._closing:
            raise trio.ClosedResourceError
        self._answer()
        self._renew()

    def _renew(self) -> None:
        self._left, self._until = BATCH, time.monotonic() + PATIENCE
        self._air[PROGRESS] += 1

    def _spin(self, now: float) -> bool:
        """Whether a request comes at once, where the last one did and a core has nothing to do."""
        if not self._quick or not self._load.leaves_a_core(now):
            return False
        end = time.monotonic() + SPIN
        while time.monotonic() < end:
            if self._request.poll(0):
                return True
        self._quick = False
        return False

    async def _sleep(self) -> bool:
        """Sleep until there is a request or anything for others; whether it is a request alone."""
        if self.runnable.waiting:
            return False
        self._tick.rest(long=self._others < 0)
        if self._others < 0:
            await trio.lowlevel.wait_readable(self._device)
            return True
        came = self._doze()
        return self._device in came and self._others not in came

    def _doze(self) -> list[int]:
        """Sleep, and answer those who can be answered without a pass; which descriptors are ready.

        None of them when it is time for some other task.  What is done here is done for each
        request that comes alone.
        """
        poll, clock, answer = self._anything.poll, time.monotonic, self._answer
        runnable = self.runnable
        alone = [(self._asked, select.POLLIN)]
        while not runnable.waiting:
            if runnable.ran:
                self._note_deadline()
            asleep = clock()
            left = self._deadline - asleep
            if left <= 0:
                break
            came = poll(min(left, LONGEST) * 1000)
            if came != alone:
                return [descriptor for descriptor, _ in came]
            if clock() - asleep < SOON and self._load.leaves_a_core(asleep):
                self._converse()
            else:
                answer()
        return []

    def _converse(self) -> None:
        """Answer who asks, and whoever asks at once after that."""
        answer, request, clock = self._answer, self._request.poll, time.monotonic
        left, quiet = BATCH - answer(), clock()
        until = quiet + PATIENCE
        while left > 0 and quiet < until and not request(0):
            if answered := answer():
                left -= answered
                quiet = clock()
            elif clock() - quiet > SPIN:
                return

    def _note_deadline(self) -> None:
        """When some other task wants to get up: known until one of them has run."""
        self.runnable.ran = False
        left = trio.lowlevel.current_statistics().seconds_to_next_deadline
        self._deadline = time.monotonic() + left


def _nobody() -> int:
    """Where nobody asks but the kernel."""
    return 0


def _descriptor_of_trio() -> int:
    """What trio itself sleeps on, -1 where this trio keeps it elsewhere."""
    from trio._core import _run

    try:
        descriptor: int = _run.GLOBAL_RUN_CONTEXT.runner.io_manager._epoll.fileno()
    except AttributeError:
        log.debug("this trio does not show its epoll, so requests are waited for in it")
        return -1
    return descriptor
