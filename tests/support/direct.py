# SPDX-License-Identifier: MIT
"""The file system without a mount: `Operations` called as pyfuse3 calls them.

Knows handlers and their arguments, never a kernel.  What the kernel does (it resolves paths, and
looks a name up again after ESTALE) is done here by `walk` where a test wants it.
"""

import contextlib
import copy
import errno
import os
import stat
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyfuse3

from ccfs.ops import file_system
from ccfs.ops.operations import Operations
from ccfs.service.commit import Committer
from ccfs.service.info import MountInfo, Owner
from ccfs.store import Client, Limits, Stamp, Store

R = TypeVar("R")

UID, GID = 1000, 1000
NOW = 1_700_000_000.0
MOUNT = "/run/user/1000/ccfs"


@dataclass(frozen=True, slots=True)
class Caller:
    """Stands in for a RequestContext, which only pyfuse3 can fill."""

    uid: int = UID
    gid: int = GID
    pid: int = 4242
    umask: int = 0o022


@dataclass(frozen=True, slots=True)
class Fields:
    """Stands in for SetattrFields: which attributes a setattr means."""

    update_size: bool = False
    update_mode: bool = False
    update_uid: bool = False
    update_gid: bool = False
    update_atime: bool = False
    update_mtime: bool = False
    update_ctime: bool = False


@dataclass
class Outside:
    """Remembers what the file system tells the kernel and the notifier."""

    stale: list[int] = field(default_factory=list)
    names: list[tuple[int, bytes]] = field(default_factory=list)
    kicked: list[int] = field(default_factory=list)
    learnt: list[int] = field(default_factory=list)
    touched: list[str] = field(default_factory=list)
    known: set[int] = field(default_factory=set)
    polls: list[object] = field(default_factory=list)
    due: float | None = None

    def invalidate(self, inode: int) -> None:
        self.stale.append(inode)

    def invalidate_entry(self, directory: int, name: bytes) -> None:
        self.names.append((directory, name))

    def wake_fifo(self, serial: int) -> None:
        self.kicked.append(serial)

    def locate_fifo(self, serial: int) -> None:
        self.learnt.append(serial)

    def touch_file(self, ident: str) -> None:
        self.touched.append(ident)

    def schedule(self, due: float | None) -> None:
        self.due = due

    def has_inode(self, inode: int) -> bool:
        return inode in self.known

    def record_polls(self, polls: Iterable[object]) -> None:
        self.polls = list(polls)


class Clock:
    """Says what time it is; a test moves it."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class FileSystem:
    """One user's file system and a caller who uses it by path."""

    def __init__(self, *, root: bool = False, limits: Limits | None = None) -> None:
        self.clock, self.outside = Clock(), Outside()
        store = Store(limits or Limits(), Stamp(NOW, Client(UID, 1, "ccfs")))
        self.committer = Committer(store, clock=self.clock)
        info = MountInfo(Owner(UID, GID, root), MOUNT, "0123456789abcdef", pid=4711)
        self.file_system = file_system.FileSystem(
            self.committer, info, self.outside, notifier_pid=99
        )
        self.operations = Operations(self.file_system)
        self.committer.commit()

    def call(self, handler: str, *arguments: object) -> Any:
        """Call a handler and return its answer; it must not wait."""
        return finish(getattr(self.operations, handler)(*arguments))

    def walk(self, path: str | bytes, caller: Caller = Caller()) -> int:
        """The inode of a path; symbolic links are not followed."""
        inode = pyfuse3.ROOT_INODE
        for name in as_bytes(path).split(b"/"):
            inode = self.call("lookup", inode, name, caller).st_ino if name else inode
        return inode

    def parent(self, path: str | bytes) -> tuple[int, bytes]:
        """The inode of a path's directory, and its last name."""
        directory, _, name = as_bytes(path).rpartition(b"/")
        return self.walk(directory), name

    def stat(self, path: str | bytes) -> Any:
        return self.call("getattr", self.walk(path), Caller())

    def open(self, path: str | bytes, flags: int = os.O_RDONLY, caller: Caller = Caller()) -> int:
        """A handle, as open(2) gets one: of a new file where O_CREAT says so."""
        directory, name = self.parent(path)
        try:
            inode = self.call("lookup", directory, name, caller).st_ino
        except pyfuse3.FUSEError as error:
            if error.errno != errno.ENOENT or not flags & os.O_CREAT:
                raise
            info, _ = self.call("create", directory, name, 0o600, flags, caller)
        else:
            info = self.call("open", inode, flags & ~os.O_CREAT, caller)
        return int(info.fh)

    def read_handle(self, handle: int, step: int = 4096) -> bytes:
        """All that a handle gives, piece by piece."""
        data = b""
        while piece := self.call("read", handle, len(data), step):
            data += piece
        return data

    def read(self, path: str | bytes) -> bytes:
        handle = self.open(path)
        try:
            return self.read_handle(handle)
        finally:
            self.call("release", handle)

    def write(self, path: str | bytes, data: bytes, flags: int = os.O_CREAT | os.O_TRUNC) -> None:
        """Write as `cp` does: one write, from the start."""
        handle = self.open(path, os.O_WRONLY | flags)
        try:
            assert self.call("write", handle, 0, data) == len(data)
        finally:
            self.call("release", handle)

    def mkdir(self, path: str | bytes) -> int:
        return int(self.call("mkdir", *self.parent(path), 0o700, Caller()).st_ino)

    def unlink(self, path: str | bytes) -> None:
        self.call("unlink", *self.parent(path), Caller())

    def rmdir(self, path: str | bytes) -> None:
        self.call("rmdir", *self.parent(path), Caller())

    def rename(self, source: str | bytes, target: str | bytes, flags: int = 0) -> None:
        self.call("rename", *self.parent(source), *self.parent(target), flags, Caller())

    def symlink(self, path: str | bytes, target: bytes) -> None:
        self.call("symlink", *self.parent(path), target, Caller())

    def readlink(self, path: str | bytes) -> bytes:
        return bytes(self.call("readlink", self.walk(path), Caller()))

    def entries(self, path: str | bytes) -> dict[bytes, Any]:
        """The entries of a directory with their attributes, read a few at a time."""
        handle = self.call("opendir", self.walk(path), Caller())
        found: dict[bytes, Any] = {}
        position, more = 0, True
        while more:
            page = Page(3)
            with page.taken():
                self.call("readdir", handle, position, page)
            assert not found.keys() & {name for name, _ in page.entries}
            found.update(page.entries)
            position, more = page.next, bool(page.entries)
        self.call("releasedir", handle)
        return found

    def lines(self) -> list[list[str]]:
        """The events, each as its fields."""
        return [line.split("\t") for line in self.read("events").decode().splitlines()]

    def all_paths(self, path: bytes = b"") -> Iterator[bytes]:
        """Every listed path, directories before what is in them."""
        for name, attributes in self.entries(path).items():
            inner = path + b"/" + name
            yield inner
            if stat.S_ISDIR(attributes.st_mode):
                yield from self.all_paths(inner)


class Page:
    """Stands in for a ReaddirToken that has room for `room` entries."""

    def __init__(self, room: int) -> None:
        self.entries: list[tuple[bytes, Any]] = []
        self.next = 0
        self._room = room

    def reply(self, token: object, name: bytes, attributes: Any, position: int) -> bool:
        """What pyfuse3.readdir_reply does: False, and nothing taken, when there is no room."""
        assert token is self
        if len(self.entries) == self._room:
            return False
        self.entries.append((name, copy.copy(attributes)))  # as they are now: it is filled anew
        self.next = position
        return True

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Have the replies of a readdir come here."""
        original, pyfuse3.readdir_reply = pyfuse3.readdir_reply, self.reply  # type: ignore[assignment]
        try:
            yield
        finally:
            pyfuse3.readdir_reply = original


def finish(coroutine: Coroutine[Any, Any, R]) -> R:
    """The result of a handler, which does all of its work in one go."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    raise AssertionError("a handler waits")


@contextlib.contextmanager
def refused(number: int) -> Iterator[None]:
    """The handlers called inside must refuse with this errno value."""
    try:
        yield
    except pyfuse3.FUSEError as error:
        assert errno.errorcode[error.errno] == errno.errorcode[number]  # noqa: PT017
    else:
        raise AssertionError(f"not refused with {errno.errorcode[number]}")


def as_bytes(path: str | bytes) -> bytes:
    return path.encode() if isinstance(path, str) else path
