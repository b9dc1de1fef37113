# SPDX-License-Identifier: MIT
"""The command on real mounts: making them, looking at them, taking them away."""

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ccfs.cli import watch
from ccfs.cli.info import of_mount
from ccfs.cli.main import main
from ccfs.errors import Exit
from ccfs.mounting import mountpoint
from tests.support.mounting import (
    Mounted,
    ccfs_command,
    first_line,
    is_mounted,
    run_ccfs,
    tear_down,
)

NOBODY = 65534


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A path where a test mounts by itself, in the background; nothing stays mounted there."""
    path = tmp_path_factory.mktemp("cli") / "ccfs"
    yield path
    pid = daemon_pid(path) if is_mounted(path) else None
    tear_down(path)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def daemon_pid(path: Path) -> int | None:
    """The daemon's pid as `info` gives it, None from a mount that doesn't say."""
    try:
        data = mountpoint.read(str(path), "info")
    except OSError:
        return None
    return int(
        dict(line.split(": ", 1) for line in data.decode().splitlines() if ": " in line)["pid"]
    )


def said(done: subprocess.CompletedProcess[str]) -> tuple[int, str]:
    """How a command ended, and the error it gave."""
    lines = done.stderr.splitlines()
    return done.returncode, lines[0] if lines else ""


def test_mount_returns_when_ready_and_unmount_leaves_nothing(place: Path) -> None:
    """What `mount` promises when it returns, and what `unmount` does."""
    done = run_ccfs("mount", place)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"export KRB5CCNAME=FILE:{place}/default/ccache\n"
    pid = daemon_pid(place)
    assert pid is not None
    supervisor_pid = of_mount(mountpoint.read(str(place), "info"))["keeper"]
    assert os.getsid(pid) == os.getsid(int(supervisor_pid or 0)) == supervisor_pid
    assert (place / "caches").is_dir()

    done = run_ccfs("unmount", place)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not is_mounted(place)
    assert not Path(f"/proc/{pid}").exists() or "zombie" in Path(f"/proc/{pid}/status").read_text()
    assert place.stat().st_mode & 0o7777 == 0o700


def test_mount_uses_default_mountpoint(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    try:
        assert run_ccfs("mount", env=environment).returncode == 0
        assert is_mounted(tmp_path / "ccfs")
        assert run_ccfs("unmount", env=environment).returncode == 0
    finally:
        tear_down(tmp_path / "ccfs")


def test_commands_without_mountpoint_are_refused() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "XDG_RUNTIME_DIR"}
    for command in ("mount", "unmount", "status", "list", "env", "watch"):
        status, error = said(run_ccfs(command, env=environment))
        assert status == Exit.USAGE
        assert "XDG_RUNTIME_DIR is not set" in error


@pytest.mark.parametrize("command", ["unmount", "status", "list", "env", "watch"])
def test_commands_without_mount_are_refused(command: str, tmp_path: Path) -> None:
    status, error = said(run_ccfs(command, tmp_path))
    assert (status, error) == (Exit.NOT_MOUNTED, f"ccfs: error: no ccfs is mounted at {tmp_path}")


def test_python_m_ccfs_runs_commands(mount: Mounted) -> None:
    command = [sys.executable, "-m", "ccfs", "env", str(mount.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == mount.ccfs("env").stdout


def test_env_prints_shell_line(make_mount: Callable[..., Mounted]) -> None:
    mount = make_mount()
    line = mount.ccfs("env").stdout
    script = 'eval "$1"; printf %s "$KRB5CCNAME"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", line], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == f"FILE:{mount.path}/default/ccache"


def test_status_has_info_and_mountpoint(mount: Mounted) -> None:
    """Both forms have what `info` has, and the mountpoint."""
    text = mount.ccfs("status").stdout
    values = json.loads(mount.ccfs("status", "--json").stdout)
    lines = dict(line.split(": ", 1) for line in text.splitlines())
    info = (mount.path / "info").read_text()
    assert (
        list(values) == list(lines) == ["mountpoint", *(x.split(":")[0] for x in info.splitlines())]
    )
    assert {key: str(value) for key, value in values.items()} == lines
    assert values["mountpoint"] == str(mount.path)
    assert values["pid"] == mount.pid
    assert values["limit_ccaches"] == 1024


@pytest.mark.parametrize(
    "mount", [["--max-ccaches=3", "--max-ccache-size=2M", "--max-total-size=4M"]], indirect=True
)
def test_mount_passes_limits_to_daemon(mount: Mounted) -> None:
    values = json.loads(mount.ccfs("status", "--json").stdout)
    limits = [values[f"limit_{name}"] for name in ("ccaches", "ccache_bytes", "total_bytes")]
    assert limits == [3, 2 << 20, 4 << 20]


def test_list_of_uninitialised_ccache_is_empty(mount: Mounted) -> None:
    """A ccache that isn't initialised counts for no one."""
    assert mount.ccfs("list").stdout.split() == ["NAME", "PRINCIPAL", "CREDENTIALS", "EXPIRES"]
    assert json.loads(mount.ccfs("list", "--json").stdout) == []


def test_mount_on_mount_is_refused(mount: Mounted) -> None:
    for option in ("--foreground", "--replace"):
        status, error = said(mount.ccfs("mount", option))
        assert (status, error) == (
            Exit.ALREADY_MOUNTED,
            f"ccfs: error: a ccfs is mounted at {mount.path} already",
        )
    assert mount.ccfs("status").returncode == 0


def test_mount_refuses_bad_mountpoint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, error = said(run_ccfs("mount", tmp_path))
    assert (status, error) == (
        Exit.BAD_MOUNTPOINT,
        f"ccfs: error: {tmp_path} is not empty",
    )


@pytest.mark.parametrize("option", ["--journal=/dev/shm/never/made", "--journal-on-disk"])
def test_mount_refuses_contradicting_options(tmp_path: Path, option: str) -> None:
    status, error = said(run_ccfs("mount", "--no-journal", option, tmp_path / "ccfs"))
    name = option.partition("=")[0]
    assert (status, error) == (
        Exit.USAGE,
        f"ccfs: error: --no-journal and {name} contradict each other",
    )
    assert not (tmp_path / "ccfs").exists()


@pytest.mark.parametrize("name", ["ccfs/kcm", "ccfs/caches/kcm"])
def test_mount_refuses_kcm_socket_below_mountpoint(tmp_path: Path, name: str) -> None:
    (tmp_path / "ccfs").mkdir()
    done = run_ccfs("mount", "--kcm-socket", tmp_path / name, tmp_path / "ccfs")
    assert said(done)[0] == Exit.KCM_SOCKET
    assert "the mount would hide" in done.stderr
    assert not (tmp_path / "ccfs/kcm").exists()
    assert not is_mounted(tmp_path / "ccfs")


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_signal_unmounts(mount: Mounted, sent: signal.Signals) -> None:
    mount.process.send_signal(sent)
    assert mount.process.wait(15) == 0
    assert not is_mounted(mount.path)


def test_second_signal_leaves_no_dead_mount(mount: Mounted) -> None:
    """A second Ctrl-C while the daemon ends changes nothing: it ends well, or has ended."""
    reader = os.open(mount.path / "changed", os.O_RDONLY | os.O_NONBLOCK)
    for _ in range(20):
        mount.process.send_signal(signal.SIGINT)
        mount.process.send_signal(signal.SIGTERM)
    os.close(reader)
    assert mount.process.wait(15) == 0
    assert not is_mounted(mount.path)


def test_dead_mount_is_reported_and_replaced(mount: Mounted) -> None:
    """Every command reports it; without a terminal it stays; --replace mounts anew."""
    mount.process.kill()
    mount.process.wait(15)
    dead = f"ccfs: error: the ccfs at {mount.path} is dead: its daemon is gone"
    for command in ("status", "list", "env", "watch", "mount"):
        done = mount.ccfs(command)
        assert said(done) == (Exit.DEAD_MOUNT, dead)
        assert "'ccfs mount --replace'" in done.stderr
    done = mount.ccfs("mount", "--replace")
    assert (done.returncode, done.stderr) == (0, "")
    assert mount.ccfs("status").returncode == 0
    assert mount.ccfs("unmount").returncode == 0
    assert not is_mounted(mount.path)


def test_unmount_removes_dead_mount(mount: Mounted) -> None:
    mount.process.kill()
    mount.process.wait(15)
    assert mount.ccfs("unmount").returncode == 0
    assert not is_mounted(mount.path)


@pytest.mark.parametrize(("answer", "status"), [("y\n", Exit.OK), ("\n", Exit.DEAD_MOUNT)])
def test_mount_asks_on_terminal_before_replacing(mount: Mounted, answer: str, status: Exit) -> None:
    mount.process.kill()
    mount.process.wait(15)
    ours, theirs = pty.openpty()
    command = [*ccfs_command(), "mount", str(mount.path)]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = read_until(ours, "replace it? [y/N] ")
        os.write(ours, answer.encode())
        assert process.wait(30) == status
    os.close(ours)
    assert "is dead" in shown
    assert (mountpoint.probe(mountpoint.find(str(mount.path))) is mountpoint.State.ALIVE) == (
        status is Exit.OK
    )
    mount.ccfs("unmount")


def read_until(descriptor: int, wanted: str, seconds: float = 30.0) -> str:
    """What comes until `wanted` does, within a bound."""
    deadline = time.monotonic() + seconds
    shown = ""
    while wanted not in shown:
        left = deadline - time.monotonic()
        assert left > 0, shown
        assert select.select([descriptor], [], [], left)[0], shown
        shown += os.read(descriptor, 4096).decode()
    return shown


def test_hanging_mount_is_distinguished_from_dead(mount: Mounted) -> None:
    found = mountpoint.find(str(mount.path))
    mount.process.send_signal(signal.SIGSTOP)
    try:
        assert mountpoint.probe(found, 0.2) is mountpoint.State.HANGING
    finally:
        mount.process.send_signal(signal.SIGCONT)
    assert mountpoint.probe(found) is mountpoint.State.ALIVE


def test_unmount_detaches_busy_mount(place: Path) -> None:
    """Its users lose it, the daemon ends all the same."""
    assert run_ccfs("mount", place).returncode == 0
    pid = daemon_pid(place)
    assert pid is not None
    daemon = os.pidfd_open(pid)
    held = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        done = run_ccfs("unmount", place)
        assert done.returncode == 0
        assert done.stderr == (f"ccfs: notice: the ccfs at {place} is in use: its users lose it\n")
        assert not is_mounted(place)
        assert select.select([daemon], [], [], 0)[0]
    finally:
        os.close(held)
        os.close(daemon)


def test_unmount_wakes_fifo_readers(place: Path) -> None:
    """A reader of `changed` keeps the mount in use, and wakes when it ends."""
    assert run_ccfs("mount", place).returncode == 0
    waiting = os.open(place / "changed", os.O_RDONLY | os.O_NONBLOCK)
    try:
        poll = select.poll()
        poll.register(waiting, select.POLLIN)
        assert poll.poll(0) == []
        assert run_ccfs("unmount", place).returncode == 0
        assert poll.poll(10_000) == [(waiting, select.POLLHUP)]
    finally:
        os.close(waiting)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_commands_of_another_user_are_refused(mount: Mounted) -> None:
    """Neither look nor unmount; in a child of another user, with this Python's modules."""
    for command in ("status", "list", "env", "watch"):
        assert as_nobody([command, str(mount.path)]) == Exit.PERMISSION
    assert as_nobody(["unmount", str(mount.path)]) == Exit.PERMISSION
    assert is_mounted(mount.path)


def as_nobody(line: list[str]) -> int:
    """The exit status of `ccfs LINE`, run with the uid NOBODY."""
    for module in ("unmount", "status", "list_", "env", "watch"):
        __import__(f"ccfs.cli.{module}")
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os._exit(main(line))
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextlib.contextmanager
def watching(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A `ccfs watch` that has shown the last event there was, and follows."""
    (path / "caches" / "before").mkdir()
    command = [*ccfs_command(), "watch", "--lines=1", str(path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert "\tbefore\t" in next_line(process)
            yield process
        finally:
            process.kill()


def next_line(process: subprocess.Popen[str]) -> str:
    """The next line that a process prints, within a bound."""
    assert process.stdout is not None
    return first_line(process.stdout, 20)


def complaint(process: subprocess.Popen[str]) -> str:
    """What a process that has ended printed on stderr."""
    assert process.stderr is not None
    return process.stderr.read()


def test_watch_prints_events_until_interrupted(mount: Mounted) -> None:
    """Each event as it comes, in the words of `events`, and no complaint at Ctrl-C."""
    with watching(mount.path) as process:
        for name in ("one", "two"):
            (mount.path / "caches" / name).mkdir()
            line = next_line(process)
            assert f"\t{name}\t" in line
            assert (mount.path / "events").read_text().endswith(line)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert complaint(process) == ""


def test_watch_ends_with_unmount(mount: Mounted) -> None:
    with watching(mount.path) as process:
        mount.process.terminate()
        assert process.wait(20) == 0
        assert complaint(process) == f"ccfs: notice: the ccfs at {mount.path} is gone\n"
        assert mount.process.wait(20) == 0


def test_watch_ends_if_mount_goes_at_once(tmp_path: Path) -> None:
    """Gone between the look at what there was and the wait for more."""
    watch._follow(tmp_path / "events", 0)


def test_watch_ends_when_daemon_dies(mount: Mounted) -> None:
    with watching(mount.path) as process:
        mount.process.kill()
        assert process.wait(20) == 0
        assert complaint(process) == f"ccfs: notice: the ccfs at {mount.path} is gone\n"


def test_closed_output_pipe_is_no_failure(mount: Mounted) -> None:
    """`ccfs status | head -0` is no failure and prints nothing on stderr."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [*ccfs_command(), "status", str(mount.path)]
    done = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_command_imports_no_server_modules() -> None:
    """Only the serving process imports the server's modules."""
    script = (
        "import sys, ccfs.cli.main, ccfs.cli.mount, ccfs.cli.env, ccfs.cli.status\n"
        "heavy = {'trio', 'pyfuse3', 'logging', 'json', 'subprocess'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "\n"
