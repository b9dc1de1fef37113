# SPDX-License-Identifier: MIT
"""Renames: every pair of kinds is carried out or refused with EPERM, never EXDEV.

`mv` would copy after EXDEV, and a copy has another identity.
"""

import errno
from collections.abc import Callable
from itertools import product

import pyfuse3
import pytest

from ccfs.ops.rename import STEPS, Kind
from tests.support.clients.python import records
from tests.support.direct import Caller, FileSystem, refused

A, B = records.ccache(["host/a"]), records.ccache(["host/b"])

SOURCES = {
    Kind.DIRECTORY: "caches/A",
    Kind.CONTENT: "caches/A/ccache",
    Kind.LISTED: "dir/tkt.A",
    Kind.SCRATCH: "caches/B/scratch",
    Kind.PRIMARY: "dir/primary",
    Kind.DEFAULT: "default",
    Kind.LINK: "link",
    Kind.CONFIG: "caches/B/config/one",
    Kind.TEXT: "caches/A/principal",
    Kind.FIXED: "caches/A/info",
}
TARGETS = {
    Kind.DIRECTORY: "caches/B",
    Kind.CONTENT: "caches/B/ccache",
    Kind.LISTED: "dir/tkt.B",
    Kind.SCRATCH: "caches/B/other",
    Kind.PRIMARY: "dir/primary",
    Kind.DEFAULT: "default",
    Kind.LINK: "link2",
    Kind.CONFIG: "caches/B/config/two",
    Kind.TEXT: "caches/B/principal",
    Kind.FIXED: "README",
}


@pytest.fixture
def fs() -> FileSystem:
    made = FileSystem()
    for name, image in (("A", A), ("B", B)):
        made.mkdir(f"caches/{name}")
        made.write(f"caches/{name}/ccache", image)
    made.write("caches/B/scratch", A)
    made.write("caches/B/config/one", b"1")
    made.symlink("link", b"caches/B")
    return made


def state(fs: FileSystem) -> dict[bytes, bytes]:
    """What every path of the file system has in it, apart from the counters."""
    left_out = (b"/stats", b"/info", b"changed")
    paths = [path for path in fs.all_paths() if not path.endswith(left_out)]
    return {path: content(fs, path) for path in paths}


def content(fs: FileSystem, path: bytes) -> bytes:
    kind = fs.stat(path).st_mode & 0o170000
    return {0o120000: fs.readlink, 0o100000: fs.read}.get(kind, lambda _: b"")(path)


@pytest.mark.parametrize(
    ("source", "target"), list(product(Kind, Kind)), ids=lambda kind: kind.name
)
def test_rename_works_for_pairs_of_the_table_only(
    fs: FileSystem, source: Kind, target: Kind
) -> None:
    if source is Kind.SCRATCH and target is Kind.PRIMARY:
        fs.write("caches/B/scratch", b"tkt.B\n")
    if source is Kind.SCRATCH and target is Kind.TEXT:
        fs.write("caches/B/scratch", b"carol@KRBTEST.COM\n")
    before = state(fs)
    if (source, target) in STEPS:
        fs.rename(SOURCES[source], TARGETS[target])
        assert state(fs) != before
    else:
        with refused(errno.EPERM):
            fs.rename(SOURCES[source], TARGETS[target])
        assert state(fs) == before


@pytest.mark.parametrize(("source", "target"), list(STEPS), ids=lambda kind: kind.name)
def test_rename_of_vanished_source_is_enoent(fs: FileSystem, source: Kind, target: Kind) -> None:
    """A source that went away between the kernel's look and the rename."""
    absent = {
        Kind.DIRECTORY: "caches/absent",
        Kind.CONTENT: "caches/tkt/ccache",
        Kind.LISTED: "dir/tkt.absent",
        Kind.SCRATCH: "dir/absent",
        Kind.LINK: "absent",
        Kind.CONFIG: "caches/B/config/absent",
    }[source]
    before = state(fs)
    with refused(errno.ENOENT):
        fs.rename(absent, TARGETS[target])
    assert state(fs) == before


MOVES: dict[str, Callable[[FileSystem], None]] = {
    "directory": lambda fs: fs.rename("caches/A", "caches/B"),
    "content": lambda fs: fs.rename("caches/A/ccache", "caches/B/ccache"),
    "listed": lambda fs: fs.rename("dir/tkt.A", "dir/tkt.B"),
    "content to listed": lambda fs: fs.rename("caches/A/ccache", "dir/tkt.B"),
    "listed to content": lambda fs: fs.rename("dir/tkt.A", "caches/B/ccache"),
}


@pytest.mark.parametrize("move", MOVES)
def test_rename_over_ccache_moves_content(fs: FileSystem, move: str) -> None:
    """B becomes A's content and keeps its own id; A is gone."""
    ident, inode = info(fs, "B")["id"], fs.walk("caches/A/ccache")
    MOVES[move](fs)
    assert info(fs, "B")["id"] == ident
    assert fs.read("caches/B/ccache") == fs.read("dir/tkt.B") == A
    assert fs.walk("caches/B/ccache") == inode
    with refused(errno.ENOENT):
        fs.walk("caches/A")
    assert list(fs.entries("caches/B/credentials")) == [b"host%2Fa@KRBTEST.COM"]


@pytest.mark.parametrize("move", MOVES)
def test_rename_of_default_moves_default(fs: FileSystem, move: str) -> None:
    fs.symlink("to-a", b"caches/A")
    fs.rename("to-a", "default")
    MOVES[move](fs)
    assert fs.readlink("default") == b"caches/B"


def info(fs: FileSystem, name: str) -> dict[str, str]:
    lines = fs.read(f"caches/{name}/info").decode().splitlines()
    return dict(line.split(": ", 1) for line in lines if ": " in line)


def test_rename_to_new_name_keeps_ccache(fs: FileSystem) -> None:
    before = info(fs, "A")
    fs.rename("caches/A", "caches/C")
    after = info(fs, "C")
    assert after["name"] == "C"
    assert {key: after[key] for key in ("id", "principal", "bytes", "credentials")} == {
        key: before[key] for key in ("id", "principal", "bytes", "credentials")
    }


def test_rename_over_directory_reissues_its_inode(fs: FileSystem) -> None:
    """The kernel finds nothing in the inode that it marked as removed."""
    old = fs.walk("caches/B")
    fs.rename("caches/A", "caches/B")
    new = fs.walk("caches/B")
    assert new != old
    assert fs.stat("caches/B").st_ino == fs.entries("caches")[b"B"].st_ino == new
    assert fs.call("lookup", old, b"ccache", Caller()).st_ino == fs.walk("caches/B/ccache")
    fs.outside.stale.clear()
    fs.write("caches/B/more", b"")
    assert new in fs.outside.stale
    fs.rmdir("caches/B")
    for inode in (old, new):
        with refused(errno.ESTALE):
            fs.call("getattr", inode, Caller())


def test_rename_of_malformed_ccache_is_refused(fs: FileSystem) -> None:
    for image in (b"", b"\x05", b"no ccache", A[:-1], A + b"\x00"):
        for target in ("caches/A/ccache", "dir/tkt.A", "dir/tkt.new", "dir/tktnew"):
            fs.write("caches/B/scratch", image)
            before = state(fs)
            with refused(errno.EBADMSG):
                fs.rename("caches/B/scratch", target)
            assert state(fs) == before


@pytest.mark.parametrize("text", [b"", b"A\n", b"tkt.\x00\n", b"primary\n", b"tkt.tkt\n"])
def test_rename_of_invalid_primary_is_refused(fs: FileSystem, text: bytes) -> None:
    fs.write("dir/scratch", text)
    with refused(errno.EBADMSG):
        fs.rename("dir/scratch", "dir/primary")
    assert fs.readlink("default") == b"caches/tkt"


@pytest.mark.parametrize(
    "target",
    [b"caches/B", b"caches/B/", b"./caches/B", b"/run/user/1000/ccfs/caches/B", b"caches/B//"],
)
def test_rename_of_symlink_sets_default(fs: FileSystem, target: bytes) -> None:
    fs.symlink("fresh", target)
    assert fs.readlink("fresh") == b"caches/B"
    fs.rename("fresh", "default")
    assert fs.readlink("default") == b"caches/B"
    with refused(errno.ENOENT):
        fs.walk("fresh")


ABSENT = (b"caches/absent", b"by-id/..")
OUTSIDE = (
    b"caches/",
    b"caches",
    b"/tmp/caches/B",
    b"caches/B/ccache",
    b"caches/B/../../..",
    b"caches/..",
    b"../../evil",
    b"/home/mallory/evil",
    b"/run/user/1000/ccfs/../../../../etc/passwd",
    b"dir/tkt.B",
    b"",
    b"caches/%",
)


@pytest.mark.parametrize("target", OUTSIDE + ABSENT)
def test_symlink_target_outside_caches_is_refused(fs: FileSystem, target: bytes) -> None:
    """With allow_root, root would follow a user's `passwd -> /home/mallory/evil` in the root."""
    with refused(errno.ENOENT if target in ABSENT else errno.EPERM):
        fs.symlink("passwd", target)
    with refused(errno.ENOENT):
        fs.walk("passwd")
    assert fs.readlink("default") == b"caches/tkt"


def test_rename_flags_are_honoured(fs: FileSystem) -> None:
    with refused(errno.EEXIST):
        fs.rename("caches/A", "caches/B", pyfuse3.RENAME_NOREPLACE)
    with refused(errno.EINVAL):
        fs.rename("caches/A", "caches/B", pyfuse3.RENAME_EXCHANGE)
    fs.rename("caches/A", "caches/C", pyfuse3.RENAME_NOREPLACE)
    assert fs.read("caches/C/ccache") == A


def test_open_scratch_file_renamed_to_primary(fs: FileSystem) -> None:
    """The kernel keeps its inode under the new name: opened by it, it is looked up again."""
    handle = fs.open("dir/scratch", 0o101)
    fs.call("write", handle, 0, b"tkt.B\n")
    inode = fs.walk("dir/scratch")
    fs.rename("dir/scratch", "dir/primary")
    with refused(errno.ESTALE):
        fs.call("open", inode, 0, Caller())
    assert fs.call("getattr", inode, Caller()).st_nlink == 0
    assert fs.read("dir/primary") == b"tkt.B\n"


def test_rename_to_invalid_ccache_name_is_refused(fs: FileSystem) -> None:
    for name in ("tkt.x", "%zz", "a%2fb"):
        with refused(errno.EPERM):
            fs.rename("caches/A", f"caches/{name}")
    assert fs.read("caches/A/ccache") == A


def test_rename_into_destroyed_ccache_is_refused(fs: FileSystem) -> None:
    """The kernel may still have its directory: what goes there would be nowhere to be found."""
    fs.write("dir/scratch", A)
    gone = fs.walk("caches/A")
    fs.rmdir("caches/A")
    for name in (b"scratch", b"ccache"):
        with refused(errno.ESTALE):
            fs.call("rename", fs.walk("dir"), b"scratch", gone, name, 0, Caller())
    assert fs.read("dir/scratch") == A
