"""Sessions: what opens one, what ends it, and what is left then."""

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ccfs.control.messages import RefusedError
from ccfs.linux import processes
from tests.support.ccfsd import Place, as_user, place, request
from tests.support.ccfsd_clients import has_it, store
from tests.support.processes import ended, is_alive
from tests.support.shell import wait_until


@pytest.fixture(scope="module")
def shared_place() -> Iterator[Place]:
    """One ccfsd for all of these; each test has users of its own."""
    with place() as made:
        made.start("--linger-directory", "/run/systemd/linger", "--no-kcm")
        yield made


@pytest.fixture
def here(shared_place: Place) -> Iterator[Place]:
    """The place, with nothing in it before and after."""
    wait_until(shared_place.is_empty, "something is there")
    yield shared_place
    for leader in shared_place.leaders:
        leader.end()
    shared_place.close_all()
    wait_until(shared_place.is_empty, "something is left")


def test_first_session_mounts_and_last_unmounts(here: Place) -> None:
    first, second = here.open(64101), here.open(64101)
    assert first.values["path"] == second.values["path"] == "/run/ccfs/64101"
    (mount,) = [one for one in here.mounts() if one.is_ccfs]
    assert first.values["device"] == f"0:{mount.connection}"
    assert (mount.owner, mount.path) == (64101, "/run/ccfs/64101")
    assert {"nosuid", "nodev", "noexec", "allow_other", "default_permissions"} <= mount.options
    assert here.status()["sessions"] == 2
    store(here, 64101)
    here.close(first.values["session"])
    assert has_it(here, 64101)
    here.close(second.values["session"])
    here.close(second.values["session"])
    wait_until(here.is_empty, "something is left")


def test_users_have_separate_mounts(here: Place) -> None:
    here.open(64101)
    here.open(64102)
    store(here, 64101)
    assert "ermission denied" in here.sh("cat /run/ccfs/64101/info", 64102, status=1)
    assert "ermission denied" in here.sh("cat /run/ccfs/64101/info", status=1)
    assert not has_it(here, 64102)


def test_unmounted_mountpoint_is_unusable(here: Place) -> None:
    """A daemon that its user ends: what is stored then is stored nowhere."""
    here.open(64101)
    daemon = here.daemon(64101)
    here.sh(f"kill -TERM {daemon}")
    wait_until(lambda: not here.mounts(), "still mounted")
    assert "ermission denied" in here.sh("echo x > /run/ccfs/64101/x", 64101, status=2)
    status = (here.run / "64101").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (0, 0, 0)
    here.open(64101)
    store(here, 64101)


def test_mount_request_mounts_again_after_users_unmount(here: Place) -> None:
    here.open(64101)
    store(here, 64101)
    here.sh("fusermount3 -u /run/ccfs/64101", 64101)
    wait_until(lambda: not here.mounts() and not here.daemon(64101), "still there")
    assert not [*(here.run / "journal").iterdir()]
    again = here.ask_as(64101, "mount deadline=20000")
    assert again.startswith("ok path=/run/ccfs/64101 device=0:")
    assert not has_it(here, 64101)
    assert here.sh("cat /run/ccfs/64101/README", 64101)


def test_session_scope_has_mount_of_its_own(here: Place) -> None:
    """scope=session: another mount, gone with it, and the user's stays."""
    user = here.open(64101)
    own = here.open(64101, scope="session")
    path = own.values["path"]
    assert path == f"/run/ccfs/64101.{own.values['session']}"
    store(here, 64101, path)
    assert not has_it(here, 64101)
    here.close(own.values["session"])
    wait_until(lambda: len(here.mounts()) == 2, "the session's mount stays")
    assert here.sh("cat /run/ccfs/64101/info", 64101)
    here.close(user.values["session"])


def test_killed_leader_ends_its_session(here: Place) -> None:
    leader, other = here.leader(64101), here.leader(64101)
    assert leader.values["path"] == other.values["path"]
    leader.end()
    wait_until(lambda: here.status()["sessions"] == 1, "the session stays")
    assert here.sh("cat /run/ccfs/64101/info", 64101)
    other.end()
    wait_until(here.is_empty, "something is left")


def test_sessions_of_one_process_end_with_it(here: Place) -> None:
    """Each ends by itself, and all with the process."""
    leader = here.leader(64101, 64101, 64102)
    wait_until(lambda: here.status()["sessions"] == 3, "a session is missing")
    here.close(leader.values["session"])
    assert here.status() | {"pid": 0} == {"pid": 0, "daemons": 2, "sessions": 2}
    assert here.sh("cat /run/ccfs/64101/info", 64101)
    leader.end()
    wait_until(here.is_empty, "something is left")


def test_reused_pid_does_not_end_session() -> None:
    """Nobody else is taken for one who has ended."""
    me = processes.find(os.getpid())
    assert me is not None
    descriptor = processes.open_pidfd(me)
    assert descriptor is not None
    os.close(descriptor)
    assert processes.open_pidfd(replace(me, start=me.start - 1)) is None


def test_abandoned_login_has_no_session(here: Place) -> None:
    """A login whose time is over before the mount is there, and one that dies meanwhile."""
    for _ in range(3):
        client = here.client()
        client._socket.send(b"open uid=64101 gid=64101 user=x scope=user service=t deadline=20000")
        client.close()
    wait_until(lambda: here.status()["sessions"] == 0, "a session without anybody")
    wait_until(here.is_empty, "something is left")


def test_login_during_last_logout_gets_new_mount(here: Place) -> None:
    """It gets a new mount in the place of the old one, within its own time."""
    first = here.open(64101)
    store(here, 64101)
    old = here.daemon(64101)
    here.close(first.values["session"])
    second = here.open(64101)
    assert here.daemon(64101) not in (0, old)
    assert second.values["session"] != first.values["session"]
    assert not has_it(here, 64101)
    assert here.sh("cat /run/ccfs/64101/info", 64101)


def test_eight_concurrent_logins_share_mounts(here: Place) -> None:
    replies: list[str] = []
    users = [64101, 64102] * 4

    def login(uid: int) -> None:
        replies.append(here.open(uid).values["path"])

    threads = [threading.Thread(target=login, args=(uid,)) for uid in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(replies) == sorted(f"/run/ccfs/{uid}" for uid in users)
    assert here.status() == {"pid": here.status()["pid"], "daemons": 2, "sessions": 8}


def test_logout_unmounts_busy_mount(here: Place) -> None:
    session = here.open(64101).values["session"]
    waiter = here.popen(
        [*as_user(64101), "sh", "-c", "cd /run/ccfs/64101/caches && cat ../changed"]
    )
    wait_until(lambda: _waits(waiter.pid), "it never waits")
    here.close(session)
    assert waiter.wait(20) == 0
    wait_until(here.is_empty, "something is left")


def _waits(pid: int) -> bool:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    whiles = [Path(f"/proc/{one}/wchan").read_text() for one in [pid, *children]]
    return "wait_for_partner" in whiles


def test_lingering_user_keeps_mount(here: Place) -> None:
    (here.root / "run/systemd/linger/ccfs64101").touch()
    here.close(here.open(64101).values["session"])
    store(here, 64101)
    here.close(here.open(64101).values["session"])
    assert has_it(here, 64101)
    (here.root / "run/systemd/linger/ccfs64101").unlink()
    here.close(here.open(64101).values["session"])
    wait_until(here.is_empty, "something is left")


def test_sessions_are_opened_and_closed_by_root_only(here: Place) -> None:
    session = here.open(64101).values["session"]
    for words in (f"close session={session}", "status", "stop", "open uid=64102 gid=64102"):
        assert here.ask_as(64102, words) == "error only root may ask for that"
    assert here.status()["sessions"] == 1


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
def test_malformed_open_requests_are_refused(here: Place, wrong: dict[str, str]) -> None:
    with here.client() as client, pytest.raises(RefusedError):
        client.ask("open", **{**request(64101), **wrong})


def test_session_numbers_are_not_reused(here: Place) -> None:
    numbers = []
    for _ in range(3):
        session = here.open(64101).values["session"]
        numbers.append(int(session))
        here.close(session)
    assert numbers == sorted({*numbers})


def test_root_gets_mount_like_a_user(here: Place) -> None:
    session = here.open(0, gid=0, user="root").values["session"]
    assert here.sh("cat /run/ccfs/0/info").startswith("server_id: ")
    pid = here.daemon(0)
    pidfd = os.pidfd_open(pid)
    here.close(session)
    assert ended(pidfd)
    os.close(pidfd)
    assert not is_alive(pid)
