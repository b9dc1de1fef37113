# SPDX-License-Identifier: MIT
"""How the command learns of the fate of the daemon it starts; the daemons here are made to fail."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ccfs.cli import daemonize
from ccfs.cli.daemonize import reporting
from ccfs.errors import DeadMountError, Exit, NoAnswerError, UserError
from ccfs.linux.descriptors import wait_readable
from ccfs.linux.fusermount import Wait
from ccfs.mounting.mounter import FuseMount, Mounter
from ccfs.supervisor.daemon_spec import DaemonSetup, DaemonSpec

Ready = Callable[[], None]


class NoMount(Mounter):
    """Mounts nothing, so that a daemon which ends is not replaced."""

    def mount(self, wait: Wait = wait_readable) -> FuseMount:
        return FuseMount(os.open(os.devnull, os.O_RDWR), 0, 0)

    def is_mounted(self, mount: FuseMount) -> bool:
        return False


@pytest.fixture
def nowhere(tmp_path: Path) -> NoMount:
    return NoMount(os.open(tmp_path, os.O_RDONLY), 0, 0)


def reap(pid: int) -> int:
    """The exit status of a daemon started here; the test's own time limit bounds the wait."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_daemonize_returns_status_of_daemon(nowhere: NoMount) -> None:
    def serve(ready: Ready, _: DaemonSetup) -> int:
        ready()
        return 5

    assert reap(daemonize.start(nowhere, DaemonSpec(reporting(serve)))) == 5


def test_daemon_inherits_no_terminal_or_descriptors(nowhere: NoMount) -> None:
    """A session of its own, no terminal, no descriptor of its parent's, no foreign files."""
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)

    def serve(ready: Ready, _: DaemonSetup) -> int:
        alone = os.getsid(0) != os.getpid() and os.getcwd() == "/" and os.umask(0) == 0o077
        ready()
        null = os.stat(os.devnull)
        standard = all(os.path.samestat(os.fstat(number), null) for number in range(3))
        return 0 if alone and standard else 1

    pid = daemonize.start(nowhere, DaemonSpec(reporting(serve)))
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)
    assert reap(pid) == 0


def test_daemon_error_is_reported_with_hint_and_status(nowhere: NoMount) -> None:
    def serve(_: Ready, __: DaemonSetup) -> int:
        raise DeadMountError("it is dead", "bury it")

    with pytest.raises(UserError) as told:
        daemonize.start(nowhere, DaemonSpec(reporting(serve)))
    assert (told.value.reason, told.value.hint) == ("it is dead", "bury it")
    assert told.value.status is Exit.DEAD_MOUNT


def test_fusermount3_output_is_reported(nowhere: NoMount) -> None:
    def serve(_: Ready, __: DaemonSetup) -> int:
        os.write(2, b"chatter\nfusermount3: user has no write access to mountpoint /m\n")
        raise UserError("cannot mount")

    with pytest.raises(UserError) as told:
        daemonize.start(nowhere, DaemonSpec(reporting(serve)))
    assert told.value.reason == "cannot mount: user has no write access to mountpoint /m"


def test_supervisor_runs_its_steps_first_and_last(nowhere: NoMount, tmp_path: Path) -> None:
    """First of all, and when all is over; it has ended when an error is told."""
    done = tmp_path / "done"

    def note(what: str) -> None:
        with done.open("a") as file:
            file.write(f"{what} {os.getpid()}\n")

    def serve(ready: Ready, _: DaemonSetup) -> int:
        note("serve")
        raise DeadMountError("it is dead", "bury it")

    with pytest.raises(UserError):
        daemonize.start(
            nowhere,
            DaemonSpec(
                reporting(serve), set_up=lambda: note("first"), tear_down=lambda: note("after")
            ),
        )
    what, pids = zip(*(line.split() for line in done.read_text().splitlines()), strict=True)
    assert what == ("first", "serve", "after")
    assert pids[0] == pids[2] != pids[1]


def test_supervisor_error_is_reported(nowhere: NoMount) -> None:
    def refuse() -> None:
        raise DeadMountError("it is dead", "bury it")

    with pytest.raises(UserError) as told:
        daemonize.start(nowhere, DaemonSpec(reporting(lambda *_: 0), set_up=refuse))
    assert (told.value.reason, told.value.hint) == ("it is dead", "bury it")
    assert told.value.status is Exit.DEAD_MOUNT


def test_unexpected_failure_is_one_line(nowhere: NoMount) -> None:
    with pytest.raises(UserError) as told:
        daemonize.start(nowhere, DaemonSpec(reporting(lambda *_: 1 // 0)))
    assert told.value.reason.startswith("unexpected failure: ZeroDivisionError")
    assert "--foreground --debug" in told.value.hint
    assert told.value.status is Exit.UNEXPECTED


def test_daemon_death_before_ready_is_reported(nowhere: NoMount) -> None:
    def serve(_: Ready, __: DaemonSetup) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    with pytest.raises(UserError, match="ended by signal 9 before it was ready"):
        daemonize.start(nowhere, DaemonSpec(reporting(serve)))
    with pytest.raises(UserError, match="ended with status 0 before it was ready"):
        daemonize.start(nowhere, DaemonSpec(reporting(lambda *_: 0)))


def test_daemon_never_ready_is_ended(nowhere: NoMount, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended, not left behind."""

    def serve(_: Ready, __: DaemonSetup) -> int:
        signal.pause()
        return 0

    children: list[int] = []
    fork = os.fork

    def remembered_fork() -> int:
        children.append(fork())
        return children[-1]

    monkeypatch.setattr(daemonize, "START_SECONDS", 0.1)
    monkeypatch.setattr(os, "fork", remembered_fork)
    with pytest.raises(NoAnswerError):
        daemonize.start(nowhere, DaemonSpec(reporting(serve)))
    assert reap(children[0]) == -signal.SIGTERM


def test_unexpected_end_is_logged_without_message(caplog: pytest.LogCaptureFixture) -> None:
    """The message might hold a secret; where it came from is said instead."""
    try:
        raise ValueError("the session key")
    except ValueError as error:
        status = daemonize._log_end(error)
    assert status == Exit.UNEXPECTED
    assert (
        "the daemon ends: ValueError at test_unexpected_end_is_logged_without_message"
        in caplog.text
    )
    assert "the session key" not in caplog.text
