# SPDX-License-Identifier: MIT
"""A ccache's directory in a mount against an ordinary directory: whatever one does, it is the same.

Each step is done in both, and its result or errno compared; after each step everything that can be
seen by path and through open files is compared, too.  What DESIGN wants otherwise is in WANTED.
"""

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ccfs.format.ccache import scan_prefix
from ccfs.format.credential import scan_credential
from ccfs.format.errors import FormatError
from tests.support.ccache_tree import CcacheTree
from tests.support.clients.python import records
from tests.support.mounting import Mounted

LIMIT = 8 << 20
CCACHE = "ccache"
NAMES = [CCACHE, "scratch", "other"]
SERVERS = ["host/a", "host/b", "HTTP/c", "HTTP/long-name"]
RECORDS = [records.record(server) for server in SERVERS]
IMAGES = [records.ccache(SERVERS[:count]) for count in range(len(SERVERS) + 1)]
ROOM = 6
"""Open files at a time."""

WANTED = {
    "no ccache": "bytes that can't become a ccache are EINVAL at that write, or at the rename",
    "hole": "a write that leaves a hole in a ccache is EINVAL; elsewhere zeros fill it",
    "growth": "a ccache doesn't grow by truncation: zeros are no credential",
}
"""The reasons for which a mount answers EINVAL where a directory does not, each from DESIGN."""

AVOIDED = {
    "an incomplete tail": "stays while its writer has the file open; test_mount_tree has it",
    "put aside while open": "a ccache that is renamed to scratch is a copy of what is open",
}
"""What is the same in neither, and isn't done here."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One open file in both places."""

    mount: int
    twin: int


class Directories(RuleBasedStateMachine):
    """Two directories, `mount` in a ccfs and `twin` on tmpfs, and files that are open in both."""

    mount: Path
    twin: Path

    def __init__(self) -> None:
        super().__init__()
        self.files: list[Pair] = []
        self.twin.mkdir()

    def teardown(self) -> None:
        for pair in self.files:
            os.close(pair.mount)
            os.close(pair.twin)
        shutil.rmtree(self.twin)
        self.mount.rmdir()

    @rule(
        name=st.sampled_from([CCACHE, CCACHE, *NAMES, "absent", "", "x" * 256]),
        mode=st.sampled_from([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_APPEND]),
        more=st.sampled_from([0, os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_CREAT | os.O_TRUNC]),
    )
    @precondition(lambda self: len(self.files) < ROOM)
    def open(self, name: str, mode: int, more: int) -> None:
        if name == "absent":
            more = 0
        if name == "" and mode == os.O_RDONLY:
            return  # a directory: its size and its links are each file system's own
        opened = self.both(lambda directory: os.open(directory / name, mode | more, 0o600))
        if opened:
            self.files.append(Pair(*opened))

    @rule(which=st.integers(0, ROOM - 1))
    @precondition(lambda self: self.files)
    def close(self, which: int) -> None:
        pair = self.files.pop(which % len(self.files))
        os.close(pair.mount)
        os.close(pair.twin)

    @rule(
        which=st.integers(0, ROOM - 1),
        data=st.sampled_from([*RECORDS, *IMAGES, IMAGES[3][:40], b"\x05", b"no ccache"]),
        where=st.integers(0, 6),
    )
    @precondition(lambda self: self.files)
    def write(self, which: int, data: bytes, where: int) -> None:
        """At the start, at the end, at the start of some record, or behind the end."""
        pair = self.files[which % len(self.files)]
        before = content(pair.twin)
        offset = self.somewhere(len(before), where)
        if fcntl.fcntl(pair.twin, fcntl.F_GETFL) & os.O_APPEND:
            offset = len(before)
        after = before[:offset].ljust(offset, b"\0") + data + before[offset + len(data) :]
        reason = "hole" if offset > len(before) else wrong_with(after)
        self.change(pair, lambda descriptor: os.pwrite(descriptor, data, offset), reason)

    @rule(name=st.sampled_from(NAMES), image=st.sampled_from(IMAGES))
    def copy(self, name: str, image: bytes) -> None:
        """What `cp` does, whether or not the file is open."""

        def copy(directory: Path) -> None:
            (directory / name).write_bytes(image)

        self.both(copy)

    @rule(which=st.integers(0, ROOM - 1), where=st.integers(0, 6))
    @precondition(lambda self: self.files)
    def truncate(self, which: int, where: int) -> None:
        pair = self.files[which % len(self.files)]
        before = content(pair.twin)
        length = self.somewhere(len(before), where)
        reason = "growth" if length > len(before) else wrong_with(before[:length])
        self.change(pair, lambda descriptor: os.ftruncate(descriptor, length), reason)

    @rule(name=st.sampled_from([*NAMES, "absent"]))
    def unlink(self, name: str) -> None:
        self.both(lambda directory: (directory / name).unlink())

    @rule(source=st.sampled_from([*NAMES, "absent"]), new=st.sampled_from(NAMES))
    def rename(self, source: str, new: str) -> None:
        if source == CCACHE and source != new and self.is_open(CCACHE):
            return  # AVOIDED: "put aside while open"
        reason = None
        if new == CCACHE != source and (self.twin / source).exists():
            data = (self.twin / source).read_bytes()
            reason = "no ccache" if not data or wrong_with(data) else None
        if reason:
            self.refused(lambda: (self.mount / source).rename(self.mount / new), reason)
        else:
            self.both(lambda directory: (directory / source).rename(directory / new))

    @rule(name=st.sampled_from(NAMES))
    def touch(self, name: str) -> None:
        self.both(lambda directory: os.utime(directory / name))
        self.both(lambda directory: os.chmod(directory / name, 0o600))

    @invariant()
    def all_looks_the_same(self) -> None:
        for name in NAMES:
            assert look(self.mount / name) == look(self.twin / name), name
        listed = [name for name in os.listdir(self.mount) if name in NAMES]
        assert sorted(listed) == sorted(os.listdir(self.twin))
        for pair in self.files:
            assert seen(pair.mount) == seen(pair.twin)

    def both(self, step: Callable[[Path], object]) -> tuple[int, int] | None:
        """Do a step in both places; the descriptors that it gave, if it gave any."""
        results = [outcome(lambda place=place: step(place)) for place in (self.mount, self.twin)]
        ours, theirs = results
        assert (type(ours), isinstance(ours, str) and ours) == (
            type(theirs),
            isinstance(theirs, str) and theirs,
        )
        return (ours, theirs) if isinstance(ours, int) and isinstance(theirs, int) else None

    def change(self, pair: Pair, step: Callable[[int], object], reason: str | None) -> None:
        """Change an open file; where that is a ccache, `reason` says what is wrong with it."""
        if not self.is_ccache(pair) or not writes(pair) or not reason:
            assert outcome(lambda: step(pair.mount)) == outcome(lambda: step(pair.twin))
        elif reason not in AVOIDED:
            self.refused(lambda: step(pair.mount), reason)

    def refused(self, step: Callable[[], object], reason: str) -> None:
        """A step that a directory would do, and a mount must refuse."""
        assert outcome(step) == "EINVAL", WANTED[reason]

    def somewhere(self, length: int, where: int) -> int:
        """An offset in a file of a length: its ends, ends of records, or behind it."""
        edges = [len(image) for image in IMAGES[:4]]
        return [0, length, length + 3, *edges][where]

    def is_open(self, name: str) -> bool:
        return any(self.is_ccache(pair) for pair in self.files) and name == CCACHE

    def is_ccache(self, pair: Pair) -> bool:
        """Whether an open file is the one that is called `ccache`."""
        path = self.twin / CCACHE
        return path.exists() and path.stat().st_ino == os.fstat(pair.twin).st_ino


def wrong_with(data: bytes) -> str | None:
    """What keeps bytes from being a ccache: the key of a reason, None where nothing does."""
    if not data:
        return None
    try:
        found = scan_prefix(data, LIMIT)
        if found is None:
            return "an incomplete tail"
        prefix, at = found
        while at < len(data):
            end = scan_credential(data, at, prefix.header.dialect, LIMIT)
            if end is None:
                return "an incomplete tail"
            at = end
    except FormatError:
        return "no ccache"
    return None


def outcome(step: Callable[[], object]) -> object:
    """What a step gives, or the name of its errno."""
    try:
        return step()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def writes(pair: Pair) -> bool:
    return fcntl.fcntl(pair.twin, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY


def content(descriptor: int) -> bytes:
    """All bytes of an open file, however it is open."""
    with open(f"/proc/self/fd/{descriptor}", "rb") as file:
        return file.read()


def look(path: Path) -> object:
    """What one sees of a path."""

    def see() -> object:
        status = path.stat()
        return status.st_size, status.st_nlink, stat.S_IFMT(status.st_mode), path.read_bytes()

    return outcome(see)


def seen(descriptor: int) -> object:
    """What one sees through an open file."""
    status = os.fstat(descriptor)
    read = outcome(lambda: os.pread(descriptor, LIMIT, 0))
    return status.st_size, status.st_nlink, read


@pytest.fixture
def twins(mount: Mounted, tmpfs: CcacheTree) -> type[Directories]:
    """The machine, on a fresh mount and a fresh directory."""
    return type(
        "Twins",
        (Directories,),
        {"mount": mount.path / "caches/tkt", "twin": tmpfs.path / "twin"},
    )


def test_mount_agrees_with_tmpfs(twins: type[Directories]) -> None:
    run_state_machine_as_test(
        twins,
        settings=settings(
            max_examples=50,
            stateful_step_count=30,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
