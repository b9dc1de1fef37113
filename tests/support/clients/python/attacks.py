# SPDX-License-Identifier: MIT
"""Attacks on mounts: `attacks.py NAME`, as root in a mount namespace of its own.

Each prints "held" when ccfs has withstood it, and ends with an AssertionError when not.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ccfs.journal import location
from ccfs.linux import mount_calls, mountinfo
from ccfs.mounting import mountpoint
from tests.support.clients.python import records

USER = 65534
HOME = Path("/run/users/home")
PLACE = HOME / "tickets"
SECONDS = 20.0
TGT = records.ccache(["krbtgt/KRBTEST.COM"])
COMMAND = [sys.executable, "-m", "ccfs"]


def as_user() -> None:
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)


def run(
    *words: str | Path, user: bool = False, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command with a bound, as root or the user; `environment`: variables more."""
    plain = {key: value for key, value in os.environ.items() if key != "XDG_RUNTIME_DIR"}
    return subprocess.run(
        [str(word) for word in words],
        preexec_fn=as_user if user else None,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
        env=plain | dict(environment or {}),
    )


def ccfs(*words: str | Path, user: bool = False) -> None:
    """Run `ccfs`, which has to succeed."""
    done = run(*COMMAND, *words, user=user)
    assert done.returncode == 0, done.stderr


def mount_ccfs(
    place: Path = PLACE, *options: str, first: str = ""
) -> subprocess.CompletedProcess[str]:
    """`mount -t ccfs` as mount(8) runs it, by root for the user; `first`: Python to run before."""
    given = ",".join([f"user={USER}", *options])
    code = f"import sys; {first}from ccfs.cli import mount_ccfs; sys.exit(mount_ccfs.main())"
    return run(sys.executable, "-c", code, "ccfs", place, "-o", given)


def info(place: Path = PLACE) -> dict[str, str]:
    """The lines of `info`, as the user reads them."""
    said = run("timeout", "10", "cat", place / "info", user=True)
    return dict(line.split(": ", 1) for line in said.stdout.splitlines() if ": " in line)


def wait_for(what: Callable[[], bool], why: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline, why
        time.sleep(0.01)


def kill(place: Path = PLACE) -> str:
    """Kill a daemon; returns its server id."""
    said = info(place)
    os.kill(int(said["pid"]), signal.SIGKILL)
    return said["server_id"]


def is_back(old: str, place: Path = PLACE) -> None:
    wait_for(lambda: info(place).get("server_id", old) != old, "it is not replaced")


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_gone(*pids: int) -> bool:
    return not any(_lives(pid) for pid in pids)


def _lives(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def mounted(path: Path) -> list[mountinfo.Mount]:
    return [mount for mount in mountinfo.mounts() if mount.path == str(path)]


def left_in_memory() -> list[str]:
    return [name for name in os.listdir("/dev/shm") if name.startswith("ccfs")]


def make_home() -> None:
    HOME.mkdir(parents=True)
    os.chown(HOME, USER, USER)
    PLACE.mkdir(mode=0o700)
    os.chown(PLACE, USER, USER)


def store(place: Path = PLACE) -> None:
    """A TGT in the default ccache."""
    child = os.fork()
    if child == 0:
        as_user()
        (place / "default/ccache").write_bytes(TGT)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


# The attacks.


def mount_ccfs_is_not_led_elsewhere_at_a_death() -> None:
    """The user moves the mountpoint away and puts a link to /run/etc in its place."""
    target = Path("/run/etc")
    target.mkdir()
    (target / "passwd").write_text("root\n")
    assert mount_ccfs(PLACE, "allow_root").returncode == 0
    for _ in range(4):
        old = info()
        supervisor_pid = parent(int(old["pid"]))
        moved = HOME.with_name("moved")
        os.kill(int(old["pid"]), signal.SIGKILL)
        os.rename(HOME, moved)  # HOME is the user's, and so is what is above in an attack
        HOME.mkdir()
        PLACE.symlink_to(target)
        is_back(old["server_id"], moved / "tickets")
        assert not mounted(target)
        assert (target / "passwd").read_text() == "root\n"
        PLACE.unlink()
        HOME.rmdir()
        os.rename(moved, HOME)
        assert _lives(supervisor_pid)
    ccfs("unmount", PLACE)
    wait_for(lambda: not mounted(PLACE), "it stays")


def mount_ccfs_follows_no_link_of_a_user() -> None:
    target = Path("/run/etc")
    target.mkdir()
    PLACE.rmdir()
    PLACE.symlink_to(target)
    done = mount_ccfs()
    assert done.returncode != 0
    assert "is a symbolic link that another user can change" in done.stderr
    above = HOME / "above"
    above.symlink_to("/run")
    done = mount_ccfs(above / "etc")
    assert done.returncode != 0
    assert not mounted(target)


def root_mounts_in_no_directory_of_a_user() -> None:
    """As with `su`, which keeps XDG_RUNTIME_DIR."""
    runtime = Path(f"/run/user/{USER}")
    runtime.mkdir(parents=True)
    os.chown(runtime, USER, USER)
    done = run(*COMMAND, "mount", environment={"XDG_RUNTIME_DIR": str(runtime)})
    assert (done.returncode, mounted(runtime / "ccfs")) == (8, [])
    assert "another user" in done.stderr or "belongs to uid" in done.stderr, done.stderr
    assert "hint:" in done.stderr
    (runtime / "ccfs").symlink_to("/run/etc")
    done = run(*COMMAND, "mount", environment={"XDG_RUNTIME_DIR": str(runtime)})
    assert done.returncode == 8
    assert not mounted(Path("/run/etc"))


def root_uses_no_path_of_a_user() -> None:
    """For its KCM socket and its journal: a directory above could be swapped before each use."""
    private = HOME / "private"
    private.mkdir(mode=0o700)  # root's own, in a directory of the user's
    for option in ("--kcm-socket", "--journal"):
        done = run(*COMMAND, "mount", option, private / "x", "/run/mine")
        assert (done.returncode, os.listdir(private)) == (8, [])
        assert "can be changed by another user" in done.stderr
    assert not mounted(Path("/run/mine"))


def nothing_is_stored_below_while_a_daemon_is_replaced() -> None:
    """Clients that make what they miss, while daemons are killed: mount.ccfs and `ccfs mount`.

    mount.ccfs also as before Linux 6.5, where no mount can be made beneath another.
    """
    old_kernel = "import ccfs.mounting.mounter as m; m.beneath = lambda *_: None; "
    for begin in (
        lambda: mount_ccfs(),
        lambda: mount_ccfs(first=old_kernel),
        lambda: run(*COMMAND, "mount", PLACE, user=True),
    ):
        below = os.open(PLACE, os.O_RDONLY)
        assert begin().returncode == 0
        stop = HOME / "stop"
        script = f"""
            while [ ! -e {stop} ]; do
                mkdir -p {PLACE}/dir 2>/dev/null
                for at in dir/tkt default/ccache caches/tkt/ccache; do
                    cat /run/tgt > {PLACE}/$at
                done
            done 2>/dev/null"""
        Path("/run/tgt").write_bytes(TGT)
        with subprocess.Popen(["sh", "-c", script], preexec_fn=as_user) as writer:
            for _ in range(4):
                is_back(kill())
                found = [name for name in os.listdir(below) if _holds_something(below, name)]
                assert not found, found
            stop.touch()
            assert writer.wait(SECONDS) in (0, 1)
        assert not os.listdir(below)
        ccfs("unmount", PLACE)
        wait_for(lambda: not mounted(PLACE), "it stays")
        wait_for(lambda: not os.listdir(below), "the directory is not given back")  # noqa: B023
        stop.unlink()
        os.close(below)


def _holds_something(directory: int, name: str) -> bool:
    at = os.open(name, os.O_RDONLY, dir_fd=directory)
    try:
        return not os.path.isdir(f"/proc/self/fd/{at}") or bool(os.listdir(at))
    finally:
        os.close(at)


def two_mounts_of_one_place() -> None:
    both = [
        subprocess.Popen(
            [*COMMAND, "mount", PLACE],
            preexec_fn=as_user,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={k: v for k, v in os.environ.items() if k != "XDG_RUNTIME_DIR"},
        )
        for _ in range(2)
    ]
    ends = [process.wait(60) for process in both]
    assert sorted(ends) == [0, 4], ends
    assert len(mounted(PLACE)) == 1
    ccfs("unmount", PLACE, user=True)
    assert not mounted(PLACE)
    assert not left_in_memory()


def unmount_ends_a_stopped_daemon() -> None:
    ccfs("mount", PLACE, user=True)
    store()
    daemon = int(info()["pid"])
    supervisor_pid = parent(daemon)
    os.kill(daemon, signal.SIGSTOP)
    ccfs("unmount", PLACE, user=True)
    assert is_gone(daemon, supervisor_pid)
    assert not mounted(PLACE)
    assert not left_in_memory()


def unmount_clears_what_killed_processes_left() -> None:
    ccfs("mount", PLACE, user=True)
    store()
    daemon = int(info()["pid"])
    for pid in (parent(daemon), daemon):
        os.kill(pid, signal.SIGKILL)
    assert left_in_memory()
    wait_for(lambda: is_gone(daemon), "it lives")
    ccfs("unmount", PLACE, user=True)
    assert not left_in_memory()
    assert not os.listdir(PLACE)
    ccfs("mount", PLACE, user=True)
    assert run("cat", PLACE / "default/ccache", user=True).stdout == ""
    ccfs("unmount", PLACE, user=True)


def root_unmounts_a_mount_of_a_user() -> None:
    """Root can't read `info`: the processes are found by the lock, the journal by its owner."""
    for kills in (False, True):
        ccfs("mount", PLACE, user=True)
        store()
        daemon = int(info()["pid"])
        supervisor_pid = parent(daemon)
        for pid in (supervisor_pid, daemon) if kills else ():
            os.kill(pid, signal.SIGKILL)
        ccfs("unmount", PLACE)
        wait_for(lambda: is_gone(daemon, supervisor_pid), "a process stays")  # noqa: B023
        assert not mounted(PLACE)
        assert not left_in_memory()


def unmount_with_a_copy_in_another_namespace() -> None:
    ccfs("mount", PLACE, user=True)
    store()
    daemon = int(info()["pid"])
    command = ["unshare", "-m", "--propagation", "private", "sh", "-c", "echo ready; exec cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        ccfs("unmount", PLACE, user=True)
        assert is_gone(daemon)
        assert not left_in_memory()
        ccfs("mount", PLACE, user=True)
        ccfs("unmount", PLACE, user=True)
        other.kill()


def a_directory_above_is_renamed() -> None:
    """The dead daemon is replaced where its mount is now, with all that it had."""
    ccfs("mount", PLACE, user=True)
    store()
    old, moved = info()["server_id"], HOME.with_name("elsewhere")
    os.rename(HOME, moved)
    os.kill(int(info(moved / "tickets")["pid"]), signal.SIGKILL)
    is_back(old, moved / "tickets")
    assert run("cat", moved / "tickets/info", user=True).returncode == 0
    size = run("stat", "-L", "-c", "%s", moved / "tickets/default/ccache", user=True).stdout
    assert int(size) == len(TGT)
    ccfs("unmount", moved / "tickets", user=True)
    assert not left_in_memory()


def descriptors_above_the_limit() -> None:
    """`exec 900</etc/shadow; ulimit -Sn 64`: neither the daemon nor its notifier has it."""
    code = "import sys; from ccfs.cli import mount_ccfs; sys.exit(mount_ccfs.main())"
    given = f"user={USER}"
    for command in (
        [sys.executable, "-c", code, "ccfs", str(PLACE), "-o", given],
        [*COMMAND, "mount", "/run/mine"],
    ):
        opened = os.open("/etc/shadow", os.O_RDONLY)
        os.dup2(opened, 900)
        os.close(opened)
        script = 'ulimit -Sn 64; exec "$@"'
        done = subprocess.run(
            ["sh", "-c", script, "sh", *command], pass_fds=[900], timeout=60, check=False
        )
        os.close(900)
        assert done.returncode == 0
        place = PLACE if mounted(PLACE) else Path("/run/mine")
        ours = [pid for pid in os.listdir("/proc") if pid.isdigit() and str(place) in _words(pid)]
        assert len(ours) >= 3, ours
        for pid in ours:
            held = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
            assert "/etc/shadow" not in held
        ccfs("unmount", place)
        wait_for(lambda: not mounted(place), "it stays")  # noqa: B023


def _words(pid: str) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    return []


def a_mount_that_fails_leaves_nothing() -> None:
    """`ulimit -f 1`: the journal can't be written."""
    script = 'ulimit -f 1; exec "$@"'
    done = run("sh", "-c", script, "sh", *COMMAND, "mount", PLACE, user=True)
    assert done.returncode != 0
    assert not mounted(PLACE)
    assert not left_in_memory()
    assert not os.listdir(PLACE)


def umount_hits_only_the_mount_that_was_meant() -> None:
    """A directory above is swapped between the look at the mount table and umount2(2)."""
    other = Path("/run/other/tickets")
    other.mkdir(parents=True)
    mount_calls.mount("none", str(other), "tmpfs", 0, "")
    mount_calls.mount("none", str(PLACE), "tmpfs", 0, "")
    found = mountinfo.topmost(str(PLACE))
    assert found is not None
    os.rename(HOME, HOME.with_name("moved"))
    HOME.symlink_to(other.parent)
    with contextlib.suppress(OSError):
        mount_calls.umount_exactly(str(PLACE), found.id, lazy=True)
    assert mounted(other)


def names_in_shared_memory_are_a_strangers() -> None:
    """Another user makes and removes names there meanwhile."""
    prefix = f"/dev/shm/ccfs-journal-{location._mountpoint_hash(str(PLACE))}-"
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            for number in range(200):
                os.mkdir(f"{prefix}{number}")
            for number in range(200):
                os.rmdir(f"{prefix}{number}")

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(4):
            ccfs("mount", PLACE, user=True)
            ccfs("unmount", PLACE, user=True)
    finally:
        stop.set()
        thread.join()


def the_parent_can_not_be_traced() -> None:
    """It holds the descriptor of the FUSE connection (PTRACE_ATTACH, /proc/PID/fd)."""
    ccfs("mount", PLACE, user=True)
    daemon = int(info()["pid"])
    for pid in (daemon, parent(daemon)):
        assert run("ls", f"/proc/{pid}/fd", user=True).returncode != 0
        child = os.fork()
        if child == 0:
            as_user()
            libc = ctypes.CDLL(None, use_errno=True)
            attached = libc.ptrace(16, pid, 0, 0)
            os._exit(0 if attached == -1 else 1)
        assert os.waitpid(child, 0)[1] == 0
    ccfs("unmount", PLACE, user=True)


@contextlib.contextmanager
def stage() -> Iterator[None]:
    others = {mount.id for mount in mountinfo.mounts()}
    make_home()
    try:
        yield
    finally:
        ours = [one for one in mountinfo.mounts() if one.is_ccfs and one.id not in others]
        for mount in reversed(ours):
            mountpoint.abort(mount)
            with contextlib.suppress(OSError):
                mountpoint.unmount(mount.path, lazy=True)
        shutil.rmtree(HOME, ignore_errors=True)


if __name__ == "__main__":
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    with stage():
        globals()[sys.argv[1]]()
    print("held")
