# SPDX-License-Identifier: MIT
"""The coroutines of ccfsd: an exception costs one of them alone, a waiting one costs little."""

import gc
import socket
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from ccfs.ccfsd import clients, listening, mount
from ccfs.ccfsd.background import Background
from ccfs.ccfsd.clients import Clients, Connection
from ccfs.ccfsd.listening import Gate
from ccfs.ccfsd.mount import Host, ServedMount
from ccfs.ccfsd.registry import Owner
from ccfs.ccfsd.settings import Settings
from ccfs.ccfsd.waiters import NotServedError, Waiters
from ccfs.control.messages import Message
from ccfs.errors import UserError

SECONDS = 20.0


def run(scene: Callable[[], Awaitable[None]], *, autojump: bool = False) -> None:
    """Run a coroutine; `autojump`: the clock goes on to the next deadline when all wait."""
    trio.run(scene, clock=MockClock(autojump_threshold=0.02) if autojump else None)


async def fail(*_: object) -> None:
    """Be a coroutine with a bug."""
    raise ZeroDivisionError(b"a secret")


def assert_logged(caplog: pytest.LogCaptureFixture, times: int = 1) -> None:
    """See that the type of an exception is in the log, and not its message."""
    assert caplog.text.count("ZeroDivisionError at ") == times
    assert "secret" not in caplog.text
    caplog.clear()


def test_exception_ends_its_coroutine_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        ended = trio.Event()

        async def other() -> None:
            await trio.sleep(0.01)
            ended.set()

        async with trio.open_nursery() as nursery:
            background = Background(nursery)
            background.start(other)
            background.start(fail)
        assert ended.is_set()

    run(scene)
    assert_logged(caplog)


class Listener:
    """A socket that listens, and clients that connect to it."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.bind("")
        self.socket.listen(1024)
        self.clients: list[socket.socket] = []

    def connect(self) -> socket.socket:
        """A client that is connected."""
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.connect(self.socket.getsockname())
        client.setblocking(False)
        self.clients.append(client)
        return client

    async def ask(self, client: socket.socket, data: bytes) -> bytes:
        """The reply to a request."""
        client.send(data)
        return await received(client)

    def close(self) -> None:
        """Close all sockets."""
        for one in (self.socket, *self.clients):
            one.close()


async def received(client: socket.socket) -> bytes:
    """Receive the client's next message."""
    with trio.fail_after(SECONDS):
        await trio.lowlevel.wait_readable(client)
        return client.recv(5000)


async def no_checkpoint() -> None:
    """Have nothing to save."""


@asynccontextmanager
async def serving(
    handle: Callable[[Connection, Message], Awaitable[None]],
    save: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
) -> AsyncIterator[tuple[Listener, Clients, Gate]]:
    """Clients are served as `handle` says."""
    listener, gate = Listener(), Gate()
    try:
        async with trio.open_nursery() as nursery:
            made = Clients(Background(nursery), gate, handle, save)
            nursery.start_soon(made.accept, listener.socket)
            yield listener, made, gate
            nursery.cancel_scope.cancel()
    finally:
        listener.close()


async def answer(connection: Connection, request: Message) -> None:
    """Fail for some requests, reply to others."""
    if request.word == "fail":
        await fail()
    await connection.reply(b"ok")


def test_exception_in_request_costs_its_client_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        async with serving(answer) as (listener, _, _):
            other, wrong = listener.connect(), listener.connect()
            assert await listener.ask(wrong, b"fail") == b"error unexpected failure"
            assert await received(wrong) == b""
            assert await listener.ask(other, b"x") == b"ok"

    run(scene)
    assert_logged(caplog)


@pytest.mark.parametrize("waits", [False, True])
def test_refused_client_is_disconnected(caplog: pytest.LogCaptureFixture, waits: bool) -> None:
    """Whether the refusal comes at once or after a while; nothing is logged."""

    async def refuse(connection: Connection, request: Message) -> None:
        if waits:
            await trio.sleep(0.01)
        raise UserError("no")

    async def scene() -> None:
        async with serving(refuse, save=no_checkpoint) as (listener, made, _):
            client = listener.connect()
            assert await listener.ask(client, b"x") == b"error no"
            assert await received(client) == b""
            await trio.testing.wait_all_tasks_blocked()
            assert not made.all

    run(scene)
    assert not caplog.text


def test_exception_in_accept_costs_that_connection_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scene() -> None:
        listener, calls = Listener(), []

        def welcome(connected: socket.socket) -> None:
            calls.append(connected)
            if len(calls) == 1:
                raise ZeroDivisionError(b"a secret")
            connected.send(b"welcome")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listening.accept, listener.socket, Gate(), welcome)
            assert await received(listener.connect()) == b""
            assert await received(listener.connect()) == b"welcome"
            nursery.cancel_scope.cancel()
        listener.close()

    run(scene)
    assert_logged(caplog)


def test_accept_without_free_descriptor_is_retried_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that can't be let in is let in later, and is not tried again at once."""

    class Lacking(socket.socket):
        tries = 0

        def accept(self) -> tuple[socket.socket, object]:
            Lacking.tries += 1
            if Lacking.tries < 3:
                raise OSError(24, "Too many open files")
            return super().accept()

    async def scene() -> None:
        listener = Listener()
        lacking = Lacking(fileno=listener.socket.detach())
        listener.socket = lacking
        begin = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                listening.accept, lacking, Gate(), lambda connected: connected.send(b"welcome")
            )
            assert await received(listener.connect()) == b"welcome"
            assert trio.current_time() - begin >= 2 * listening.NO_ROOM
            nursery.cancel_scope.cancel()
        assert Lacking.tries in (3, 4)
        listener.close()

    run(scene, autojump=True)


def test_quiet_client_is_disconnected() -> None:
    """After QUIET seconds without a request, be it the first or the next."""

    async def scene() -> None:
        async with serving(answer) as (listener, made, _):
            client = listener.connect()
            begin = trio.current_time()
            assert await listener.ask(client, b"x") == b"ok"
            await trio.lowlevel.wait_readable(client)
            assert client.recv(100) == b""
            assert trio.current_time() - begin == pytest.approx(clients.QUIET, abs=0.5)
            await trio.testing.wait_all_tasks_blocked()
            assert not made.all

    run(scene, autojump=True)


def test_client_waiting_for_reply_is_not_disconnected() -> None:
    """As that of `stop`, where the end takes longer than a client may be quiet."""

    async def slowly(connection: Connection, request: Message) -> None:
        await trio.sleep(10 * clients.QUIET)
        await connection.reply(b"ok")

    async def scene() -> None:
        async with serving(slowly) as (listener, _, _):
            client = listener.connect()
            client.send(b"stop")
            await trio.lowlevel.wait_readable(client)
            assert client.recv(100) == b"ok"

    run(scene, autojump=True)


def test_busy_client_delays_no_other() -> None:
    """One that asks again and again, while others ask once."""

    async def scene() -> None:
        async with serving(answer) as (listener, _, _):
            fast, stop = listener.connect(), trio.Event()
            count = 0

            async def ask_often() -> None:
                nonlocal count
                while not stop.is_set():
                    assert await listener.ask(fast, b"x") == b"ok"
                    count += 1

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask_often)
                for _ in range(20):
                    before = count
                    assert await listener.ask(listener.connect(), b"x") == b"ok"
                    assert count - before < 50
                stop.set()
            assert count

    run(scene)


def test_closed_gate_holds_requests_back() -> None:
    """They wait in their sockets, and connections in the backlog, until it is open again."""

    async def scene() -> None:
        async with serving(answer) as (listener, made, gate):
            client = listener.connect()
            assert await listener.ask(client, b"x") == b"ok"
            gate.close()
            client.send(b"x")
            late = listener.connect()
            late.send(b"x")
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert len(made.all) == 1
            with pytest.raises(BlockingIOError):
                client.recv(100)
            gate.open()
            assert await received(client) == await received(late) == b"ok"

    run(scene)


def test_disconnect_cancels_mount_request_and_no_login() -> None:
    async def scene() -> None:
        outcomes: list[str] = []

        async def wait(connection: Connection, request: Message) -> None:
            if request.word == "mount":
                with connection.while_connected() as scope:
                    await trio.sleep(3600)
                outcomes.append(f"mount {scope.cancelled_caught}")
            else:
                await trio.sleep(1)
                outcomes.append(f"open {await connection.reply(b'ok')}")

        async with serving(wait) as (listener, made, _):
            for word in (b"mount", b"open"):
                client = listener.connect()
                client.send(word)
                await trio.testing.wait_all_tasks_blocked(0.01)
                client.close()
                while made.all:
                    await trio.sleep(0.1)
        assert outcomes == ["mount True", "open False"]

    run(scene, autojump=True)


def test_cancelled_waiters_leave_no_memory() -> None:
    """Waiters whose client goes are forgotten at once, not at their deadline."""

    async def scene() -> None:
        waiters = Waiters()

        async def wait_in_vain() -> None:
            with pytest.raises(NotServedError, match="in time"):
                await waiters.wait(0)
            with trio.move_on_after(0):
                await waiters.wait(3600)

        for _ in range(100):
            await wait_in_vain()
        gc.collect()
        tracemalloc.start()
        for _ in range(5000):
            await wait_in_vain()
        gc.collect()
        left, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert not waiters
        assert left < 500_000

    run(scene)


def test_waiters_fail_in_order_of_deadlines() -> None:
    async def scene() -> None:
        waiters, order = Waiters(), []

        async def wait(seconds: float) -> None:
            with pytest.raises(NotServedError, match="in time"):
                await waiters.wait(seconds)
            order.append(seconds)

        async with trio.open_nursery() as nursery:
            for seconds in (3.0, 1.0, 2.0):
                nursery.start_soon(wait, seconds)
        assert order == [1.0, 2.0, 3.0]

    run(scene, autojump=True)


class OneMount:
    """A stand-in for what a mount calls in ccfsd, which does nothing."""

    settings = Settings()


def test_exception_in_mount_costs_it_a_second(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[float] = []

    async def live(self: ServedMount) -> None:
        times.append(trio.current_time())
        if len(times) < 3:
            await fail()

    async def scene() -> None:
        monkeypatch.setattr(ServedMount, "_live", live)
        await ServedMount(cast(Host, OneMount()), "1", Owner(1, 1)).run()

    run(scene, autojump=True)
    assert [round(one - times[0]) for one in times] == [0, mount.FAILED, 2 * mount.FAILED]
    assert_logged(caplog, 2)
