# SPDX-License-Identifier: MIT
"""Sessions: what opens one, what ends it, and what is left then."""

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ccfs.control.messages import RefusedError
from ccfs.linux import processes
from tests.support.ccfsd import CcfsdHost, as_user, ccfsd_host, request
from tests.support.ccfsd_clients import has_it, store
from tests.support.processes import ended, is_alive
from tests.support.shell import wait_until


@pytest.fixture(scope="module")
def shared_host() -> Iterator[CcfsdHost]:
    """One ccfsd for all of these; each test has users of its own."""
    with ccfsd_host() as made:
        made.start("--linger-directory", "/run/systemd/linger", "--no-kcm")
        yield made


@pytest.fixture
def host(shared_host: CcfsdHost) -> Iterator[CcfsdHost]:
    """The place, with nothing in it before and after."""
    wait_until(shared_host.is_empty, "something is there")
    yield shared_host
    for leader in shared_host.leaders:
        leader.end()
    shared_host.close_all()
    wait_until(shared_host.is_empty, "something is left")


def test_first_session_mounts_and_last_unmounts(host: CcfsdHost) -> None:
    first, second = host.open(64101), host.open(64101)
    assert first.values["path"] == second.values["path"] == "/run/ccfs/64101"
    (mount,) = [one for one in host.mounts() if one.is_ccfs]
    assert first.values["device"] == f"0:{mount.connection}"
    assert (mount.owner, mount.path) == (64101, "/run/ccfs/64101")
    assert {"nosuid", "nodev", "noexec", "allow_other", "default_permissions"} <= mount.options
    assert host.status()["sessions"] == 2
    store(host, 64101)
    host.close(first.values["session"])
    assert has_it(host, 64101)
    host.close(second.values["session"])
    host.close(second.values["session"])
    wait_until(host.is_empty, "something is left")


def test_users_have_separate_mounts(host: CcfsdHost) -> None:
    host.open(64101)
    host.open(64102)
    store(host, 64101)
    assert "ermission denied" in host.sh("cat /run/ccfs/64101/info", 64102, status=1)
    assert "ermission denied" in host.sh("cat /run/ccfs/64101/info", status=1)
    assert not has_it(host, 64102)


def test_unmounted_mountpoint_is_unusable(host: CcfsdHost) -> None:
    """A daemon that its user ends: what is stored then is stored nowhere."""
    host.open(64101)
    daemon = host.daemon(64101)
    host.sh(f"kill -TERM {daemon}")
    wait_until(lambda: not host.mounts(), "still mounted")
    assert "ermission denied" in host.sh("echo x > /run/ccfs/64101/x", 64101, status=2)
    status = (host.run / "64101").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (0, 0, 0)
    host.open(64101)
    store(host, 64101)


def test_mount_request_mounts_again_after_users_unmount(host: CcfsdHost) -> None:
    host.open(64101)
    store(host, 64101)
    host.sh("fusermount3 -u /run/ccfs/64101", 64101)
    wait_until(lambda: not host.mounts() and not host.daemon(64101), "still there")
    assert not [*(host.run / "journal").iterdir()]
    again = host.ask_as(64101, "mount deadline=20000")
    assert again.startswith("ok path=/run/ccfs/64101 device=0:")
    assert not has_it(host, 64101)
    assert host.sh("cat /run/ccfs/64101/README", 64101)


def test_session_scope_has_mount_of_its_own(host: CcfsdHost) -> None:
    """scope=session: another mount, gone with it, and the user's stays."""
    user = host.open(64101)
    own = host.open(64101, scope="session")
    path = own.values["path"]
    assert path == f"/run/ccfs/64101.{own.values['session']}"
    store(host, 64101, path)
    assert not has_it(host, 64101)
    host.close(own.values["session"])
    wait_until(lambda: len(host.mounts()) == 2, "the session's mount stays")
    assert host.sh("cat /run/ccfs/64101/info", 64101)
    host.close(user.values["session"])


def test_killed_leader_ends_its_session(host: CcfsdHost) -> None:
    leader, other = host.leader(64101), host.leader(64101)
    assert leader.values["path"] == other.values["path"]
    leader.end()
    wait_until(lambda: host.status()["sessions"] == 1, "the session stays")
    assert host.sh("cat /run/ccfs/64101/info", 64101)
    other.end()
    wait_until(host.is_empty, "something is left")


def test_sessions_of_one_process_end_with_it(host: CcfsdHost) -> None:
    """Each ends by itself, and all with the process."""
    leader = host.leader(64101, 64101, 64102)
    wait_until(lambda: host.status()["sessions"] == 3, "a session is missing")
    host.close(leader.values["session"])
    assert host.status() | {"pid": 0} == {"pid": 0, "daemons": 2, "sessions": 2}
    assert host.sh("cat /run/ccfs/64101/info", 64101)
    leader.end()
    wait_until(host.is_empty, "something is left")


def test_reused_pid_does_not_end_session() -> None:
    """A process with the same pid and another start time is not the leader."""
    me = processes.find(os.getpid())
    assert me is not None
    descriptor = processes.open_pidfd(me)
    assert descriptor is not None
    os.close(descriptor)
    assert processes.open_pidfd(replace(me, start=me.start - 1)) is None


def test_abandoned_login_has_no_session(host: CcfsdHost) -> None:
    """A login whose time is over before the mount is there, and one that dies meanwhile."""
    for _ in range(3):
        client = host.client()
        client._socket.send(b"open uid=64101 gid=64101 user=x scope=user service=t deadline=20000")
        client.close()
    wait_until(lambda: host.status()["sessions"] == 0, "a session without anybody")
    wait_until(host.is_empty, "something is left")


def test_login_during_last_logout_gets_new_mount(host: CcfsdHost) -> None:
    """It gets a new mount in the place of the old one, within its own time."""
    first = host.open(64101)
    store(host, 64101)
    old = host.daemon(64101)
    host.close(first.values["session"])
    second = host.open(64101)
    assert host.daemon(64101) not in (0, old)
    assert second.values["session"] != first.values["session"]
    assert not has_it(host, 64101)
    assert host.sh("cat /run/ccfs/64101/info", 64101)


def test_eight_concurrent_logins_share_mounts(host: CcfsdHost) -> None:
    replies: list[str] = []
    users = [64101, 64102] * 4

    def login(uid: int) -> None:
        replies.append(host.open(uid).values["path"])

    threads = [threading.Thread(target=login, args=(uid,)) for uid in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(replies) == sorted(f"/run/ccfs/{uid}" for uid in users)
    assert host.status() == {"pid": host.status()["pid"], "daemons": 2, "sessions": 8}


def test_logout_unmounts_busy_mount(host: CcfsdHost) -> None:
    session = host.open(64101).values["session"]
    waiter = host.popen(
        [*as_user(64101), "sh", "-c", "cd /run/ccfs/64101/caches && cat ../changed"]
    )
    wait_until(lambda: _waits(waiter.pid), "it never waits")
    host.close(session)
    assert waiter.wait(20) == 0
    wait_until(host.is_empty, "something is left")


def _waits(pid: int) -> bool:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    whiles = [Path(f"/proc/{one}/wchan").read_text() for one in [pid, *children]]
    return "wait_for_partner" in whiles


def test_lingering_user_keeps_mount(host: CcfsdHost) -> None:
    (host.root / "run/systemd/linger/ccfs64101").touch()
    host.close(host.open(64101).values["session"])
    store(host, 64101)
    host.close(host.open(64101).values["session"])
    assert has_it(host, 64101)
    (host.root / "run/systemd/linger/ccfs64101").unlink()
    host.close(host.open(64101).values["session"])
    wait_until(host.is_empty, "something is left")


def test_sessions_are_opened_and_closed_by_root_only(host: CcfsdHost) -> None:
    session = host.open(64101).values["session"]
    for words in (f"close session={session}", "status", "stop", "open uid=64102 gid=64102"):
        assert host.ask_as(64102, words) == "error only root may ask for that"
    assert host.status()["sessions"] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"uid": "-1"},
        {"uid": "4294967295"},
        {"gid": "4294967295"},
        {"uid": "x"},
        {"gid": ""},
        {"scope": "world"},
        {"import": "always"},
        {"deadline": "soon"},
    ],
)
def test_malformed_open_requests_are_refused(host: CcfsdHost, wrong: dict[str, str]) -> None:
    with host.client() as client, pytest.raises(RefusedError):
        client.ask("open", **{**request(64101), **wrong})


def test_session_numbers_are_not_reused(host: CcfsdHost) -> None:
    numbers = []
    for _ in range(3):
        session = host.open(64101).values["session"]
        numbers.append(int(session))
        host.close(session)
    assert numbers == sorted({*numbers})


def test_root_gets_mount_like_a_user(host: CcfsdHost) -> None:
    session = host.open(0, gid=0, user="root").values["session"]
    assert host.sh("cat /run/ccfs/0/info").startswith("server_id: ")
    pid = host.daemon(0)
    pidfd = os.pidfd_open(pid)
    host.close(session)
    assert ended(pidfd)
    os.close(pidfd)
    assert not is_alive(pid)
