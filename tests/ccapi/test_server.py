# SPDX-License-Identifier: MIT
"""The CCAPI's server as a client finds it: none, the wrong one, a dead one, a new one."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from ccfs import ccapi as cc
from ccfs.ccapi import mount_client, mount_finder
from ccfs.mounting.mountpoint import unmount
from tests.support.ccapi import (
    ALICE,
    BOB,
    V5,
    Running,
    credential,
    eventually,
    lock_waiters,
    parked,
    refuses,
    restart,
)
from tests.support.mounting import MakeMount, Mounted, fusectl, is_mounted

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
NOBODY = 65534


def needing_a_server(context: cc.Context) -> list[tuple[Callable[..., object], object]]:
    """The calls of a context that can't be answered without a server."""
    return [
        (context.create_ccache, ("x", V5, ALICE)),
        (context.create_default_ccache, (V5, ALICE)),
        (context.create_new_ccache, (V5, ALICE)),
        (context.lock, (cc.cc_lock_read, cc.cc_lock_noblock)),
        (context.unlock, ()),
        (context.wait_for_change, ()),
    ]


def reading(context: cc.Context) -> list[tuple[Callable[..., object], object]]:
    """The calls of a context that have an answer without a server."""
    return [
        (context.get_change_time, ()),
        (context.get_default_ccache_name, ()),
        (context.open_ccache, ("x",)),
        (context.open_default_ccache, ()),
        (context.new_ccache_iterator, ()),
        (context.compare, (context,)),
    ]


def refuses_all(code: int, context: cc.Context) -> None:
    """Assert that every call of a context fails with a code."""
    for call, arguments in needing_a_server(context) + reading(context):
        refuses(code, call, *arguments)


def is_without_a_server(context: cc.Context) -> None:
    """Assert that a context answers as where nothing is mounted."""
    for call, arguments in needing_a_server(context):
        refuses(cc.ccErrServerUnavailable, call, *arguments)
    assert context.get_default_ccache_name() == "tkt"
    refuses(cc.ccErrCCacheNotFound, context.open_ccache, "x")
    refuses(cc.ccErrBadParam, context.open_ccache, None)
    refuses(cc.ccErrCCacheNotFound, context.open_default_ccache)
    iterator = context.new_ccache_iterator()
    refuses(cc.ccIteratorEnd, iterator.next)
    assert list(iterator.clone()) == []
    iterator.release()
    assert context.compare(context)


@pytest.fixture
def nothing(tmp_path: Path) -> Iterator[list[Path]]:
    """Paths at which nothing is mounted."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    return [tmp_path / name for name in ("directory", "file", "missing", "file/below")]  # type: ignore[return-value]


def test_context_without_mount_has_no_server(nothing: list[Path]) -> None:
    for path in nothing:
        context = cc.initialize(mount=path)
        assert context.get_change_time() == 0
        is_without_a_server(context)
        context.release()
        refuses(cc.ccErrInvalidContext, context.get_change_time)


@pytest.mark.parametrize("path", ["/proc", "/dev/shm"])
def test_other_file_system_is_insecure(path: str) -> None:
    assert os.path.ismount(path)
    refuses_all(cc.ccErrServerInsecure, cc.initialize(mount=path))


def test_directory_in_mount_is_not_a_mount(mount: Mounted) -> None:
    is_without_a_server(cc.initialize(mount=mount.path / "caches"))


def test_context_finds_mount_made_later(tmp_path: Path, mount: Mounted) -> None:
    link = tmp_path / "ccfs"
    context = cc.initialize(mount=link)
    is_without_a_server(context)
    link.symlink_to(mount.path)
    assert context.create_default_ccache(V5, ALICE).get_principal(V5) == ALICE
    assert context.compare(cc.initialize(mount=mount.path))


def test_default_mount_is_in_runtime_directory_or_run_ccfs(
    mount: Mounted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert mount_finder.default_paths() == [f"{tmp_path}/ccfs", f"/run/ccfs/{os.geteuid()}"]
    (tmp_path / "ccfs").symlink_to(mount.path)
    assert cc.initialize().compare(cc.initialize(mount=mount.path))
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert mount_finder.default_paths() == [f"/run/ccfs/{os.geteuid()}"]


CLIENT = """
import sys
from ccfs import ccapi as cc
try:
    cc.initialize(mount=sys.argv[1]).get_change_time()
    print("answered")
except cc.CCAPIError as error:
    print(error.name)
"""


def as_nobody(path: Path) -> str:
    """The outcome for a client of another user."""
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, str(path)],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout.strip()


@AS_ROOT
@pytest.mark.parametrize("options", [(), ("--allow-other",), ("--allow-root",)])
def test_mount_of_another_user_is_insecure(make_mount: MakeMount, options: tuple[str]) -> None:
    mounted = make_mount(*options)
    mounted.path.parent.chmod(0o711)
    assert as_nobody(mounted.path) == "ccErrServerInsecure"


def test_forged_info_file_is_not_a_mount(tmp_path: Path) -> None:
    (tmp_path / "info").write_text("server_id: 0123456789abcdef\nchange_time: 7\n")
    (tmp_path / "by-id").mkdir()
    context = cc.initialize(mount=tmp_path)
    assert context.get_change_time() == 0
    is_without_a_server(context)


def test_malformed_info_is_bad_message(mount: Mounted, monkeypatch: pytest.MonkeyPatch) -> None:
    context = cc.initialize(mount=mount.path)
    ccache = context.create_default_ccache(V5, ALICE)
    for said in (b"", b"no colon", b"change_time: soon\nid: 1\n"):
        monkeypatch.setattr(mount_client.MountClient, "read", lambda self, path, said=said: said)
        refuses(cc.ccErrBadInternalMessage, context.get_change_time)
        refuses(cc.ccErrBadInternalMessage, ccache.get_name)


class Client:
    """A context and one handle of each kind on a mount."""

    def __init__(self, mounted: Mounted) -> None:
        self.context = cc.initialize(mount=mounted.path)
        self.ccache = self.context.create_ccache("work", V5, ALICE)
        self.ccache.store_credentials(credential())
        self.ccaches = self.context.new_ccache_iterator()
        self.iterator = self.ccache.new_credentials_iterator()
        self.stored = self.ccache.new_credentials_iterator().next()
        self.context.wait_for_change()
        self.ccache.wait_for_change()

    def handles(self, code: int | None = None) -> None:
        """Assert that no handle is of use, with one code or with that of its class."""
        for call, *arguments in (
            (self.ccache.get_name,),
            (self.ccache.get_principal, V5),
            (self.ccache.get_change_time,),
            (self.ccache.set_principal, V5, BOB),
            (self.ccache.store_credentials, credential()),
            (self.ccache.remove_credentials, self.stored),
            (self.ccache.new_credentials_iterator,),
            (self.ccache.lock, cc.cc_lock_read, cc.cc_lock_noblock),
            (self.ccache.unlock,),
            (self.ccache.wait_for_change,),
            (self.ccache.set_default,),
            (self.ccache.destroy,),
        ):
            refuses(code or cc.ccErrInvalidCCache, call, *arguments)
        refuses(code or cc.ccErrInvalidCCacheIterator, self.ccaches.next)
        refuses(code or cc.ccErrInvalidCredentialsIterator, self.iterator.next)
        assert self.stored.data == credential()
        assert self.ccache.compare(self.ccache)


def test_dead_mount_is_server_unavailable(mount: Mounted) -> None:
    client = Client(mount)
    mount.process.kill()
    mount.process.wait(20)
    assert is_mounted(mount.path)
    refuses_all(cc.ccErrServerUnavailable, client.context)
    client.handles(cc.ccErrServerUnavailable)
    refuses_all(cc.ccErrServerUnavailable, cc.initialize(mount=mount.path))


@pytest.mark.parametrize("way", ["killed", "stopped"])
@pytest.mark.parametrize("journal", [False, True])
def test_context_survives_restart_and_handles_do_not(
    make_mount: MakeMount, way: str, journal: bool
) -> None:
    mounted = make_mount()
    options = ("--journal", str(mounted.path.parent / "journal")) if journal else ("--no-journal",)
    restart(mounted, *options)
    client = Client(mounted)
    client.context.lock(cc.cc_lock_write, cc.cc_lock_noblock)
    client.ccache.lock(cc.cc_lock_write, cc.cc_lock_noblock)
    before = client.context.get_change_time()
    identity = (mounted.path / "info").read_text().splitlines()[0]
    mounted.process.send_signal(signal.SIGKILL if way == "killed" else signal.SIGTERM)
    mounted.process.wait(20)
    if way == "stopped":
        is_without_a_server(client.context)
        client.handles(cc.ccErrServerUnavailable)
        assert client.context.get_change_time() > before
    restart(mounted, *options)
    assert identity != (mounted.path / "info").read_text().splitlines()[0]
    client.handles()
    refuses(cc.ccErrContextUnlocked, client.context.unlock)
    with cc.initialize(mount=mounted.path) as other:
        assert client.context.compare(other)
        other.lock(cc.cc_lock_write, cc.cc_lock_noblock)
    assert client.context.get_change_time() > before
    Running(client.context.wait_for_change).wait()
    kept = journal and way == "killed"
    found = client.context.open_ccache("work") if kept else None
    again = client.context.create_ccache("work", V5, BOB)
    assert not client.ccache.compare(again)
    assert found is None or found.compare(again)
    refuses(cc.ccErrInvalidCredentials, again.remove_credentials, client.stored)
    refuses(cc.ccErrInvalidCCache, again.move, client.ccache)
    refuses(cc.ccErrInvalidCCache, client.ccache.move, again)
    client.handles()
    assert again.get_principal(V5) == BOB
    client.ccache.release()
    client.context.release()


def test_change_time_rises_over_restart(make_mount: MakeMount) -> None:
    mounted = make_mount()
    context = cc.initialize(mount=mounted.path)
    ccache = context.create_default_ccache(V5, ALICE)
    for _ in range(30):
        ccache.set_principal(V5, ALICE)
    times = [context.get_change_time()]
    mounted.process.kill()
    restart(mounted)
    for _ in range(3):
        times.append(context.get_change_time())
        assert context.get_change_time() == times[-1]
        context.create_default_ccache(V5, ALICE)
    times.append(context.get_change_time())
    assert all(earlier < later for earlier, later in pairwise(times))


def test_killed_server_answers_waiters(mount: Mounted) -> None:
    client = Client(mount)
    other = cc.initialize(mount=mount.path)
    other.lock(cc.cc_lock_write, cc.cc_lock_noblock)
    other.open_ccache("work").lock(cc.cc_lock_write, cc.cc_lock_noblock)
    locker, ccache_locker = (cc.initialize(mount=mount.path) for _ in range(2))
    locked = ccache_locker.open_ccache("work")
    with parked(mount, 4):
        waiters = [
            Running(client.context.wait_for_change),
            Running(client.ccache.wait_for_change),
            Running(locker.lock, cc.cc_lock_write, cc.cc_lock_block),
            Running(locked.lock, cc.cc_lock_read, cc.cc_lock_block),
        ]
    eventually(lambda: lock_waiters(mount.path / "lock") == 1)
    mount.process.kill()
    for waiter in waiters:
        refuses(cc.ccErrServerUnavailable, waiter.wait)
    restart(mount)
    assert client.context.get_change_time() > 0
    locker.lock(cc.cc_lock_write, cc.cc_lock_noblock)
    refuses(cc.ccErrBadLockType, locker.lock, cc.cc_lock_read, cc.cc_lock_noblock)
    other.release()
    for context in (client.context, locker, ccache_locker):
        context.release()


def test_server_killed_during_call_is_unavailable(mount: Mounted) -> None:
    client = Client(mount)
    connection = os.minor(os.stat(mount.path).st_dev)
    mount.process.send_signal(signal.SIGSTOP)
    calls = [
        Running(client.ccache.get_change_time),
        Running(client.context.create_new_ccache, V5, ALICE),
        Running(client.context.new_ccache_iterator),
    ]
    with fusectl() as directory:
        waiting = directory / str(connection) / "waiting"
        eventually(lambda: int(waiting.read_text()) >= len(calls))
    assert not any(call.done for call in calls)
    mount.process.kill()
    for call in calls:
        refuses(cc.ccErrServerUnavailable, call.wait)
    restart(mount)
    client.handles()
    assert client.context.get_change_time() > 0


def test_context_uses_mount_that_replaces_another(mount: Mounted) -> None:
    client = Client(mount)
    held = os.open(mount.path, os.O_PATH)  # keeps the old server alive, unseen
    old = mount.process
    try:
        unmount(str(mount.path), lazy=True)
        is_without_a_server(client.context)
        client.handles(cc.ccErrServerUnavailable)
        restart(mount)
        client.handles()
        assert client.context.create_default_ccache(V5, BOB).get_principal(V5) == BOB
    finally:
        os.close(held)
        if old is not mount.process:
            old.kill()
            old.wait(20)


MANY = """
import os, signal, sys
from ccfs import ccapi as cc
for number in range(int(sys.argv[2])):
    child = os.fork()
    if child == 0:
        context = cc.initialize(mount=sys.argv[1])
        ccache = context.open_ccache("work")
        context.lock(cc.cc_lock_read, cc.cc_lock_noblock)
        ccache.lock(cc.cc_lock_read, cc.cc_lock_noblock)
        ccaches, credentials = context.new_ccache_iterator(), ccache.new_credentials_iterator()
        ccaches.next(), credentials.next()
        held = [os.open(sys.argv[1] + "/" + name, os.O_RDWR) for name in ("new", "lock")]
        events = os.open(sys.argv[1] + "/events", os.O_RDONLY)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
"""


def test_killed_clients_leave_no_handles(mount: Mounted) -> None:
    client = Client(mount)
    before, _ = held_by(mount)
    subprocess.run([sys.executable, "-c", MANY, str(mount.path), "200"], check=True, timeout=100)
    eventually(lambda: held_by(mount)[0] == before)
    client.context.lock(cc.cc_lock_write, cc.cc_lock_noblock)
    client.ccache.lock(cc.cc_lock_write, cc.cc_lock_noblock)


def held_by(mounted: Mounted) -> tuple[int, int]:
    """How many handles a server has open, and how many descriptors."""
    line = next(
        line for line in (mounted.path / "stats").read_text().splitlines() if "open_handles" in line
    )
    return int(line.strip(' ,"').rpartition(" ")[2]), len(os.listdir(f"/proc/{mounted.pid}/fd"))
