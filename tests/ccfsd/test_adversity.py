# SPDX-License-Identifier: MIT
"""Bad luck and bad will: what happens in between, and what a user can do to ccfsd."""

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from ccfs.ccfsd.start_limit import StartLimit
from ccfs.control import messages
from tests.support.ccfsd import USERS, CcfsdHost, as_user, ccfsd_host
from tests.support.ccfsd_clients import IMAGE, KCM_DEFAULT, has_it, store
from tests.support.mounting import until_killed
from tests.support.processes import ended, is_alive
from tests.support.shell import wait_until

USER = 64106
LINGER = ("--linger-directory", "/run/systemd/linger", "--no-kcm")


@pytest.fixture
def bare_host() -> Iterator[CcfsdHost]:
    """A place without a ccfsd."""
    with ccfsd_host() as made:
        yield made


@pytest.fixture
def autojump_clock() -> MockClock:
    """A clock that goes on to the next deadline when all coroutines wait."""
    return MockClock(autojump_threshold=0.02)


@pytest.fixture
def host(bare_host: CcfsdHost) -> CcfsdHost:
    """A place with one."""
    bare_host.start(*LINGER)
    return bare_host


def kill_ccfsd(host: CcfsdHost) -> None:
    """End the one that runs, without a word."""
    host.started[-1].kill()
    host.started[-1].wait(20)


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does nothing for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def source(host: CcfsdHost, uid: int, name: str = "krb5cc") -> Path:
    """A ccache that a login has brought."""
    path = host.directory / f"{uid}" / name
    path.parent.mkdir(exist_ok=True)
    os.chown(path.parent, uid, uid)
    path.write_bytes(IMAGE)
    path.chmod(0o600)
    os.chown(path, uid, uid)
    return path


def caches(host: CcfsdHost, uid: int) -> list[str]:
    """The names of a user's ccaches."""
    return host.sh(f"ls /run/ccfs/{uid}/caches", uid).split()


def is_mounted(host: CcfsdHost, uid: int) -> bool:
    """Whether a ccfs answers at a user's place."""
    return host.sh(f"cat /run/ccfs/{uid}/info", uid, status=None).startswith("server_id: ")


def test_session_end_during_daemon_replacement_destroys_its_ccache(host: CcfsdHost) -> None:
    """The session's own ccache is destroyed by the next daemon, as none ran at its end."""
    host.open(USER)
    asked = {"import": "session", "ccache": str(source(host, USER))}
    own = host.open(USER, **asked).values
    assert own["ccache"] in caches(host, USER)
    old = host.daemon(USER)
    with stopped(host.started[-1].pid):
        os.kill(old, signal.SIGKILL)
    host.close(own["session"])
    wait_until(lambda: host.daemon(USER) not in (0, old), "no new daemon")
    wait_until(lambda: own["ccache"] not in caches(host, USER), "the ccache outlives its session")


def test_session_end_without_ccfsd_is_reported_by_next_ccfsd(host: CcfsdHost) -> None:
    """The next one tells the daemon, even if that is another by then."""
    host.open(USER)
    asked = {"import": "session", "ccache": str(source(host, USER))}
    own = host.open(USER, **asked).values
    daemon = host.daemon(USER)
    with stopped(daemon):
        host.close(own["session"])
        kill_ccfsd(host)
    os.kill(daemon, signal.SIGKILL)
    host.start(*LINGER)
    wait_until(lambda: is_mounted(host, USER), "no mount")
    wait_until(lambda: own["ccache"] not in caches(host, USER), "the ccache outlives its session")
    wait_until(lambda: not host.state()["mounts"][0]["doomed"], "it is not over")  # type: ignore[index]


def test_late_import_leaves_source(host: CcfsdHost) -> None:
    """A daemon stopped until the client gave up does not remove the source."""
    host.open(USER)
    left = source(host, USER)
    late = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with stopped(host.daemon(USER)), late:
        late.connect(str(host.run / f"daemons/{USER}"))
        late.send(messages.encode("import", ccache=str(left), into="late", when="always"))
    host.open(USER)
    assert left.exists()
    assert "late" not in caches(host, USER)


def test_login_after_unmount_gets_visible_mount(host: CcfsdHost) -> None:
    """The next login has one that can be seen."""
    host.open(USER)
    store(host, USER)
    user = host.popen(
        [*as_user(USER), "sh", "-c", f"exec 3< /run/ccfs/{USER}/README && exec sleep 60"]
    )
    wait_until(lambda: _has_open(user.pid), "it is not open")
    host.sh(f"fusermount3 -uz /run/ccfs/{USER}", USER)
    reply = host.open(USER, deadline=8000).values
    assert any(m.path == reply["path"] for m in host.mounts())
    assert is_mounted(host, USER)
    user.kill()
    user.wait()


def test_next_ccfsd_replaces_mount_unmounted_meanwhile(host: CcfsdHost) -> None:
    host.open(USER)
    store(host, USER)
    old = host.daemon(USER)
    user = host.popen(
        [*as_user(USER), "sh", "-c", f"exec 3< /run/ccfs/{USER}/README && exec sleep 60"]
    )
    wait_until(lambda: _has_open(user.pid), "it is not open")
    kill_ccfsd(host)
    host.sh(f"fusermount3 -uz /run/ccfs/{USER}", USER)
    host.start(*LINGER)
    reply = host.open(USER, deadline=8000).values
    assert any(m.path == reply["path"] for m in host.mounts())
    assert is_mounted(host, USER)
    assert not is_alive(old)
    user.kill()
    user.wait()


def _has_open(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return any(
            os.readlink(f"/proc/{pid}/fd/{n}").startswith("/run/ccfs")
            for n in os.listdir(f"/proc/{pid}/fd")
        )
    return False


def test_next_ccfsd_restores_journal_of_lingering_daemon(host: CcfsdHost) -> None:
    """The journal's content is served again, as if this ccfsd had seen the daemon end."""
    (host.root / f"run/systemd/linger/ccfs{USER}").touch()
    session = host.open(USER).values["session"]
    store(host, USER)
    host.close(session)
    assert has_it(host, USER)
    pid = host.daemon(USER)
    kill_ccfsd(host)
    descriptor = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert ended(descriptor)
    os.close(descriptor)
    host.start(*LINGER)
    host.open(USER)
    assert has_it(host, USER)


@pytest.mark.parametrize("damage", ["", '{"version": 1, "mounts": [7', '{"version": 9}', None])
def test_session_numbers_are_not_reused_after_damaged_state(
    host: CcfsdHost, damage: str | None
) -> None:
    """A late close ends no other session."""
    first = host.open(USER).values["session"]
    kill_ccfsd(host)
    if damage is None:
        (host.run / "state").unlink()
    else:
        (host.run / "state").write_text(damage)
    host.start(*LINGER)
    other = host.open(64107).values["session"]
    host.close(first)
    assert host.status()["sessions"] == 1, (first, other)


def server(host: CcfsdHost, uid: int) -> str:
    """Which daemon answers in a mount."""
    return host.sh(f"head -1 /run/ccfs/{uid}/info", uid)


def test_login_is_refused_while_state_cannot_be_written(host: CcfsdHost) -> None:
    """No mount is made that the next ccfsd would not know of; existing mounts stay."""
    host.sh("mount -o remount,size=1m /run")
    first = host.open(USER).values["session"]
    store(host, USER)
    host.sh("cat /dev/zero > /run/filling", status=None)
    with pytest.raises(messages.RefusedError, match="cannot write /run/ccfs/state: no space left"):
        host.open(64107)
    second = host.open(USER).values["session"]
    os.kill(host.daemon(USER), signal.SIGKILL)
    assert host.ask_as(USER, "mount deadline=20000").startswith("ok ")
    replaced = server(host, USER)
    kill_ccfsd(host)
    host.start(*LINGER)
    assert (server(host, USER), host.status()["sessions"]) == (replaced, 1)
    assert has_it(host, USER)
    host.sh("rm /run/filling")
    other = host.open(64107).values["session"]
    assert other not in (first, second)
    host.close(first)
    host.close(second)
    assert host.status()["sessions"] == 1


def test_import_with_overlong_name_is_answered(host: CcfsdHost) -> None:
    """It is answered, and the mount goes with the session."""
    words = f"open uid={USER} gid={USER} ccache=/"
    with host.client() as client:
        client._socket.settimeout(5)
        client._socket.send((words + "x" * (4096 - len(words))).encode())
        assert client._socket.recv(5000).startswith(b"ok session=")
    wait_until(lambda: host.status()["sessions"] == 1, "")
    host.close_all()
    wait_until(host.is_empty, "something is left")


@pytest.mark.parametrize("uid", [2147483648, 4294967294])
def test_session_of_uid_beyond_31_bits(host: CcfsdHost, uid: int) -> None:
    session = host.open(uid).values["session"]
    assert is_mounted(host, uid)
    store(host, uid)
    assert has_it(host, uid)
    host.close(session)
    wait_until(host.is_empty, "something is left")


@pytest.mark.parametrize("uid", [2147483648, 4294967294])
def test_kcm_client_with_uid_beyond_31_bits(bare_host: CcfsdHost, uid: int) -> None:
    bare_host.start("--kcm-socket", "/run/kcm")
    assert bare_host.sh(f"/usr/bin/python3 -I -c '{KCM_DEFAULT}'", uid) == f"{uid}:tkt\n"
    assert bare_host.ask_as(uid, "mount deadline=15000").startswith(f"ok path=/run/ccfs/{uid} ")


SILENT = """
import os, select, socket, struct, subprocess, sys, time
INIT = struct.pack("IIIIHHIIHHI", 7, 31, 0, 0, 9, 9, 4096, 1, 0, 0, 0) + bytes(28)
ATTRIBUTES = struct.pack("QII6Q3I7I", 0, 0, 0, 1, *[0] * 8, 0o40700, 2, os.getuid(), 0, 0, 0, 0)
ANSWERS = {26: INIT, 3: ATTRIBUTES, 17: bytes(80)}
held, poll = {}, select.poll()
def answer(fd):
    asked = os.read(fd, 1 << 17)
    _, opcode, unique = struct.unpack_from("IIQ", asked)
    reply = ANSWERS.get(opcode)
    error = -38 if reply is None else 0
    os.write(fd, struct.pack("IiQ", 16 + len(reply or b""), error, unique) + (reply or b""))
def mount(path):
    ours, theirs = socket.socketpair()
    environment = {**os.environ, "_FUSE_COMMFD": str(theirs.fileno())}
    command = ["fusermount3", "-o", sys.argv[1], "--", path]
    child = subprocess.Popen(command, env=environment, pass_fds=[theirs.fileno()])
    while child.poll() is None:
        for fd, _ in poll.poll(5):
            answer(fd)
    assert child.returncode == 0
    fd = socket.recv_fds(ours, 16, 1)[1][0]
    held[fd] = ours
    poll.register(fd, select.POLLIN)
    answer(fd)
for path in sys.argv[2:]:
    mount(path)
print("mounted", flush=True)
time.sleep(60)
"""
"""Mounts FUSE file systems that never answer on the paths given."""


@contextlib.contextmanager
def silent(host: CcfsdHost, uid: int, *paths: str) -> Iterator[None]:
    """Mount a user's own file systems, which never answer, on `paths`."""
    (host.directory / "fuse.conf").write_text("user_allow_other\n")
    host.sh(f"mount --bind {host.directory}/fuse.conf /etc/fuse.conf")
    script = host.directory / "silent.py"
    script.write_text(SILENT)
    script.chmod(0o644)
    command = [*as_user(uid), "/usr/bin/python3", "-I", str(script), "allow_other", *paths]
    process = host.popen(command, stdout=subprocess.PIPE)
    with until_killed(process, "mounted"):
        yield


@pytest.mark.parametrize("what", ["mount", "mounts", "journal", "journals"])
def test_foreign_mount_over_mountpoint_goes_with_session(host: CcfsdHost, what: str) -> None:
    """The foreign mount blocks no other user, and is unmounted at the session's end."""
    session = host.open(USER).values["session"]
    store(host, USER)
    covered = f"/run/ccfs/{USER}" if "mount" in what else f"/run/ccfs/journal/{USER}"
    paths = [covered] * (20 if what.endswith("s") else 1)
    daemon = host.daemon(USER)
    with silent(host, USER, *paths):
        os.kill(daemon, signal.SIGKILL)
        wait_until(lambda: host.daemon(USER) != daemon, "no change")
        other = host.open(64107, deadline=5000).values["session"]
        assert is_mounted(host, 64107)
        host.close(other)
        host.close(session)
        wait_until(lambda: not host.mounts(), "something is left")


def test_stop_refuses_waiting_requests(host: CcfsdHost) -> None:
    """Nothing is begun for them any more."""
    host.open(USER)
    command = ["mount deadline=20000", f"open uid={USER} gid={USER} deadline=20000"]
    with stopped(host.daemon(USER)):
        waiting = [host.client() for _ in command]
        for client, words in zip(waiting, command, strict=True):
            client._socket.send(words.encode())
        with host.client() as client:
            client.ask("status")
            client.ask("stop")
    assert host.started[-1].wait(20) == 0
    assert not host.mounts()
    for client in waiting:
        client.close()


def test_unkillable_daemon_delays_neither_logins_nor_stop(host: CcfsdHost) -> None:
    """The daemon waits in the kernel for its user's file system; logins and ccfsd's stop go on."""
    host.open(USER)
    daemon = host.daemon(USER)
    with silent(host, USER, f"/run/ccfs/journal/{USER}"):
        writer = host.popen([*as_user(USER), "mkdir", f"/run/ccfs/{USER}/caches/new"])
        wait_until(lambda: ") D " in Path(f"/proc/{daemon}/stat").read_text(), "it does not wait")
        with host.client(25) as client:
            client.ask("stop")
        assert host.started[-1].wait(20) == 0
        assert not host.mounts()
    writer.wait(20)


def test_starts_wait_for_a_ccfsd_host(autojump_clock: MockClock) -> None:
    """As many as there are places start; the next one starts when a place is given back."""

    async def scene() -> None:
        begun: list[int] = []
        starts = StartLimit[int](4, lambda mount: False)

        async def start(number: int) -> None:
            await starts.acquire(number)
            begun.append(number)
            if number >= 4:  # it fails at once
                starts.release(number)

        async with trio.open_nursery() as nursery:
            for number in range(1000):
                nursery.start_soon(start, number)
                await trio.testing.wait_all_tasks_blocked()
            assert begun == [0, 1, 2, 3]
            starts.release(0)
            starts.release(0)
        assert begun == [*range(1000)]

    trio.run(scene, clock=autojump_clock)


def test_login_does_not_wait_for_hanging_daemons(autojump_clock: MockClock) -> None:
    """Users who stop their daemons on the way keep others like them waiting, but no login."""

    async def scene() -> None:
        logins: set[int] = set()
        begun: list[int] = []
        starts = StartLimit[int](4, logins.__contains__)

        async def start(number: int) -> None:
            await starts.acquire(number)
            begun.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(start, number)
                await trio.testing.wait_all_tasks_blocked()
            logins |= {100, 8}
            nursery.start_soon(start, 100)
            await trio.testing.wait_all_tasks_blocked()
            assert begun == [0, 1, 2, 3, 100]
            starts.hasten(7)
            starts.hasten(8)  # a login waits for it now
            await trio.testing.wait_all_tasks_blocked()
            assert begun == [0, 1, 2, 3, 100, 8]
            nursery.cancel_scope.cancel()
        starts.release(8)

    trio.run(scene, clock=autojump_clock)


def test_sessions_are_refused_at_descriptor_limit(bare_host: CcfsdHost) -> None:
    """One session more is refused; the next ccfsd keeps sessions whose leader it can't inspect."""
    few = ["prlimit", "--nofile=48:48"]
    bare_host.start(*LINGER, prefix=few)
    with pytest.raises(messages.RefusedError, match="too many open files"):
        any(bare_host.open(uid).word != "ok" for uid in USERS)
    begun = bare_host.status()["sessions"]
    assert begun > 5
    kill_ccfsd(bare_host)
    bare_host.start(*LINGER, prefix=few)
    assert bare_host.status()["sessions"] == begun
    wait_until(lambda: bare_host.status()["daemons"] == begun, "daemons are lost")
    assert is_mounted(bare_host, USERS[0])
    bare_host.close_all()
    wait_until(bare_host.is_empty, "something is left")


def test_ccfsd_killed_before_state_write_leaves_no_session_mount(host: CcfsdHost) -> None:
    """No client can ask for a session's own mount before the session has begun."""
    host.open(USER, scope="session")
    written = host.state()
    kill_ccfsd(host)
    (host.run / "state").write_text(json.dumps({**written, "mounts": [], "sessions": []}))
    host.start(*LINGER)
    wait_until(host.is_empty, "something is left")
