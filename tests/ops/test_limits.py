# SPDX-License-Identifier: MIT
"""Limits: a step over one is refused and logged as an event; existing content stays."""

import errno
import os

import pytest

from ccfs.ops.operations import SPARE_HANDLES
from ccfs.store import Limits
from tests.support.clients.python import records
from tests.support.direct import NOW, Caller, FileSystem, refused

IMAGE = records.ccache(["host/one"])
CREATE = os.O_CREAT | os.O_WRONLY


def refusals(fs: FileSystem) -> list[list[str]]:
    """Ccache, reason, uid and pid of each event that says that a limit was reached."""
    return [line[3:7] for line in fs.lines() if line[2] == "refused"]


@pytest.fixture
def few() -> FileSystem:
    """Four files may be open at a time."""
    made = FileSystem(limits=Limits(handles=4))
    made.write("caches/tkt/ccache", IMAGE)
    return made


def fill(fs: FileSystem) -> list[int]:
    return [fs.open("caches/tkt/ccache") for _ in range(4)]


def test_open_handles_are_limited(few: FileSystem) -> None:
    handles = fill(few)
    with refused(errno.EMFILE):
        few.open("caches/tkt/ccache")
    with refused(errno.EMFILE):
        few.call("opendir", few.walk("caches"), Caller())
    assert few.read_handle(handles[0]) == IMAGE
    few.call("release", handles.pop())
    assert few.read("caches/tkt/ccache") == IMAGE
    for handle in handles:
        few.call("release", handle)
    assert refusals(few) == [["-", "over 4 open files", "uid=1000", "pid=4242"]]


def test_create_over_handle_limit_creates_nothing(few: FileSystem) -> None:
    handles = fill(few)
    for path in ("dir/tktnew", "caches/tkt/scratch", "caches/tkt/credentials/x"):
        with refused(errno.EMFILE):
            few.open(path, CREATE)
    few.call("release", handles[0])
    assert set(few.entries("dir")) == {b"primary", b"tkt"}
    assert b"scratch" not in few.entries("caches/tkt")


def test_refused_truncation_changes_nothing(few: FileSystem) -> None:
    handles = fill(few)
    with refused(errno.EMFILE):
        few.open("caches/tkt/ccache", os.O_WRONLY | os.O_TRUNC)
    assert few.read_handle(handles[1]) == IMAGE


def test_info_is_readable_over_handle_limit(few: FileSystem) -> None:
    """unmount reads the daemon's pid from it; its handles have a limit of their own."""
    fill(few)
    handles = [few.open("info") for _ in range(SPARE_HANDLES)]
    assert b"limit_handles: 4\n" in few.read_handle(handles[0])
    with refused(errno.EMFILE):
        few.open("info")


def test_refusals_are_logged_once_a_second() -> None:
    fs = FileSystem(limits=Limits(ccaches=2, ccache_bytes=4096, total_bytes=6000))
    fs.mkdir("caches/a")
    for number in range(20):
        fs.clock.now = NOW + number / 10
        with refused(errno.ENOSPC):
            fs.mkdir(f"caches/{number}")
    assert [line[1] for line in refusals(fs)] == ["over 2 ccaches"] * 2


@pytest.mark.parametrize("back", [0.5, 3600.0])
def test_refusals_are_logged_after_clock_is_set_back(back: float) -> None:
    fs = FileSystem(limits=Limits(ccaches=1))
    for _ in range(2):
        with refused(errno.ENOSPC):
            fs.mkdir("caches/a")
        fs.clock.now -= back
    assert len(refusals(fs)) == 2


def test_refused_write_is_logged_with_opener() -> None:
    fs = FileSystem(limits=Limits(total_bytes=6000))
    handle = fs.open("dir/scratch", CREATE, Caller(pid=os.getpid()))
    fs.stat("README")
    with refused(errno.EDQUOT):
        fs.call("write", handle, 0, bytes(7000))
    fs.clock.now += 1
    with refused(errno.ENOSPC):
        fs.call("write", handle, 1 << 40, b"x")
    (_, total, *who), (_, one, *_) = refusals(fs)
    assert (total, one) == ("over 6000 bytes in all", f"over {8 << 20} bytes in one ccache")
    assert who == ["uid=1000", f"pid={os.getpid()}"]
    fs.call("release", handle)


def test_other_refusals_are_not_logged(few: FileSystem) -> None:
    before = few.lines()
    for path in ("caches/absent", "README/x"):
        with refused(errno.ENOTDIR if "/x" in path else errno.ENOENT):
            few.walk(path)
    with refused(errno.EACCES):
        few.call("getattr", 1, Caller(uid=7))
    assert few.lines() == before
