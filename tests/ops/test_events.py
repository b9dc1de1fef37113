# SPDX-License-Identifier: MIT
"""Notification of changes: the event log, its pollers, readers of FIFOs, and the texts on them."""

import errno
import json
import os
import select

import pytest

from ccfs.ops.inodes import Slot
from ccfs.store import Limits
from tests.support.clients.python import records
from tests.support.direct import Caller, FileSystem, refused

IMAGE = records.ccache(["host/one"])
ONE = "caches/tkt/credentials/host%2Fone@KRBTEST.COM"


class Poll:
    """Stands in for a PollHandle; counts how often it was told."""

    def __init__(self) -> None:
        self.told = 0

    def notify(self) -> None:
        self.told += 1


@pytest.fixture
def fs() -> FileSystem:
    made = FileSystem()
    made.write("caches/tkt/ccache", IMAGE)
    return made


def ready(fs: FileSystem, handle: int, poll: Poll | None = None) -> bool:
    return bool(fs.call("poll", 1, handle, poll, Caller()) & select.POLLIN)


def test_poll_reports_new_events(fs: FileSystem) -> None:
    handle, poll = fs.open("events"), Poll()
    assert ready(fs, handle)
    fs.read_handle(handle)
    assert not ready(fs, handle, poll)
    fs.mkdir("caches/a")
    assert poll.told == 1
    assert ready(fs, handle)


def test_poller_is_notified_of_each_event(fs: FileSystem) -> None:
    """epoll names itself once, be the file ready then or not, and expects to hear ever after."""
    handle, poll = fs.open("events"), Poll()
    assert ready(fs, handle, poll)
    for number in range(3):
        fs.read_handle(handle)
        assert not ready(fs, handle)
        fs.mkdir(f"caches/{number}")
        assert poll.told == number + 1
    fs.call("release", handle)
    fs.mkdir("caches/last")
    assert poll.told == 3
    assert fs.file_system.waiters.polls == {}


def test_pollers_of_one_handle_share_last_poll_handle(fs: FileSystem) -> None:
    """One open file is one for the kernel: its last name is good for all."""
    handle, first, second = fs.open("events"), Poll(), Poll()
    ready(fs, handle, first)
    ready(fs, handle, second)
    other, third = fs.open("events"), Poll()
    ready(fs, other, third)
    fs.mkdir("caches/a")
    assert (first.told, second.told, third.told) == (0, 1, 1)


@pytest.mark.parametrize("path", ["README", "info", "caches/tkt/ccache", "caches/tkt/lock"])
def test_poll_of_other_files_is_always_ready(fs: FileSystem, path: str) -> None:
    handle = fs.open(path)
    assert fs.call("poll", 1, handle, Poll(), Caller()) & select.POLLOUT
    assert ready(fs, handle)
    assert fs.file_system.waiters.polls == {}


def test_reads_make_no_events(fs: FileSystem) -> None:
    before = fs.lines()
    for path in fs.all_paths():
        fs.stat(path)
    fs.read("caches/tkt/ccache")
    assert fs.lines() == before


def test_names_cannot_forge_events(fs: FileSystem) -> None:
    fs.mkdir("caches/a%0Ab%09c")
    assert fs.lines()[-1][3] == "a%0Ab%09c"
    assert all(len(line) == 8 for line in fs.lines())
    server = records.ccache(["host/x\n1\t2"])
    fs.write("caches/tkt/ccache", server)
    assert all(len(line) == 8 for line in fs.lines())


def test_events_are_numbered_consecutively(fs: FileSystem) -> None:
    for number in range(5):
        fs.mkdir(f"caches/{number}")
    numbers = [int(line[0]) for line in fs.lines()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_events_with_dropped_lines_get_new_inode() -> None:
    made = FileSystem(limits=Limits(events=10))
    old = made.walk("events")
    handle = made.open("events")
    made.read_handle(handle)
    for number in range(200):
        made.mkdir(f"caches/{number}")
        made.rmdir(f"caches/{number}")
    assert made.walk("events") != old
    assert made.read("events").startswith(b"# lost ")
    assert ready(made, handle)
    followed = made.call("getattr", old, Caller())
    assert followed.st_size > 10_000
    made.call("release", handle)
    with refused(errno.ESTALE):
        made.call("getattr", old, Caller())


def test_event_reader_misses_no_kept_line() -> None:
    made = FileSystem(limits=Limits(events=50))
    handle = made.open("events")
    read = b""
    for number in range(300):
        made.mkdir(f"caches/{number}")
        while piece := made.call("read", handle, len(read), 4096):
            read += piece
    created = [line.split(b"\t")[3] for line in read.splitlines()]
    assert created == [b"tkt", *(b"%d" % number for number in range(300))]


def test_stats_are_json_of_fixed_size(fs: FileSystem) -> None:
    text = fs.read("stats")
    stats = json.loads(text)
    assert stats["credentials"] == 1
    assert stats["bytes"] == len(IMAGE)
    assert stats["requests"]["open"] >= 1
    fs.clock.now += 12345
    for _ in range(1000):
        fs.stat("")
    assert len(fs.read("stats")) == len(text) == fs.stat("stats").st_size
    assert json.loads(fs.read("stats"))["uptime"] == 12345


def test_changed_fifo_is_kicked_only_if_looked_up(fs: FileSystem) -> None:
    """Only FIFOs that the kernel has looked up can have readers."""
    fs.mkdir("caches/work")
    fs.outside.kicked.clear()
    fs.write("caches/tkt/ccache", IMAGE)
    assert fs.outside.kicked == []
    fifo = fs.walk("caches/tkt/changed")
    assert fifo & 31 == Slot.CHANGED
    fs.walk("changed")
    fs.outside.kicked.clear()
    fs.unlink(ONE)
    assert sorted(set(fs.outside.kicked)) == [0, fifo >> 5]
    fs.outside.kicked.clear()
    fs.rmdir("caches/work")
    assert set(fs.outside.kicked) == {0}


def test_kick_names_are_found_by_notifier_only(fs: FileSystem) -> None:
    notifier = Caller(pid=99)
    serial = fs.walk("caches/tkt") >> 5
    assert fs.walk(".kick.0", notifier) == fs.walk("changed")
    with refused(errno.ENOENT):
        fs.walk(f".kick.{serial}")
    assert b".kick.0" not in fs.entries("")


def test_stale_attributes_are_invalidated(fs: FileSystem) -> None:
    """The attributes that it may keep and that are not so any more."""
    text, listing, collection = fs.walk(ONE), fs.walk("caches/tkt"), fs.walk("dir")
    fs.outside.stale.clear()
    fs.unlink(ONE)
    assert text in fs.outside.stale
    fs.outside.stale.clear()
    fs.unlink("caches/tkt/ccache")
    assert {listing, collection} <= set(fs.outside.stale)
    fs.walk("dir"), fs.walk("caches")
    fs.outside.stale.clear()
    fs.mkdir("caches/more")
    assert {fs.walk("caches"), fs.walk("dir")} <= set(fs.outside.stale)


def test_kernel_is_invalidated_once(fs: FileSystem) -> None:
    """An invalidated entry is not invalidated again before a reply has given it anew."""
    root, listing = fs.walk(""), fs.walk("dir")
    caches = fs.call("lookup", root, b"caches", Caller()).st_ino
    for told, name in ([caches, listing], b"a"), ([], b"b"):
        fs.outside.stale.clear()
        made = fs.call("mkdir", caches, name, 0o700, Caller()).st_ino
        assert sorted(fs.outside.stale) == sorted(told)
    _, attributes = fs.call("create", made, b"ccache", 0o600, os.O_CREAT | os.O_WRONLY, Caller())
    fs.outside.stale.clear()
    fs.call("unlink", made, b"ccache", Caller())
    assert attributes.st_ino in fs.outside.stale
