# SPDX-License-Identifier: MIT
"""The loop under the daemon, with a pipe in place of the FUSE device.

Checks which task gets a turn, never how long it takes: no task starves while there are
requests without end, and the loop waits for no request that does not come.
"""

import ctypes
import errno
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyfuse3
import pytest
import trio

from ccfs.daemon import fuse_loop as daemon_loop
from ccfs.daemon.cpu_load import CpuLoad
from ccfs.daemon.fuse_loop import BATCH, Loop
from ccfs.daemon.read_timeout import ReadTimeout

SECONDS = 10

Task = Callable[[], Awaitable[None]]


@pytest.fixture(params=["trio's epoll", "none to be had"])
def loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Loop:
    """A loop that sleeps on trio's own descriptor, and one that can't find it."""
    if request.param != "trio's epoll":
        monkeypatch.setattr(daemon_loop, "_descriptor_of_trio", lambda: -1)
    return Loop()


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


def run(loop: Loop, serve: Task, *others: Task) -> None:
    """Run `serve` with other tasks beside it until it returns."""

    async def main() -> None:
        with trio.fail_after(SECONDS):
            async with trio.open_nursery() as nursery:
                for other in others:
                    nursery.start_soon(other)
                await serve()
                nursery.cancel_scope.cancel()

    with loop:
        trio.run(main, instruments=[loop.runnable])


def test_loop_replaces_trio_in_pyfuse3_and_restores_it() -> None:
    with Loop() as loop:
        assert pyfuse3.trio is loop  # type: ignore[attr-defined]
    assert pyfuse3.trio is trio  # type: ignore[attr-defined]


def test_request_flood_leaves_turns_to_tasks(loop: Loop) -> None:
    """With a request always there, who is ready runs once in BATCH requests.

    trio gives turns in any order, so one may come first in one pass and last in the next.
    """
    turns, served = [0], []

    async def other() -> None:
        while True:
            await trio.lowlevel.checkpoint()
            turns[0] += 1

    with pipe() as (device, client):
        os.write(client, b"x")

        async def serve() -> None:
            for _ in range(20 * BATCH):
                await loop.wait_readable(device)
                served.append(turns[0])

        run(loop, serve, other)
    begun = served[BATCH:]
    assert all(after > before for before, after in zip(begun, begun[2 * BATCH :], strict=False))


def test_request_flood_leaves_turns_to_timers_sockets_threads(loop: Loop) -> None:
    """Each of them is noticed while there is no end of requests."""
    with pipe() as (device, client), pipe() as (connection, peer):
        os.write(client, b"x")
        os.write(peer, b"x")
        seen: set[str] = set()

        async def timer() -> None:
            await trio.sleep(0.01)
            seen.add("timer")

        async def connected() -> None:
            await trio.lowlevel.wait_readable(connection)
            seen.add("connection")

        async def threaded() -> None:
            token = trio.lowlevel.current_trio_token()
            news = trio.Event()
            thread = threading.Thread(target=token.run_sync_soon, args=(news.set,))
            thread.start()
            await news.wait()
            thread.join()
            seen.add("thread")

        async def signalled() -> None:
            with trio.open_signal_receiver(signal.SIGUSR1) as signals:
                os.kill(os.getpid(), signal.SIGUSR1)
                await anext(signals)
                seen.add("signal")

        async def serve() -> None:
            while len(seen) < 4:
                await loop.wait_readable(device)

        run(loop, serve, timer, connected, threaded, signalled)
        assert seen == {"timer", "connection", "thread", "signal"}


def test_sleeping_loop_wakes_for_every_source(loop: Loop) -> None:
    """No request comes: the others' ends must wake it, one after the other, and then a request."""
    with pipe() as (device, client), pipe() as (connection, peer):
        order: list[str] = []

        async def others() -> None:
            await trio.sleep(0.01)
            order.append("timer")
            threading.Timer(0.01, os.write, (peer, b"x")).start()
            await trio.lowlevel.wait_readable(connection)
            order.append("connection")
            with trio.open_signal_receiver(signal.SIGUSR1) as signals:
                threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1)).start()
                await anext(signals)
            order.append("signal")
            threading.Timer(0.01, os.write, (client, b"x")).start()

        async def serve() -> None:
            await loop.wait_readable(device)
            order.append("request")

        run(loop, serve, others)
        assert order == ["timer", "connection", "signal", "request"]


def test_loop_runs_woken_task_before_sleeping(loop: Loop) -> None:
    """A handler wakes a task, and no other request comes: it must run nevertheless."""
    with pipe() as (device, client):
        news = trio.Event()

        async def other() -> None:
            await news.wait()
            os.write(client, b"x")

        async def serve() -> None:
            os.write(client, b"x")
            await loop.wait_readable(device)
            os.read(device, 1)
            news.set()
            await loop.wait_readable(device)

        run(loop, serve, other)


class Asked:
    """A server answered without a pass of trio: a byte is a request.  `flood`: it never ends."""

    def __init__(self, question: int, asker: int, *, flood: bool = False) -> None:
        self.question, self.asker, self.flood = question, asker, flood
        self.answered = 0
        self.answers = threading.Semaphore(0)
        os.set_blocking(question, False)

    def ask(self) -> None:
        os.write(self.asker, b"?")

    def answer(self) -> int:
        try:
            os.read(self.question, 1)
        except BlockingIOError:
            return 0
        self.answered += 1
        self.answers.release()
        if self.flood:
            self.ask()
        return 1


@pytest.mark.parametrize("prompt", [True, False])
def test_direct_clients_are_answered_without_trio_pass(
    prompt: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asleep, and while it looks for the next one: trio has no turn until the request is there."""
    monkeypatch.setattr(CpuLoad, "has_idle_core", lambda self, now: prompt)
    loop, passes = Loop(), 0
    give_turns = loop._pass

    async def count() -> None:
        nonlocal passes
        passes += 1
        await give_turns()

    monkeypatch.setattr(loop, "_pass", count)
    with pipe() as (device, client), pipe() as ends:
        asked = Asked(*ends)

        def ask_all() -> None:
            for _ in range(3 * BATCH):
                asked.ask()
                asked.answers.acquire(timeout=SECONDS)
            os.write(client, b"x")

        async def serve() -> None:
            assert loop.serve_also(asked.question, asked.answer)
            thread = threading.Thread(target=ask_all)
            thread.start()
            await loop.wait_readable(device)
            thread.join()
            assert asked.answered == 3 * BATCH
            assert passes <= 1  # the first, before it sleeps

        run(loop, serve)


@pytest.mark.parametrize("prompt", [True, False])
def test_flood_of_direct_clients_leaves_turns(
    prompt: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests, timers, connections and threads come in between."""
    monkeypatch.setattr(CpuLoad, "has_idle_core", lambda self, now: prompt)
    loop = Loop()
    with pipe() as (device, client), pipe() as ends, pipe() as (connection, peer):
        asked, seen = Asked(*ends, flood=True), set()

        async def others() -> None:
            await trio.sleep(0.001)
            seen.add("timer")
            threading.Timer(0.001, os.write, (peer, b"x")).start()
            await trio.lowlevel.wait_readable(connection)
            seen.add("connection")
            await trio.to_thread.run_sync(lambda: None)
            seen.add("thread")
            os.write(client, b"x")

        async def serve() -> None:
            assert loop.serve_also(asked.question, asked.answer)
            asked.ask()
            await loop.wait_readable(device)
            seen.add("request")

        run(loop, serve, others)
        assert seen == {"timer", "connection", "thread", "request"}
        assert asked.answered > 0


def test_request_flood_leaves_turns_to_direct_clients() -> None:
    loop = Loop()
    with pipe() as (device, client), pipe() as ends:
        asked = Asked(*ends)

        async def serve() -> None:
            assert loop.serve_also(asked.question, asked.answer)
            os.write(client, b"x")
            asked.ask()
            for _ in range(2 * BATCH):
                await loop.wait_readable(device)
            assert asked.answered == 1

        run(loop, serve)


def test_loop_sleeping_in_trio_answers_no_direct_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with requests to answer is called, and awaits them in a task."""
    monkeypatch.setattr(daemon_loop, "_descriptor_of_trio", lambda: -1)
    loop = Loop()

    async def serve() -> None:
        assert not loop.serve_also(0, lambda: 1)

    run(loop, serve)


@pytest.mark.parametrize("flood", [True, False])
def test_loop_ends_when_device_closes(loop: Loop, flood: bool) -> None:
    with pipe() as (device, client):
        if flood:
            os.write(client, b"x")

        async def ends() -> None:
            await trio.sleep(0.01)
            loop.notify_closing(device)

        async def serve() -> None:
            while True:
                await loop.wait_readable(device)

        with pytest.RaisesGroup(trio.ClosedResourceError):
            run(loop, serve, ends)


def test_loop_can_be_cancelled(loop: Loop) -> None:
    with pipe() as (device, client):
        os.write(client, b"x")

        async def serve() -> None:
            with trio.move_on_after(0.01):
                while True:
                    await loop.wait_readable(device)

        run(loop, serve)


@pytest.mark.parametrize(("running", "spins"), [(0, True), (1, False)])
def test_loop_spins_only_with_idle_core(tmp_path: Path, running: int, spins: bool) -> None:
    cores = len(os.sched_getaffinity(0))
    file = tmp_path / "loadavg"
    file.write_text(f"0.00 0.01 0.05 {cores + running}/99 4711\n")
    load = CpuLoad(str(file))
    assert load.has_idle_core(100.0) is (spins and cores > 1)
    file.write_text(f"0.00 0.01 0.05 {cores + 1}/99 4711\n")
    assert load.has_idle_core(100.0) is (spins and cores > 1)
    assert not load.has_idle_core(101.0)
    load.close()


def test_loop_without_load_figure_does_not_spin(tmp_path: Path) -> None:
    assert not CpuLoad(str(tmp_path / "missing")).has_idle_core(100.0)


def test_read_of_withdrawn_request_is_interrupted() -> None:
    """Again and again, as often as it happens, however late it begins; and the timer ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    timeout, place = ReadTimeout(), ctypes.create_string_buffer(1)
    timeout.start()
    try:
        with pipe() as (device, _):
            for _ in range(5):
                timeout.before_read()
                for _ in range(3):
                    assert libc.read(device, place, 1) == -1
                    assert ctypes.get_errno() == errno.EINTR
        timeout.before_sleep(stop=False)
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    finally:
        timeout.stop()


@pytest.mark.parametrize("long", [True, False])
def test_read_timer_ends_when_unused(long: bool) -> None:
    timeout = ReadTimeout()
    timeout.start()
    try:
        timeout.before_read()
        timeout.before_sleep(stop=long)
        assert (signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)) is long
    finally:
        timeout.stop()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
