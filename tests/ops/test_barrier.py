# SPDX-License-Identifier: MIT
"""The barrier: whatever happens in a handler, the mount goes on and nothing secret is logged."""

import errno
import logging
from typing import Any

import pyfuse3
import pytest

from ccfs.ops import barrier, tree
from ccfs.ops.errnos import ERRNO, OpsError, errno_of
from ccfs.ops.node import Node
from ccfs.store import errors
from tests.support.clients.python import records
from tests.support.direct import Caller, FileSystem, finish, refused
from tests.support.storing import Refusing

IMAGE = records.ccache(["host/one"])
SECRET = "the session key"
QUIET = {"forget", "release", "releasedir", "statfs"}
"""Handlers that refuse nothing to anybody."""
FAILURES = [ValueError, KeyError, AssertionError, RecursionError, MemoryError, OSError, TypeError]


class Broken(Node):
    """A node with a bug in whatever it is asked."""

    def __init__(self, error: type[Exception]) -> None:
        self._error = error

    def __getattribute__(self, name: str) -> Any:
        error = object.__getattribute__(self, "_error")
        raise error(SECRET)


@pytest.fixture
def fs() -> FileSystem:
    made = FileSystem()
    made.write("caches/tkt/ccache", IMAGE)
    return made


def use(fs: FileSystem, handler: str, inode: int) -> None:
    arguments: dict[str, tuple[object, ...]] = {
        "getattr": (inode, Caller()),
        "open": (inode, 0, Caller()),
        "lookup": (fs.walk("caches/tkt"), b"ccache", Caller()),
        "unlink": (fs.walk("caches/tkt"), b"ccache", Caller()),
    }
    fs.call(handler, *arguments[handler])


@pytest.mark.parametrize("error", FAILURES)
@pytest.mark.parametrize("handler", ["getattr", "open"])
def test_exception_becomes_eio(
    fs: FileSystem,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: type[Exception],
    handler: str,
) -> None:
    inode = fs.walk("caches/tkt/ccache")
    row = tree.ROWS[tree.Slot.BYTES]  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setitem(tree.ROWS, tree.Slot.BYTES, row._replace(node=Broken(error)))  # type: ignore[attr-defined]
        with refused(errno.EIO):
            use(fs, handler, inode)
    (line,) = caplog.records
    assert line.levelno == logging.ERROR
    assert SECRET not in caplog.text
    assert (handler in line.getMessage(), error.__name__ in line.getMessage()) == (True, True)
    use(fs, handler, inode)
    assert fs.read("caches/tkt/ccache") == IMAGE


def test_handlers_refuse_invalid_arguments(
    fs: FileSystem, caplog: pytest.LogCaptureFixture
) -> None:
    """Called with what no kernel sends, each refuses, and the next call works."""
    for handler in barrier.HANDLERS:
        arguments = [object()] * count(getattr(fs.operations, handler))
        if handler in QUIET:
            fs.call(handler, *arguments)
        else:
            with pytest.raises(pyfuse3.FUSEError):
                fs.call(handler, *arguments)
        assert fs.read("caches/tkt/ccache") == IMAGE


def count(handler: Any) -> int:
    """How many arguments a handler takes."""
    return int(handler.__wrapped__.__code__.co_argcount) - 1


def test_forget_raises_nothing(
    fs: FileSystem, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """pyfuse3 takes no error from it, FUSEError neither: the mount would go down."""

    def broken(_: int) -> None:
        raise ValueError(SECRET)

    monkeypatch.setattr(fs.file_system.store.generations, "forget", broken)
    fs.call("forget", [(fs.walk("caches/tkt/ccache"), 1_000)])
    assert "forget failed: ValueError" in caplog.text
    assert SECRET not in caplog.text


def test_exception_in_notification_becomes_eio(
    fs: FileSystem, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The change is there, but not everybody knows: its maker is told that something is wrong."""

    def broken(_: int) -> None:
        raise OSError(SECRET)

    monkeypatch.setattr(fs.outside, "invalidate", broken)
    with refused(errno.EIO):
        fs.unlink("caches/tkt/ccache")
    assert "commit failed: OSError" in caplog.text
    assert SECRET not in caplog.text
    with refused(errno.ENOENT):
        fs.walk("caches/tkt/ccache")


def test_changes_are_refused_until_journal_has_last_step(fs: FileSystem) -> None:
    """Also where the same is asked for again and changes nothing any more; who reads may."""
    fs.mkdir("caches/work")
    journal = fs.committer.journal = Refusing()
    for _ in range(2):
        with refused(errno.EIO):
            fs.write("dir/primary", b"tkt.work\n")
    assert fs.read("caches/tkt/ccache") == IMAGE
    journal.refuses = False
    fs.write("dir/primary", b"tkt.work\n")
    assert journal.kept == 1
    fs.write("dir/primary", b"tkt.work\n")
    assert (journal.kept, fs.readlink("default")) == (1, b"caches/work")


def test_unjournaled_step_invalidates_kernel_caches(fs: FileSystem) -> None:
    """An error tells the kernel nothing: it is to look names up again, and read bytes anew."""
    fs.mkdir("caches/work")
    inode, tkt, work = fs.walk("dir/tkt"), fs.walk("caches/tkt"), fs.walk("caches/work")
    fs.call("getattr", inode, Caller())
    journal = fs.committer.journal = Refusing()
    with refused(errno.EIO):
        fs.rename("caches/tkt/ccache", "caches/work/ccache")
    assert fs.outside.names == [(tkt, b"ccache"), (work, b"ccache")]
    assert inode in fs.outside.stale
    assert fs.walk("dir/tkt.work") != inode
    with refused(errno.EIO):
        fs.mkdir("caches/other")
    assert b"other" not in fs.entries("caches")
    with refused(errno.EIO):
        fs.unlink("caches/work/ccache")  # it may be what makes room
    assert fs.entries("dir") == {}
    journal.refuses = False
    fs.mkdir("caches/other")
    assert fs.outside.names[-1] == (work, b"ccache")


def test_refusals_map_to_errno() -> None:
    refusals = {*subclasses(errors.StoreError), *subclasses(OpsError)}
    assert refusals == set(ERRNO) & refusals
    assert all(errno_of(refusal("x")) in errno.errorcode for refusal in refusals)
    assert errno_of(ValueError("x")) is None


def subclasses(base: type[Exception]) -> set[type[Exception]]:
    """The refusals of this program that derive from a class."""
    return {one for one in base.__subclasses__() if one.__module__.startswith("ccfs.")}


def test_flush_is_enosys(fs: FileSystem) -> None:
    with refused(errno.ENOSYS):
        fs.call("flush", fs.open("README"))


def test_requests_are_counted_by_operation(fs: FileSystem) -> None:
    before = fs.committer.requests["mkdir"]
    fs.mkdir("caches/x")
    with refused(errno.EEXIST):
        fs.mkdir("caches/x")
    assert fs.committer.requests["mkdir"] == before + 2


def test_handlers_never_suspend(fs: FileSystem) -> None:
    """`finish` fails for one that does; here it is seen to."""

    async def waits() -> None:
        await Forever()

    with pytest.raises(AssertionError, match="waits"):
        finish(waits())


class Forever:
    """Something to wait for."""

    def __await__(self) -> Any:
        yield
