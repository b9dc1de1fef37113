# SPDX-License-Identifier: MIT
"""The end of a mount: however it ends, nothing of it is left and no client is left waiting."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ccfs.linux import mountinfo
from ccfs.mounting import mountpoint
from ccfs.takeover import notifier
from tests.support.clients.python import records
from tests.support.mounting import MakeMount, Mounted, first_line, is_mounted, run_ccfs, tear_down
from tests.support.processes import children, is_alive
from tests.support.shell import running, wait_until, waiting

IMAGE = records.ccache(["host/one"])
SECONDS = 20


def targets(pid: int) -> list[str]:
    """What the open files of a process are."""
    directory = Path(f"/proc/{pid}/fd")
    return [os.readlink(directory / name) for name in os.listdir(directory)]


def ends(mount: Mounted, number: signal.Signals) -> None:
    """Send a signal to the daemon, and see all of it go."""
    notifiers = children(mount.pid)
    assert notifiers
    mount.process.send_signal(number)
    status = mount.process.wait(SECONDS)
    assert status == (-number if number == signal.SIGKILL else 0)
    wait_until(lambda: not any(is_alive(pid) for pid in notifiers), "the notifier stays")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_unmounts(mount: Mounted, number: signal.Signals) -> None:
    ends(mount, number)
    assert not is_mounted(mount.path)
    assert list(mount.path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_busy_mount_is_detached(mount: Mounted, number: signal.Signals) -> None:
    """Operations on open files fail, and do not hang."""
    (mount.path / "dir/tkt").write_bytes(IMAGE)
    with (
        (mount.path / "dir/tkt").open("rb", buffering=0) as file,
        running(["sleep", "60"], mount.path / "caches"),
    ):
        ends(mount, number)
        assert not is_mounted(mount.path)
        with pytest.raises(OSError, match=r"not connected|aborted"):
            os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_signal_wakes_fifo_readers(mount: Mounted, number: signal.Signals) -> None:
    """At the FIFOs of the mount and of ccaches, however the daemon ends."""
    (mount.path / "caches/work").mkdir()
    with waiting(mount.path, "changed", "caches/tkt/changed", "caches/work/changed") as waiters:
        ends(mount, number)
        for process in waiters:
            assert process.wait(SECONDS) == 0


def test_unmount_wakes_fifo_readers(mount: Mounted) -> None:
    with waiting(mount.path, "changed", "caches/tkt/changed") as waiters:
        done = mount.ccfs("unmount")
        assert done.returncode == 0
        assert mount.process.wait(SECONDS) == 0
        for process in waiters:
            assert process.wait(SECONDS) == 0


@pytest.mark.parametrize("busy", [False, True])
def test_new_mount_replaces_dead_mount(mount: Mounted, busy: bool, make_mount: MakeMount) -> None:
    ends(mount, signal.SIGKILL)
    assert is_mounted(mount.path)
    with contextlib.ExitStack() as stack:
        if busy:
            descriptor = os.open(mount.path, os.O_PATH)
            stack.callback(os.close, descriptor)
        assert run_ccfs("mount", mount.path).returncode != 0
        try:
            done = run_ccfs("mount", "--replace", mount.path)
            assert (done.returncode, done.stderr) == (0, "")
            assert len([m for m in mountinfo.mounts() if m.path == str(mount.path)]) == 1
            (mount.path / "dir/tkt").write_bytes(IMAGE)
            assert (mount.path / "caches/tkt/ccache").read_bytes() == IMAGE
        finally:
            run_ccfs("unmount", mount.path)
            tear_down(mount.path)
    assert not is_mounted(mount.path)


def test_repeated_signals_leave_no_dead_mount(mount: Mounted) -> None:
    """Impatience leaves no dead mount behind."""
    for _ in range(50):
        with contextlib.suppress(ProcessLookupError):
            mount.process.send_signal(signal.SIGTERM)
    assert mount.process.wait(SECONDS) == 0
    assert not is_mounted(mount.path)


def test_foreign_unmount_ends_daemon(mount: Mounted) -> None:
    notifiers = children(mount.pid)
    mountpoint.unmount(str(mount.path), lazy=False)
    assert mount.process.wait(SECONDS) == 0
    wait_until(lambda: not any(is_alive(pid) for pid in notifiers), "the notifier stays")


def test_notifier_holds_two_pipes_and_standard_files(mount: Mounted) -> None:
    """Two pipes and the standard files: nothing of the mount, no descriptor of the FUSE device."""
    (notifier,) = children(mount.pid)
    held = targets(notifier)
    assert not [target for target in held if "fuse" in target or str(mount.path) in target]
    assert len([target for target in held if target.startswith("pipe:")]) <= 2 + 3
    assert len(held) <= 5
    assert str(mount.path) not in os.readlink(f"/proc/{notifier}/cwd")
    assert Path(f"/proc/{notifier}/status").read_text().count(f"PPid:\t{mount.pid}\n") == 1


def held_as(pid: int, target: str) -> str:
    """The descriptor of a process that is of `target`, as a path."""
    directory = f"/proc/{pid}/fd"
    return next(
        f"{directory}/{name}"
        for name in os.listdir(directory)
        if os.readlink(f"{directory}/{name}") == target
    )


def test_daemon_holds_no_descriptor_in_its_mount(mount: Mounted) -> None:
    """Nothing in its own mount, which would keep it busy, and no more after use than before."""
    (mount.path / "dir/tkt").write_bytes(IMAGE)
    (mount.path / "changed").stat()
    before = targets(mount.pid)
    below = [target for target in before if target.startswith(str(mount.path))]
    assert below == [str(mount.path)]  # the directory below, for its lock
    assert os.stat(held_as(mount.pid, below[0])).st_dev != mount.path.stat().st_dev
    for number in range(20):
        (mount.path / "caches" / str(number)).mkdir()
        (mount.path / "caches" / str(number) / "ccache").write_bytes(IMAGE)
        (mount.path / "caches" / str(number)).rmdir()
    assert len(targets(mount.pid)) == len(before)


@pytest.mark.expects_warnings
def test_killed_notifier_is_replaced(mount: Mounted) -> None:
    """Killed, there is a new one, and who waits is still woken."""
    (old,) = children(mount.pid)
    with waiting(mount.path, "changed") as (waiter,):
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: children(mount.pid) not in ([], [old]), "no new notifier")
        (mount.path / "caches/new").mkdir()
        assert waiter.wait(SECONDS) == 0
    (new,) = children(mount.pid)
    assert not [target for target in targets(new) if "fuse" in target]
    ends(mount, signal.SIGTERM)


def test_stopped_notifier_is_continued(mount: Mounted) -> None:
    """Its user has stopped it: waiters at a FIFO are woken all the same."""
    (child,) = children(mount.pid)
    with waiting(mount.path, "changed") as (waiter,):
        os.kill(child, signal.SIGSTOP)
        (mount.path / "caches/new").mkdir()
        assert waiter.wait(SECONDS) == 0


def test_hanging_notifier_blocks_no_caller(tmp_path: Path) -> None:
    """Neither sending orders, however many, nor ending the notifier blocks."""
    child = notifier.start(str(tmp_path))
    os.kill(child.pid, signal.SIGSTOP)
    with pytest.raises(BlockingIOError):
        any(child.send(notifier.KICK, "1") for _ in range(1 << 20))
    child.end()
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


BUG = """
import os, sys
from ccfs import daemon
from ccfs.mounting import mount_directory
from ccfs.mounting.mounter import Mounter
from ccfs.store.generations import Generations

def broken(self, number):
    raise ValueError("a bug")

Generations.forget = broken
mounter = Mounter(mount_directory.prepare(sys.argv[1]), os.geteuid(), os.getegid())
options = daemon.MountOptions(sys.argv[1], device=mounter.mount().device)
sys.exit(daemon.serve(options, lambda: print("ready", flush=True)))
"""


def test_exception_in_forget_keeps_mount(tmp_path: Path) -> None:
    """forget gives no answer, not even an error: still nothing takes the mount down."""
    path = tmp_path / "mount"
    path.mkdir()
    with subprocess.Popen(
        ["timeout", "60", sys.executable, "-c", BUG, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert first_line(process.stdout, 20) == "ready\n"
            for _ in range(20):
                (path / "dir/tkt").write_bytes(IMAGE)
                (path / "dir/tkt").unlink()
            assert (path / "README").read_text()
            assert process.poll() is None
        finally:
            process.terminate()
            process.wait(SECONDS)
            tear_down(path)
