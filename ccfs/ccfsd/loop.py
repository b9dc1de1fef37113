"""The loop of ccfsd: descriptors, timers, signals, one thing after another.

Knows no more than that; never what any of it is for.  Nothing that it calls may wait.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import selectors
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from ccfs.errors import redaction

log = logging.getLogger(__name__)

Call = Callable[[], None]
FAILED = 1.0
"""Seconds until a descriptor is looked at again whose callback has raised an exception."""
FEW = 256
"""Cancelled timers that may stay in the heap."""
REST = 0.1
"""Seconds until the next look where there was no room."""


class Timer:
    """Something to be done at a time; `cancel` it, or let it be."""

    __slots__ = ("_cancelled", "call", "due")

    def __init__(self, due: float, call: Call, cancelled: Call) -> None:
        self.due = due
        self.call: Call | None = call
        self._cancelled = cancelled

    def cancel(self) -> None:
        """Don't call it; twice is once, and so is after it was called."""
        if self.call is not None:
            self.call = None
            self._cancelled()


class Loop:
    """Calls whoever waits for a descriptor or a time, until `stop`.

    `settle` is called after each round: what several of them want done is done there once.
    """

    def __init__(self, settle: Call = lambda: None) -> None:
        self.settle = settle
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._count = itertools.count()
        self._cancelled = 0
        self._failed: dict[int, Call] = {}
        self._stopping = False

    def watch(self, descriptor: int, call: Call) -> None:
        """Have `call` called while a descriptor can be read from, or is at its end."""
        self._failed.pop(descriptor, None)
        self._selector.register(descriptor, selectors.EVENT_READ, call)

    def forget(self, descriptor: int) -> None:
        """Watch it no more; do that before it is closed.  One that isn't watched is fine."""
        self._failed.pop(descriptor, None)
        with suppress(KeyError, ValueError):
            self._selector.unregister(descriptor)

    def leave(self, descriptor: int) -> Call:
        """Look away from a descriptor until what this returns is called."""
        key = self._selector.get_map().get(descriptor)
        if key is None:
            return lambda: None
        self.forget(descriptor)
        return lambda: self.watch(descriptor, key.data)

    def rest(self, descriptor: int, call: Call) -> None:
        """Look away from a descriptor for a moment: there is something, but no room for it."""
        self.forget(descriptor)
        self.after(REST, lambda: self.watch(descriptor, call))

    def after(self, seconds: float, call: Call) -> Timer:
        """Have `call` called once, in so many seconds."""
        timer = Timer(time.monotonic() + seconds, call, self._note_cancelled)
        heapq.heappush(self._timers, (timer.due, next(self._count), timer))
        return timer

    def stop(self) -> None:
        """End after this round."""
        self._stopping = True

    def stop_at(self, *numbers: signal.Signals) -> None:
        """End at these signals."""
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, lambda *_: self.stop())
        self.watch(reader, lambda: _drain(reader))

    def run(self) -> None:
        """Go round until somebody stops it."""
        while not self._stopping:
            for key, _ in self._selector.select(self._pause()):
                # What was called before may have closed it, and another may have its number.
                if self._selector.get_map().get(key.fd) is key and not self._guard(key.data):
                    self._pause_watching(key.fd, key.data)
            self._run_timers()
            self._guard(self.settle)

    def _guard(self, call: Call) -> bool:
        """Call something; an exception is logged and ends nothing else.  Whether there was none."""
        try:
            call()
        except Exception as error:
            log.error("unforeseen: %s", redaction.describe(error))
            return False
        return True

    def _pause_watching(self, descriptor: int, call: Call) -> None:
        """Look away from a descriptor whose callback has failed: it would fail again at once.

        Watched again after FAILED seconds, unless it was closed or is watched for something else.
        """
        self.forget(descriptor)
        self._failed[descriptor] = call
        self.after(FAILED, lambda: self._watch_again(descriptor, call))

    def _watch_again(self, descriptor: int, call: Call) -> None:
        if self._failed.get(descriptor) is call:
            self.watch(descriptor, call)

    def _note_cancelled(self) -> None:
        """Drop cancelled timers once they are most of the heap: they may be due far from now."""
        self._cancelled += 1
        if self._cancelled > FEW and self._cancelled * 2 > len(self._timers):
            self._timers = [entry for entry in self._timers if entry[2].call is not None]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def _pause(self) -> float | None:
        while self._timers and self._timers[0][2].call is None:
            heapq.heappop(self._timers)
            self._cancelled -= 1
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            call, timer.call = timer.call, None
            if call is None:
                self._cancelled -= 1
            else:
                self._guard(call)


def _drain(reader: int) -> None:
    os.read(reader, 64)
