# SPDX-License-Identifier: MIT
"""How the daemon waits for FUSE requests: what pyfuse3 gets in place of the module `trio`.

A pass through trio's scheduler costs more than most requests, and pyfuse3 makes three of them for
each: at its lock, and at the wait itself.  Handlers here never wait, so that one worker is enough
and its lock need not lock; a request that is queued already is read without a pass.  The daemon
sleeps in poll(2) on the FUSE device and on the epoll that trio itself sleeps on, so that neither
waits for the other.  All other tasks get a pass at least every BATCH requests or PASS_SECONDS,
and at once when there is no request.

This depends on how pyfuse3 3.5 looks up `trio` (its own asyncio mode does the same) and on one
private name of trio's; where that name is missing the daemon sleeps in trio.

Knows descriptors and the clock; never what a request asks.
"""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Callable
from types import TracebackType

import pyfuse3
import trio

from ccfs.daemon.cpu_load import CpuLoad
from ccfs.daemon.handshake import Handshake
from ccfs.daemon.read_timeout import ReadTimeout
from ccfs.takeover.handover import MARK_STEP, PROGRESS, Handover, words_of

log = logging.getLogger(__name__)

BATCH = 16
"""The most requests between two passes through trio."""
PASS_SECONDS = 0.001
"""The most seconds of work between two passes through trio."""
SPIN = 0.000_050
"""The most seconds to poll for the next request without sleeping."""
SOON = 2 * SPIN
"""Spinning is tried only if the last request came within these seconds."""
LONGEST = 3600.0
"""The most seconds to sleep; the timeout of poll(2) holds no more than some days."""


class RunnableTasks(trio.abc.Instrument):
    """Counts the tasks that are scheduled, and notes that one has run.

    `waiting`: how many are scheduled and have not run yet.  `ran`: one has run since this was last
    reset, so that trio's next deadline may be another.
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
    """A lock for one worker, which excludes nothing."""

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
        """`handover`: the page in which the present request and progress are noted."""
        self.lowlevel = self
        self.runnable = RunnableTasks()
        self._words = words_of(handover)
        self._handshake: Handshake | None = None
        self._after_handshake: Callable[[], None] = lambda: None
        self._load = CpuLoad()
        self._read_timeout = ReadTimeout()
        self._closing = False
        self._device = -1
        self._trio_epoll = -1
        self._other = -1
        self._serve_other: Callable[[], int] = _serve_nothing
        self._device_poll = select.poll()
        self._poll = select.poll()  # the device, trio's epoll, and the other descriptor
        self._requests_left = 0
        self._pass_due = 0.0
        self._spins = False
        self._deadline = 0.0

    def __enter__(self) -> Loop:
        self._read_timeout.start()
        pyfuse3.trio = self  # type: ignore[attr-defined]
        return self

    def __exit__(self, *_: object) -> None:
        pyfuse3.trio = trio  # type: ignore[attr-defined]
        self._read_timeout.stop()
        self._load.close()

    def begin(self, handshake: Handshake, after: Callable[[], None]) -> None:
        """Have libfuse read what the handshake sends until it is over; then call `after`."""
        self._handshake, self._after_handshake = handshake, after

    def notify_closing(self, device: int) -> None:
        """End the wait for requests: the session is about to be closed."""
        self._closing = True
        trio.lowlevel.notify_closing(device)

    async def wait_readable(self, device: int) -> None:
        """Return when there is a request.  Raises ClosedResourceError at the end."""
        if device != self._device:
            self._register(device)
        if self._handshake is not None:
            if self._handshake.goes_on():
                return
            self._handshake = None
            self._after_handshake()
        if self._words[MARK_STEP]:
            self._words[MARK_STEP] = 0  # the request that made the step has its reply
        in_batch = self._requests_left > 0
        if not (in_batch and self._device_poll.poll(0) and time.monotonic() < self._pass_due):
            await self._wait()
        self._requests_left -= 1
        self._read_timeout.before_read()

    def serve_also(self, descriptor: int, serve: Callable[[], int]) -> bool:
        """Call `serve` whenever `descriptor` is readable, without a pass through trio.

        `serve` never waits, and returns how many requests it has served.  False where the loop
        sleeps in trio, so that a task must wait for the descriptor.  To be called in trio.
        """
        if _descriptor_of_trio() < 0:
            return False
        self._other, self._serve_other = descriptor, serve
        self._poll.register(descriptor, select.POLLIN)
        return True

    def _register(self, device: int) -> None:
        self._device, self._trio_epoll = device, _descriptor_of_trio()
        self._device_poll.register(device, select.POLLIN)
        self._poll.register(device, select.POLLIN)
        if self._trio_epoll >= 0:
            self._poll.register(self._trio_epoll, select.POLLIN)

    async def _wait(self) -> None:
        """Run other tasks where that is due or some are scheduled; then wait for a request."""
        began = time.monotonic()
        if self._requests_left <= 0 or began >= self._pass_due or self.runnable.waiting:
            await self._pass()
        if self._device_poll.poll(0) or self._spin(began):
            return
        while not await self._sleep():
            await self._pass()
        self._spins = time.monotonic() - began < SOON
        self._start_batch()

    async def _pass(self) -> None:
        """Run all other tasks that are scheduled."""
        await trio.lowlevel.checkpoint()
        if self._closing:
            raise trio.ClosedResourceError
        self._serve_other()
        self._start_batch()

    def _start_batch(self) -> None:
        self._requests_left, self._pass_due = BATCH, time.monotonic() + PASS_SECONDS
        self._words[PROGRESS] += 1

    def _spin(self, now: float) -> bool:
        """Poll without sleeping, if the last request came soon and a core is idle.

        True if there is a request.
        """
        if not self._spins or not self._load.has_idle_core(now):
            return False
        end = time.monotonic() + SPIN
        while time.monotonic() < end:
            if self._device_poll.poll(0):
                return True
        self._spins = False
        return False

    async def _sleep(self) -> bool:
        """Sleep until there is anything to do; True if that is a request alone."""
        if self.runnable.waiting:
            return False
        self._read_timeout.before_sleep(stop=self._trio_epoll < 0)
        if self._trio_epoll < 0:
            await trio.lowlevel.wait_readable(self._device)
            return True
        ready = self._sleep_in_poll()
        return self._device in ready and self._trio_epoll not in ready

    def _sleep_in_poll(self) -> list[int]:
        """Sleep, serving the other descriptor; return which descriptors are ready.

        None are when a task of trio's is due.  This runs once for each request that comes alone.
        """
        poll, clock, serve = self._poll.poll, time.monotonic, self._serve_other
        runnable = self.runnable
        other_alone = [(self._other, select.POLLIN)]
        while not runnable.waiting:
            if runnable.ran:
                self._read_deadline()
            asleep = clock()
            left = self._deadline - asleep
            if left <= 0:
                break
            ready = poll(min(left, LONGEST) * 1000)
            if ready != other_alone:
                return [descriptor for descriptor, _ in ready]
            if clock() - asleep < SOON and self._load.has_idle_core(asleep):
                self._serve_burst()
            else:
                serve()
        return []

    def _serve_burst(self) -> None:
        """Serve the other descriptor, and spin SPIN seconds for each further request."""
        serve, poll_device, clock = self._serve_other, self._device_poll.poll, time.monotonic
        left, served_at = BATCH - serve(), clock()
        end = served_at + PASS_SECONDS
        while left > 0 and served_at < end and not poll_device(0):
            if served := serve():
                left -= served
                served_at = clock()
            elif clock() - served_at > SPIN:
                return

    def _read_deadline(self) -> None:
        """Read trio's next deadline, which stays the same until a task has run."""
        self.runnable.ran = False
        left = trio.lowlevel.current_statistics().seconds_to_next_deadline
        self._deadline = time.monotonic() + left


def _serve_nothing() -> int:
    """Serve nothing: the FUSE device is the only source of requests."""
    return 0


def _descriptor_of_trio() -> int:
    """The epoll that trio itself sleeps on, -1 where this version of trio keeps it elsewhere."""
    from trio._core import _run

    try:
        descriptor: int = _run.GLOBAL_RUN_CONTEXT.runner.io_manager._epoll.fileno()
    except AttributeError:
        log.debug("no epoll descriptor in this version of trio: requests are waited for in trio")
        return -1
    return descriptor
