"""The loop of ccfsd: exceptions cost their callback alone, and cancelled timers cost nothing."""

import os
import socket

import pytest

from ccfs.ccfsd import clients
from ccfs.ccfsd import loop as module
from ccfs.ccfsd.loop import FEW, Loop


@pytest.fixture
def loop() -> Loop:
    """A loop that ends after ten seconds at the latest."""
    made = Loop()
    made.after(10, made.stop)
    return made


def fail() -> None:
    """Be a callback with a bug."""
    raise ZeroDivisionError


def test_an_exception_in_a_timer(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    """The one behind it is called."""
    loop.after(0, fail)
    loop.after(0.001, loop.stop)
    loop.run()
    assert "ZeroDivisionError" in caplog.text
    caplog.clear()


def test_an_exception_in_settle(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.settle = fail
    loop.after(0, lambda: None)
    loop.after(0.001, loop.stop)
    loop.run()
    assert caplog.text.count("ZeroDivisionError") >= 1
    caplog.clear()


def test_an_exception_at_a_descriptor(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It isn't called again at once, for ever, and not forgotten for ever either."""
    monkeypatch.setattr(module, "FAILED", 0.01)
    reader, writer = os.pipe()
    os.write(writer, b"x")
    calls: list[float] = []

    def call() -> None:
        calls.append(1)
        if len(calls) == 3:
            loop.stop()
        fail()

    loop.watch(reader, call)
    loop.run()
    assert len(calls) == 3
    assert caplog.text.count("ZeroDivisionError") == 3
    caplog.clear()
    os.close(reader)
    os.close(writer)


def test_one_that_failed_and_was_closed_is_not_watched_again(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its number may be another's by then."""
    monkeypatch.setattr(module, "FAILED", 0.0)
    reader, writer = os.pipe()
    os.write(writer, b"x")
    loop.watch(reader, fail)
    loop.settle = lambda: loop.forget(reader)
    loop.after(0.05, loop.stop)
    loop.run()
    assert caplog.text.count("ZeroDivisionError") == 1
    caplog.clear()
    os.close(reader)
    os.close(writer)


def test_no_descriptor_is_forgotten(loop: Loop) -> None:
    loop.forget(-1)


def test_cancelled_timers_do_not_stay(loop: Loop) -> None:
    kept = [loop.after(3600, fail) for _ in range(100)]
    for _ in range(100_000):
        loop.after(60, fail).cancel()
    assert len(loop._timers) <= 2 * (len(kept) + FEW) + 2
    called: list[int] = []
    for number in (3, 1, 2):
        loop.after(number / 1000, lambda number=number: called.append(number))
    loop.after(0.01, loop.stop)
    loop.run()
    assert called == [1, 2, 3]


def test_one_is_not_too_quiet_whose_reply_waits_to_go_out(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the reply to `stop`, where what ends takes longer than a client may be quiet."""
    monkeypatch.setattr(clients, "QUIET", 0.01)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind("")
        listener.listen()
        asked: list[clients.Connection] = []
        made = clients.Clients(loop, listener, lambda connection, _: asked.append(connection))
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.settimeout(10)
            client.connect(listener.getsockname())
            client.send(b"stop")

            def answer() -> None:
                asked[0].reply(b"ok")
                asked[0]._too_quiet()  # the timer is due in this very round
                loop.stop()

            loop.after(0.05, answer)
            loop.settle = made.flush
            loop.run()
            assert client.recv(100) == b"ok"
