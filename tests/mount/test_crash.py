# SPDX-License-Identifier: MIT
"""Daemons that are killed, stopped and cut off: who waits goes on, and nothing is lost.

Every mount here is one in the background with its parent process, as users have it.
"""

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ccfs.linux import mountinfo
from ccfs.linux.descriptors import wait_readable
from ccfs.linux.fusermount import Wait
from ccfs.mounting.held_requests import HeldRequests
from ccfs.mounting.mounter import FuseMount, Mounter
from ccfs.supervisor.daemon_spec import DaemonSetup, DaemonSpec
from ccfs.supervisor.supervisor import Supervisor
from reliability import kills, load, loops
from tests.support.background_mount import BackgroundMount, background_mount
from tests.support.clients.python import records
from tests.support.mounting import abort, is_mounted
from tests.support.paths import PROJECT
from tests.support.processes import children, parent, pipes, serving
from tests.support.shell import SECONDS, running, wait_until, waiting

IMAGE = records.ccache(["host/one", "host/two"])
ANEW = ("--mount-anew",)
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts, and aborts connections")


def mounted(*options: str) -> Iterator[BackgroundMount]:
    """A mount with a ccache in it."""
    with background_mount() as made:
        made.mount(*options)
        (made.path / "default/ccache").write_bytes(IMAGE)
        yield made


@pytest.fixture(params=[(), ANEW], ids=["taken over", "mounted anew"])
def here(request: pytest.FixtureRequest) -> Iterator[BackgroundMount]:
    """A mount that lives on when its daemon dies, or is replaced."""
    yield from mounted(*request.param)


@pytest.fixture
def old_way() -> Iterator[BackgroundMount]:
    """A mount that is replaced when its daemon dies, as before Linux 6.9."""
    yield from mounted(*ANEW)


def is_back(here: BackgroundMount, old: str) -> dict[str, str]:
    """Wait for another daemon, which must have everything; returns its `info`."""
    _, info = here.come_back(old, SECONDS)
    assert (here.path / "default/ccache").read_bytes() == IMAGE
    return info


def kill(here: BackgroundMount) -> str:
    """Kill the daemon; returns its server id."""
    info = here.info()
    os.kill(int(info["pid"]), signal.SIGKILL)
    return info["server_id"]


def state(pid: int) -> str:
    """The state of a process (proc(5)): "D" where not even a kill ends it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_killed_daemons_lose_no_acknowledged_write() -> None:
    """A short form of the program that does it a thousand times."""
    said = kills.kills(5, seed=3, every=5)
    assert said[0].startswith("kills: 5")
    assert "lost: 0, torn: 0" in said[1]


def test_clients_wait_for_next_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops of klist: one in the middle of an open file may fail at a kill, and no other."""
    monkeypatch.setattr(loops, "APART", 0.3)
    said = loops.loops(3)
    calls, failed = zip(*(map(int, re.findall(r"\d+", line)) for line in said[1:3]), strict=True)
    assert min(calls) > 10
    assert max(failed) <= 3


def test_restart_changes_daemon_and_keeps_content(here: BackgroundMount) -> None:
    before = here.info()
    ids = (here.path / "default/ids").read_bytes(), os.listdir(here.path / "by-id")
    names = sorted(os.listdir(here.path / "default/credentials"))
    info = is_back(here, kill(here))
    assert info["server_id"] != before["server_id"]
    assert float(info["start_time"]) >= float(before["start_time"])
    assert ((here.path / "default/ids").read_bytes(), os.listdir(here.path / "by-id")) == ids
    assert sorted(os.listdir(here.path / "default/credentials")) == names
    assert info["keeper"] == before["keeper"] not in ("0", before["pid"])


def test_scratch_files_survive_kill(here: BackgroundMount) -> None:
    """A backup, Heimdal's `ccache+user@REALM`, what sshd delegates; also one half written."""
    names = ["caches/tkt/ccache.bak", "caches/tkt/ccache+alice@KRBTEST.COM", "dir/krb5cc_1000_x"]
    for name in names:
        (here.path / name).write_bytes(IMAGE)
    half = here.path / "caches/tkt/half"
    half.write_bytes(IMAGE[:-1])
    (here.path / "default.new").symlink_to("caches/tkt")
    files, events = here.info()["files"], (here.path / "events").read_bytes()
    is_back(here, kill(here))
    assert [(here.path / name).read_bytes() for name in names] == [IMAGE] * 3
    assert half.read_bytes() == IMAGE[:-1]
    assert os.readlink(here.path / "default.new") == "caches/tkt"
    assert (files, here.info()["files"]) == ("4", "4")
    assert (here.path / "events").read_bytes().startswith(events)
    os.rename(here.path / names[0], here.path / "default/ccache")
    (here.path / names[1]).unlink()
    is_back(here, kill(here))
    assert [(here.path / name).exists() for name in names] == [False, False, True]


def test_ccache_renamed_aside_survives_kill(here: BackgroundMount) -> None:
    aside = here.path / "caches/tkt/old"
    os.rename(here.path / "default/ccache", aside)
    old = kill(here)
    here.come_back(old, SECONDS)
    assert aside.read_bytes() == IMAGE
    assert not (here.path / "default/ccache").exists()
    os.rename(aside, here.path / "default/ccache")


FULL = r"""
set -e
mount -t tmpfs -o size=1m,mode=700 none "$1"
cd "$1"; mkdir -m 700 m
ccfs mount --journal "$1/journal" "$1/m" > /dev/null
trap 'rm -f "$1/fill"; ccfs unmount "$1/m"' EXIT
cp "$2" m/default/ccache; mkdir m/caches/b
head -c 2m /dev/zero > fill 2> /dev/null || true
if said=$(cp "$3" m/default/ccache 2>&1); then exit 20; fi
case $said in *'Input/output error'*) ;; *) exit 21 ;; esac
# all agree, whatever was done
ls -l m/default/ccache | awk '{print $5}'; stat -c %s m/dir/tkt; wc -c < m/default/ccache
[ "$(sha256sum < m/default/ccache)" = "$(sha256sum < m/dir/tkt)" ]
if mv m/default/ccache m/caches/b/ccache 2> /dev/null; then exit 22; fi
if mkdir m/caches/c 2> /dev/null; then exit 23; fi
for name in tkt b c; do
    listed=$(ls m/caches | grep -cx $name || true)
    [ "$listed" = "$(test -e m/caches/$name && echo 1 || echo 0)" ]
    [ "$(ls m/caches/$name 2> /dev/null | grep -cx ccache)" = \
      "$(test -e m/caches/$name/ccache && echo 1 || echo 0)" ]
done
rm fill
cp "$3" m/default/ccache
cmp "$3" m/default/ccache
cmp "$3" m/dir/tkt
"""


@AS_ROOT
def test_views_agree_while_journal_is_full(tmp_path: Path) -> None:
    """A step that comes too late for EIO is seen by all; the next ones are not made."""
    small, big = tmp_path / "small", tmp_path / "big"
    small.write_bytes(IMAGE)
    big.write_bytes(records.ccache([f"host/{n}" for n in range(200)]))
    (tmp_path / "place").mkdir()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["unshare", "-m", "--propagation", "private", "timeout", "60", "bash", "-c", FULL]
    done = subprocess.run(
        [*command, "sh", str(tmp_path / "place"), str(small), str(big)],
        env={"PATH": path, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(set(done.stdout.split())) == 1


def test_fifo_readers_wake_after_kill(old_way: BackgroundMount) -> None:
    with waiting(old_way.path, "changed", "default/changed") as waiters:
        old = kill(old_way)
        for process in waiters:
            assert process.wait(SECONDS) == 0
    is_back(old_way, old)


def test_stopped_notifier_ends_with_its_daemon(old_way: BackgroundMount) -> None:
    """Its readers wake: no memory of a dead daemon stays."""
    with waiting(old_way.path, "changed") as (waiter,):
        [notifier] = children(old_way.pid())
        os.kill(notifier, signal.SIGSTOP)
        ended = select.poll()
        descriptor = os.pidfd_open(notifier)
        ended.register(descriptor, select.POLLIN)
        old = kill(old_way)
        assert ended.poll(SECONDS * 1000)
        os.close(descriptor)
        assert waiter.wait(SECONDS) == 0
    is_back(old_way, old)


@AS_ROOT
def test_fifo_readers_wake_after_kill_of_daemon_and_notifier(old_way: BackgroundMount) -> None:
    """The new notifier knows the way to the FIFOs, and the parent process sees when it ends."""
    daemon = old_way.pid()
    with waiting(old_way.path, "changed", "default/changed") as waiters:
        [notifier] = children(daemon)
        os.kill(notifier, signal.SIGKILL)
        wait_until(lambda: children(daemon) not in ([], [notifier]), "there is no new notifier")
        assert pipes(old_way.supervisor_pid()) & pipes(children(daemon)[0])
        (old_way.path / "caches/other").mkdir()  # it kicks, which shows that it works
        assert waiters[0].wait(SECONDS) == 0
        old = kill(old_way)
        assert waiters[1].wait(SECONDS) == 0
    is_back(old_way, old)


def test_poll_on_events_wakes_after_kill(old_way: BackgroundMount) -> None:
    with (old_way.path / "events").open("rb", buffering=0) as log:
        log.read()
        poll = select.poll()
        poll.register(log, select.POLLIN)
        assert poll.poll(0) == []
        old = kill(old_way)
        [(_, what)] = poll.poll(SECONDS * 1000)
        assert what & select.POLLERR
        with pytest.raises(OSError, match=r"not connected|aborted"):
            log.read()
    is_back(old_way, old)


@pytest.fixture
def stopped(here: BackgroundMount) -> Iterator[int]:
    """A daemon that does nothing any more."""
    daemon = here.pid()
    os.kill(daemon, signal.SIGSTOP)
    wait_until(lambda: state(daemon) == "T", "it does not stop")
    yield daemon
    with contextlib.suppress(ProcessLookupError):
        os.kill(daemon, signal.SIGCONT)


def kill_if_there(pid: int) -> None:
    """Kill a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def hangs(pid: int) -> bool:
    """Whether a process waits for an answer of the daemon, or for the directory of one that does.

    Who waits for an answer sleeps so that a signal wakes it; whatever lock it holds, others wait
    for that in D.
    """
    return Path(f"/proc/{pid}/wchan").read_text() == "request_wait_answer" or state(pid) == "D"


def test_clients_of_a_stopped_daemon_can_be_killed(here: BackgroundMount, stopped: int) -> None:
    with running(["cat", str(here.path / "info")], here.directory) as client:
        wait_until(lambda: hangs(client.pid), "it does not hang")
        client.kill()
        assert client.wait(SECONDS) == -signal.SIGKILL


def test_clients_of_a_stopped_daemon_go_on_with_it(here: BackgroundMount, stopped: int) -> None:
    with running(["cat", str(here.path / "info")], here.directory) as client:
        wait_until(lambda: hangs(client.pid), "it does not hang")
        os.kill(stopped, signal.SIGCONT)
        assert client.wait(SECONDS) == 0
    assert here.pid() == stopped


def test_clients_of_a_stopped_daemon_go_on_when_it_is_killed(
    here: BackgroundMount, stopped: int
) -> None:
    """They look their path up again, and are served by the next daemon."""
    with running(["cat", str(here.path / "info")], here.directory) as client:
        wait_until(lambda: hangs(client.pid), "it does not hang")
        os.kill(stopped, signal.SIGKILL)
        assert client.wait(SECONDS) == 0
    is_back(here, "")


@AS_ROOT
def test_aborted_connection_is_replaced(here: BackgroundMount) -> None:
    old = here.info()["server_id"]
    mount = mountinfo.topmost(str(here.path))
    assert mount is not None
    with running(["tail", "-f", str(here.path / "events")], here.directory):
        abort(mount.connection)
        is_back(here, old)


@AS_ROOT
def test_aborted_connection_of_stopped_daemon_is_replaced(
    here: BackgroundMount, stopped: int
) -> None:
    """Hanging clients go on at once; the daemon is replaced when it can end."""
    mount = mountinfo.topmost(str(here.path))
    assert mount is not None
    with running(["cat", str(here.path / "info")], here.directory) as client:
        wait_until(lambda: hangs(client.pid), "it does not hang")
        abort(mount.connection)
        assert client.wait(SECONDS) == 1
    os.kill(stopped, signal.SIGCONT)
    is_back(here, "")


def test_daemon_continues_without_supervisor(here: BackgroundMount) -> None:
    daemon, supervisor_pid = here.pid(), here.supervisor_pid()
    fork_server = parent(daemon)
    os.kill(supervisor_pid, signal.SIGKILL)
    wait_until(lambda: parent(daemon) != fork_server, "the fork server stays")
    assert (here.path / "default/ccache").read_bytes() == IMAGE
    here.unmount()
    assert not here.journal.exists()
    wait_until(lambda: not serving(here.path), "a process stays")


def test_daemon_is_replaced_after_each_death(here: BackgroundMount) -> None:
    old = here.info()["server_id"]
    for _ in range(12):
        os.kill(here.pid(), signal.SIGKILL)
        old = is_back(here, old)["server_id"]


def test_daemon_dying_before_mount_is_replaced(here: BackgroundMount) -> None:
    dead = here.pid()
    fork_server = parent(dead)
    old = kill(here)
    next_one: list[int] = []

    def is_starting() -> bool:
        next_one[:] = [pid for pid in children(fork_server) if pid != dead]
        return bool(next_one)

    wait_until(is_starting, "it is not replaced")
    os.kill(next_one[0], signal.SIGKILL)
    info = is_back(here, old)
    assert int(info["pid"]) not in (dead, next_one[0])


def test_sigterm_between_daemons_ends_supervisor(here: BackgroundMount) -> None:
    """SIGTERM for the parent process ends all of it, whenever it comes."""
    daemon, supervisor_pid = here.pid(), here.supervisor_pid()
    os.kill(daemon, signal.SIGKILL)
    os.kill(supervisor_pid, signal.SIGTERM)
    wait_until(lambda: not serving(here.path), "a process stays")


def test_sigterm_ends_stopped_daemon(here: BackgroundMount) -> None:
    """The daemon is killed after some seconds, and the mount is taken away."""
    daemon, supervisor_pid = here.pid(), here.supervisor_pid()
    os.kill(daemon, signal.SIGSTOP)
    os.kill(supervisor_pid, signal.SIGTERM)
    wait_until(lambda: not serving(here.path), "a process stays")
    assert not is_mounted(here.path)


class Scripted:
    """A daemon that ends as a test wants, in a child of the fork server."""

    def __init__(self, end: int) -> None:
        self.end = end

    def __call__(self, ready: Callable[[], None], _: DaemonSetup) -> int:
        ready()
        return self.end


class PretendedMount(Mounter):
    """Mounts nothing, and says that its mount is there, or not."""

    is_there = False

    def mount(self, wait: Wait = wait_readable) -> FuseMount:
        return FuseMount(os.open("/dev/null", os.O_RDWR), 0, 0)

    def is_mounted(self, mount: FuseMount) -> bool:
        return self.is_there

    def replace(
        self, mounts: list[FuseMount], requests: HeldRequests, wait: Wait = wait_readable
    ) -> None:
        mounts[:] = [self.mount()]


@pytest.fixture
def pretended(tmp_path: Path) -> PretendedMount:
    return PretendedMount(os.open(tmp_path, os.O_RDONLY), 0, 0)


def test_supervisor_logs_daemon_deaths(
    caplog: pytest.LogCaptureFixture, pretended: PretendedMount
) -> None:
    """The log says why there is no daemon any more."""
    caplog.set_level("INFO")
    status = Supervisor(pretended, DaemonSpec(Scripted(5))).run((), lambda: None)
    assert status == 5
    assert caplog.messages == ["the mount was taken away"]
    caplog.clear()
    assert Supervisor(pretended, DaemonSpec(Scripted(10))).run((), lambda: None) == 10
    assert caplog.messages == ["the journal can't be used, giving up"]


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """A supervisor that runs in the test takes its signals."""
    before = {
        n: signal.getsignal(n)
        for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM)
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@AS_ROOT
def test_bind_mount_of_parent_directory_sees_new_mount(tmp_path: Path) -> None:
    """With slave propagation; of the mount itself it would keep the dead one."""
    script = PROJECT / "tests/support/shared_parent.sh"
    command = ["unshare", "-m", "--propagation", "private", "sh", "-e", str(script)]
    arguments = [str(tmp_path), sys.executable]
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    before, after = done.stdout.split()
    assert before != after


def test_short_load_is_served(here: BackgroundMount) -> None:
    """A short form of the program that does it for minutes."""
    said = load.mixed(here, processes=4, seconds=1.0)
    assert said.errors == {}
    assert said.steps > 20
    assert load.open_files(here, 200) == 200
    assert load.waiters(here, 20) == 20


def test_client_operations_end_after_kill(here: BackgroundMount) -> None:
    """Killed while a client is in each operation: every one of them ends."""
    daemon = here.pid()
    os.kill(daemon, signal.SIGSTOP)
    root = here.path / "default"
    commands = [
        ["stat", f"{root}/nothing"],
        ["cat", f"{here.path}/info"],
        ["ls", f"{root}/credentials"],
        ["mkdir", f"{here.path}/caches/a"],
        ["rmdir", f"{here.path}/caches/tkt"],
        ["rm", f"{root}/ccache"],
        ["mv", f"{root}/ccache", f"{root}/b"],
        ["ln", "-s", "caches/x", f"{here.path}/link"],
        ["dd", "if=/dev/zero", f"of={root}/scratch"],
        ["truncate", "-s", "0", f"{root}/ccache"],
        ["chmod", "600", f"{root}/ccache"],
        ["df", str(here.path)],
        ["readlink", f"{here.path}/default"],
    ]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(running(c, here.directory)) for c in commands]
        stack.callback(kill_if_there, daemon)
        wait_until(lambda: all(hangs(c.pid) or c.poll() is not None for c in clients), "no hang")
        assert sum(c.poll() is None for c in clients) > 5
        os.kill(daemon, signal.SIGKILL)
        for client in clients:
            client.wait(SECONDS)
    here.come_back("", SECONDS)  # some of them have done what they wanted on the next mount


COPIED = r"""
set -e
mount -t tmpfs -o mode=755 none /dev/shm
mkdir -p -m 700 "$1/m" "$1/run"
export XDG_RUNTIME_DIR=$1/run
eval "$MOUNT" > /dev/null
pid=$(sed -n 's/^pid: //p' "$1/m/info")
parent=$(awk '{print $4}' "/proc/$pid/stat")
cp "$2" "$1/m/default/ccache"
unshare -m --propagation private sleep 60 &
copy=$!
until grep -q sleep "/proc/$copy/comm"; do :; done
journal=$(sed -n 's/^journal: //p' "$1/m/info")
test -n "$journal" && test -e "$journal"
eval "$END"
ended() { ! test -d "/proc/$1" || grep -qs '^State:.Z' "/proc/$1/status"; }
for process in $pid $parent; do
    i=0
    until ended "$process"; do i=$((i + 1)); [ $i -lt 2000 ]; sleep 0.01; done
done
! grep -q ccfs /proc/self/mountinfo
! test -e "$journal"
! cat "/proc/$copy/root$1/m/info" 2> /dev/null
kill $copy
eval "$MOUNT" > /dev/null
test ! -s "$1/m/default/credentials"
ls "$1/m/default/credentials"
ccfs unmount "$1/m"
"""
MOUNTS = {
    "ccfs": 'ccfs mount "$1/m"',
    "mount.ccfs": 'python -c "from ccfs.cli.mount_ccfs import main; raise SystemExit(main())"'
    ' ccfs "$1/m" -o user=root',
}
ENDS = {
    "ccfs unmount": 'ccfs unmount "$1/m"',
    "fusermount3": 'fusermount3 -u "$1/m"',
    "umount": 'umount "$1/m"',
    "umount -l": 'umount -l "$1/m"',
    "--replace": 'kill -9 $pid; ccfs unmount "$1/m"',
}


@AS_ROOT
@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("end", ENDS)
def test_unmount_ends_mount_copied_to_other_namespace(tmp_path: Path, mount: str, end: str) -> None:
    """Another mount namespace, as that of a container, keeps the file system alive."""
    (tmp_path / "ccache").write_bytes(IMAGE)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["unshare", "-m", "--propagation", "private", "timeout", "60", "bash", "-c", COPIED]
    done = subprocess.run(
        [*command, "sh", str(tmp_path), str(tmp_path / "ccache")],
        env={"PATH": path, "LC_ALL": "C", "MOUNT": MOUNTS[mount], "END": ENDS[end]},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
