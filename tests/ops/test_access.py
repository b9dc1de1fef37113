# SPDX-License-Identifier: MIT
"""Access in every handler: the owner, root where the mount allows it, no other user."""

import errno
import os
from collections.abc import Callable

import pyfuse3
import pytest

from ccfs.ops import set_times
from ccfs.ops.inodes import Ref, Slot
from ccfs.service import caller
from tests.support.clients.python import records
from tests.support.direct import UID, Caller, Fields, FileSystem, refused

IMAGE = records.ccache(["host/one"])
NAME = b"host%2Fone@KRBTEST.COM"
OWNER, OTHER, ROOT = Caller(), Caller(uid=1001, gid=1000), Caller(uid=0, gid=0)

Use = Callable[[FileSystem, Caller], object]

USES: dict[str, Use] = {
    "lookup": lambda fs, who: fs.call("lookup", 1, b"caches", who),
    "getattr": lambda fs, who: fs.call("getattr", 1, who),
    "access": lambda fs, who: fs.call("access", fs.walk("caches"), os.X_OK, who),
    "setattr": lambda fs, who: fs.call("setattr", *truncation(fs), None, who),
    "readlink": lambda fs, who: fs.call("readlink", fs.walk("default"), who),
    "mkdir": lambda fs, who: fs.call("mkdir", fs.walk("caches"), b"new", 0o700, who),
    "symlink": lambda fs, who: fs.call("symlink", 1, b"link", b"caches/tkt", who),
    "unlink": lambda fs, who: fs.call("unlink", fs.walk("caches/tkt"), b"ccache", who),
    "rmdir": lambda fs, who: fs.call("rmdir", fs.walk("caches"), b"tkt", who),
    "rename": lambda fs, who: fs.call("rename", *rename(fs), 0, who),
    "open": lambda fs, who: fs.call("open", fs.walk("caches/tkt/ccache"), os.O_RDONLY, who),
    "create": lambda fs, who: fs.call("create", *creation(fs), who),
    "opendir": lambda fs, who: fs.call("opendir", fs.walk("caches"), who),
}

REFUSED_TO_ALL: dict[str, Use] = {
    "mknod": lambda fs, who: fs.call("mknod", 1, b"pipe", 0o010600, 0, who),
    "link": lambda fs, who: fs.call("link", fs.walk("README"), 1, b"hard", who),
}

NO_CALLER = {
    "forget",
    "read",
    "write",
    "flush",
    "fsync",
    "fsyncdir",
    "release",
    "readdir",
    "releasedir",
    "statfs",
    "poll",
}


def truncation(fs: FileSystem) -> tuple[int, pyfuse3.EntryAttributes, Fields]:
    wanted = pyfuse3.EntryAttributes()
    wanted.st_size = 0
    return fs.walk("caches/tkt/ccache"), wanted, Fields(update_size=True)


def rename(fs: FileSystem) -> tuple[int, bytes, int, bytes]:
    return fs.walk("caches/tkt"), b"ccache", fs.walk("dir"), b"tktnew"


def creation(fs: FileSystem) -> tuple[int, bytes, int, int]:
    return fs.walk("dir"), b"new", 0o600, os.O_CREAT | os.O_EXCL | os.O_WRONLY


@pytest.fixture
def fs() -> FileSystem:
    made = FileSystem()
    made.write("caches/tkt/ccache", IMAGE)
    return made


def test_access_table_has_every_handler(fs: FileSystem) -> None:
    """A new one must say who may."""
    assert set(fs.committer.requests) == set(USES) | set(REFUSED_TO_ALL) | NO_CALLER


@pytest.mark.parametrize("handler", [*USES, *REFUSED_TO_ALL])
@pytest.mark.parametrize("who", [OTHER, ROOT], ids=["other", "root"])
def test_other_users_are_refused_by_every_handler(
    fs: FileSystem, handler: str, who: Caller
) -> None:
    log, used = fs.lines(), fs.file_system.store.used_bytes
    with refused(errno.EACCES):
        (USES | REFUSED_TO_ALL)[handler](fs, who)
    assert (fs.lines(), fs.file_system.store.used_bytes) == (log, used)
    assert fs.read("caches/tkt/ccache") == IMAGE


@pytest.mark.parametrize("handler", USES)
@pytest.mark.parametrize("root", [False, True])
def test_owner_is_served_by_every_handler(handler: str, root: bool) -> None:
    made = FileSystem(root=root)
    made.write("caches/tkt/ccache", IMAGE)
    USES[handler](made, OWNER)


@pytest.mark.parametrize("handler", USES)
def test_root_is_served_only_with_allow_root(handler: str) -> None:
    made = FileSystem(root=True)
    made.write("caches/tkt/ccache", IMAGE)
    with refused(errno.EACCES):
        USES[handler](made, OTHER)
    USES[handler](made, ROOT)


@pytest.mark.parametrize("handler", REFUSED_TO_ALL)
def test_unsupported_operations_are_refused_to_all(fs: FileSystem, handler: str) -> None:
    with refused(errno.EPERM):
        REFUSED_TO_ALL[handler](fs, OWNER)


def test_event_has_uid_pid_and_command() -> None:
    made = FileSystem(root=True)
    made.call("mkdir", made.walk("caches"), b"roots", 0o700, Caller(uid=0, pid=os.getpid()))
    *_, uid, pid, command = made.lines()[-1]
    with open("/proc/self/comm", encoding="utf-8") as file:
        assert (uid, pid, command) == ("uid=0", f"pid={os.getpid()}", file.read().rstrip("\n"))


@pytest.mark.parametrize(
    ("path", "may"),
    [
        ("caches", os.R_OK | os.W_OK | os.X_OK),
        ("caches/tkt/ccache", os.R_OK | os.W_OK),
        ("README", os.R_OK),
        ("changed", os.R_OK | os.W_OK),
    ],
)
def test_access_answers_by_mode(fs: FileSystem, path: str, may: int) -> None:
    inode = fs.walk(path)
    for wanted in range(8):
        assert fs.call("access", inode, wanted, OWNER) is (wanted | may == may)


READ_ONLY = ("README", "info", "stats", "events", "caches/tkt/info")


@pytest.mark.parametrize("path", [*READ_ONLY, f"caches/tkt/credentials/{NAME.decode()}"])
@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC])
def test_read_only_files_refuse_writers(fs: FileSystem, path: str, flags: int) -> None:
    """Also for uid 0 as the owner, whom no mode bit stops."""
    with refused(errno.EACCES):
        fs.open(path, flags)


@pytest.mark.parametrize("path", READ_ONLY)
def test_read_only_files_refuse_truncation(fs: FileSystem, path: str) -> None:
    wanted = pyfuse3.EntryAttributes()
    wanted.st_size = 0
    with refused(errno.EPERM):
        fs.call("setattr", fs.walk(path), wanted, Fields(update_size=True), None, OWNER)


def test_handle_refuses_other_access_mode(fs: FileSystem) -> None:
    for path in ("README", "caches/tkt/info"):
        with refused(errno.EBADF):
            fs.call("write", fs.open(path), 0, b"x")


@pytest.mark.parametrize("handler", ["read", "write", "fsync", "readdir", "fsyncdir", "poll"])
def test_unknown_handle_is_ebadf(fs: FileSystem, handler: str) -> None:
    arguments = {
        "read": (999, 0, 10),
        "write": (999, 0, b"x"),
        "readdir": (999, 0, None),
        "poll": (1, 999, None, OWNER),
    }
    with refused(errno.EBADF):
        fs.call(handler, *arguments.get(handler, (999, False)))
    fs.call("release", 999)
    fs.call("releasedir", 999)


PATHS = ("", "caches/tkt", "caches/tkt/ccache", "README", "caches/tkt/lock", "dir")


@pytest.mark.parametrize("path", PATHS)
def test_setattr_to_current_values_succeeds(fs: FileSystem, path: str) -> None:
    """libkrb5 sets the mode of what it has created; `cp -p` and `chown` by scripts do, too."""
    inode, now = fs.walk(path), fs.stat(path)
    every = Fields(update_mode=True, update_uid=True, update_gid=True, update_mtime=True)
    answer = fs.call("setattr", inode, now, every, None, OWNER)
    assert (answer.st_mode, answer.st_mtime_ns) == (now.st_mode, now.st_mtime_ns)


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        (Fields(update_mode=True), "st_mode", 0o100644),
        (Fields(update_mode=True), "st_mode", 0o104600),
        (Fields(update_uid=True), "st_uid", 0),
        (Fields(update_gid=True), "st_gid", 0),
    ],
)
@pytest.mark.parametrize("path", PATHS)
def test_setattr_to_other_values_is_refused(
    fs: FileSystem, path: str, fields: Fields, name: str, value: int
) -> None:
    before = fs.stat(path)
    wanted = fs.stat(path)
    setattr(wanted, name, value)
    with refused(errno.EPERM):
        fs.call("setattr", fs.walk(path), wanted, fields, None, OWNER)
    assert getattr(fs.stat(path), name) == getattr(before, name)


LONG_AGO = 1_577_836_800_123_456_789


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ["st_mtime_ns", "st_atime_ns"])
def test_set_times_are_shown(fs: FileSystem, path: str, name: str) -> None:
    wanted, before = fs.stat(path), fs.stat(path)
    setattr(wanted, name, LONG_AGO)
    fields = Fields(update_mtime=name == "st_mtime_ns", update_atime=name == "st_atime_ns")
    answer = fs.call("setattr", fs.walk(path), wanted, fields, None, OWNER)
    for now in (answer, fs.stat(path)):
        assert getattr(now, name) == LONG_AGO
        assert now.st_ctime_ns == before.st_ctime_ns
    other = {"st_mtime_ns": "st_atime_ns", "st_atime_ns": "st_mtime_ns"}[name]
    assert getattr(answer, other) == getattr(before, other)


def test_set_times_last_until_the_next_change(fs: FileSystem) -> None:
    for path in ("caches/tkt/ccache", "caches/tkt"):
        wanted = fs.stat(path)
        wanted.st_mtime_ns = LONG_AGO
        fs.call("setattr", fs.walk(path), wanted, Fields(update_mtime=True), None, OWNER)
    fs.clock.now += 1
    handle = fs.open("caches/tkt/ccache", os.O_WRONLY | os.O_APPEND)
    fs.call("write", handle, 0, records.record("host/new"))
    fs.write("caches/tkt/beside", b"x")
    for path in ("caches/tkt/ccache", "caches/tkt"):
        assert fs.stat(path).st_mtime_ns == int(fs.clock.now * 1e9)


def test_rename_over_ccache_keeps_set_time(fs: FileSystem) -> None:
    """`cp -p` and `rsync -t` set the time of what they rename then."""
    fs.write("caches/tkt/new", fs.read("caches/tkt/ccache"))
    wanted = fs.stat("caches/tkt/new")
    wanted.st_mtime_ns = LONG_AGO
    fs.call("setattr", fs.walk("caches/tkt/new"), wanted, Fields(update_mtime=True), None, OWNER)
    fs.rename("caches/tkt/new", "caches/tkt/ccache")
    assert fs.stat("caches/tkt/ccache").st_mtime_ns == LONG_AGO


def test_set_times_are_bounded(fs: FileSystem) -> None:
    for number in range(set_times.MAX_INODES + 10):
        fs.file_system.set_times.set(Ref(number, Slot.BYTES), 0.0, (1, 1))
    assert len(fs.file_system.set_times._times) == set_times.MAX_INODES
    assert fs.file_system.set_times.get(Ref(0, Slot.BYTES), 0.0) is None
    assert fs.file_system.set_times.get(Ref(set_times.MAX_INODES, Slot.BYTES), 0.0) == (1, 1)


def test_command_name_is_looked_up_once_per_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread's is looked up at once, the same one's again after CACHE_SECONDS."""
    asked: list[int] = []

    def process_of(thread: int) -> tuple[int, str]:
        asked.append(thread)
        return thread, f"command {len(asked)}"

    monkeypatch.setattr(caller, "process_of", process_of)
    fs = FileSystem()
    said = [fs.committer.stamp(UID, pid).client.command for pid in (1, 1, 2)]
    fs.clock.now += 2 * caller.CACHE_SECONDS
    said.append(fs.committer.stamp(UID, 2).client.command)
    assert said == ["command 1", "command 1", "command 2", "command 3"]
    assert asked == [1, 2, 2]
