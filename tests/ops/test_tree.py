# SPDX-License-Identifier: MIT
"""The table: what names there are, and that lookup, getattr and readdir say the same of them."""

import errno
import os
import stat
from itertools import count

import pytest

from ccfs.ops.inodes import Ref, Slot
from ccfs.ops.tree import ROWS, TABLE
from tests.support.clients.python import records
from tests.support.direct import Caller, FileSystem, Page, refused

IMAGE = records.ccache(["host/one", "host/two"])
CONFIG = b"pa_type"
UNLISTED = {Slot.RAW, Slot.UNFINISHED, Slot.CHANGED}


@pytest.fixture
def fs() -> FileSystem:
    """A file system with something in every row of the table."""
    made = FileSystem()
    made.write("caches/tkt/ccache", IMAGE)
    made.write("caches/tkt/config/pa_type", b"2")
    made.write("caches/tkt/scratch", b"anything")
    made.write("dir/anything", b"else")
    made.mkdir("caches/work")
    made.symlink("link", b"caches/work")
    return made


def slots(fs: FileSystem) -> set[Slot]:
    """The slots of all listed names."""
    return {Slot(fs.stat(path).st_ino & 31) for path in fs.all_paths()}


def test_tree_rows_are_all_reachable(fs: FileSystem) -> None:
    assert slots(fs) | {Slot.ROOT} | UNLISTED == set(ROWS)
    ident = next(iter(fs.entries("caches/tkt/credentials").values())).st_ino >> 5
    assert fs.walk(f"caches/tkt/credentials/{ident:x}.raw") == Ref(ident, Slot.RAW).inode
    fs.open("caches/tkt/credentials/pending", os.O_CREAT | os.O_WRONLY)
    assert [
        Ref(number, Slot.UNFINISHED).inode & 31 for number in fs.file_system.handles.unfinished
    ] == [22]


def test_fixed_names_are_listed(fs: FileSystem) -> None:
    where = {Slot.ROOT: "", Slot.CCACHE: "caches/tkt/", Slot.DIR: "dir/"}
    for row in TABLE:
        if row.name is not None and row.parent is not None:
            path = where[row.parent] + row.name.decode()
            assert fs.stat(path).st_mode == row.mode, path


def test_lookup_getattr_and_readdir_agree(fs: FileSystem) -> None:
    for path in fs.all_paths():
        directory, name = fs.parent(path)
        looked = fs.call("lookup", directory, name, Caller())
        listed = fs.entries(path.rpartition(b"/")[0])[name]
        asked = fs.call("getattr", looked.st_ino, Caller())
        for attribute in ("st_ino", "st_mode", "st_size", "st_nlink", "st_uid", "st_mtime_ns"):
            values = {getattr(one, attribute) for one in (looked, listed, asked)}
            assert len(values) == 1, (path, attribute, values)


def test_file_sizes_equal_bytes_read(fs: FileSystem) -> None:
    for path in fs.all_paths():
        attributes = fs.stat(path)
        if stat.S_ISREG(attributes.st_mode):
            assert len(fs.read(path)) == attributes.st_size, path
        elif stat.S_ISLNK(attributes.st_mode):
            assert len(fs.readlink(path)) == attributes.st_size, path


def test_nodes_are_private(fs: FileSystem) -> None:
    for path in fs.all_paths():
        attributes = fs.stat(path)
        assert (attributes.st_uid, attributes.st_gid) == (1000, 1000)
        assert stat.S_ISLNK(attributes.st_mode) or not attributes.st_mode & 0o077, path


def test_files_have_one_link(fs: FileSystem) -> None:
    """Heimdal refuses a ccache of more."""
    for path in ("caches/tkt/ccache", "dir/tkt", "caches/tkt/scratch", "dir/anything"):
        assert fs.stat(path).st_nlink == 1
    assert fs.stat("caches/tkt/ccache").st_ino == fs.stat("dir/tkt").st_ino


def test_missing_names_are_enoent(fs: FileSystem) -> None:
    absent = ("nothing", "caches/nothing", "caches/work/ccache", "caches/tkt/nothing", "dir/tktX")
    deep = ("credentials/nothing", "credentials/1", "credentials/1.raw", "config/nothing")
    for path in (*absent, *(f"caches/tkt/{name}" for name in deep), "by-id/0", "by-id/no%20id"):
        with refused(errno.ENOENT):
            fs.walk(path)


def test_noncanonical_names_do_not_resolve(fs: FileSystem) -> None:
    fs.mkdir("caches/a%2Fb")
    assert fs.file_system.store.collection.find(b"a/b") is not None
    for name in ("a%2fb", "%61%2Fb", "a%2Fb%", "%74kt"):
        with refused(errno.ENOENT):
            fs.walk(f"caches/{name}")
        with refused(errno.EINVAL):
            fs.mkdir(f"caches/{name}")


@pytest.mark.parametrize("where", ["", "caches", "caches/tkt", "caches/tkt/credentials", "dir"])
def test_name_over_255_bytes_is_enametoolong(fs: FileSystem, where: str) -> None:
    directory, name = fs.walk(where), b"n" * 256
    for handler, arguments in (
        ("lookup", (directory, name, Caller())),
        ("mkdir", (directory, name, 0o700, Caller())),
        ("symlink", (directory, name, b"caches/tkt", Caller())),
        ("create", (directory, name, 0o600, os.O_CREAT | os.O_WRONLY, Caller())),
    ):
        with refused(errno.ENAMETOOLONG):
            fs.call(handler, *arguments)
    with refused(errno.ENAMETOOLONG):
        fs.call("rename", fs.walk("dir"), b"anything", directory, name, 0, Caller())


def test_name_of_255_bytes_is_accepted(fs: FileSystem) -> None:
    name = "n" * 255
    fs.mkdir(f"caches/{name}")
    fs.write(f"caches/{name}/ccache", IMAGE)
    fs.write(f"caches/tkt/{name}", b"scratch")
    assert name.encode() in fs.entries("caches")
    with refused(errno.ENOENT):  # its name in dir/ would have 4 bytes more
        fs.walk("dir/" + name)


@pytest.mark.parametrize("name", ["tkt.x", "tkt."])
def test_invalid_ccache_names_are_refused(fs: FileSystem, name: str) -> None:
    with refused(errno.EINVAL):
        fs.mkdir(f"caches/{name}")


def test_file_is_enotdir(fs: FileSystem) -> None:
    inode = fs.walk("README")
    for handler, arguments in (
        ("lookup", (inode, b"x", Caller())),
        ("opendir", (inode, Caller())),
        ("mkdir", (inode, b"x", 0o700, Caller())),
        ("unlink", (inode, b"x", Caller())),
    ):
        with refused(errno.ENOTDIR):
            fs.call(handler, *arguments)


def test_directory_is_eisdir(fs: FileSystem) -> None:
    with refused(errno.EISDIR):
        fs.open("caches/tkt")


def test_unknown_inode_is_estale(fs: FileSystem) -> None:
    for inode in (0, 30, 1 << 60, (1 << 64) - 1, Ref(5, Slot.BYTES).inode, Ref(7, Slot.TEXT).inode):
        with refused(errno.ESTALE):
            fs.call("getattr", inode, Caller())


def test_removed_inode_is_estale(fs: FileSystem) -> None:
    """So the kernel looks the name up again, and finds what has it by now."""
    fs.write("caches/work/ccache", IMAGE)
    fs.write("caches/work/config/x", b"1")
    fs.write("caches/work/scratch", b"1")
    inner = [path for path in fs.all_paths(b"/caches/work") if not path.endswith(b"changed")]
    gone = [(fs.walk(path), fs.stat(path).st_mode) for path in (b"/caches/work", *inner)]
    fs.rmdir("caches/work")
    callers = (Caller(pid=pid) for pid in count(1))  # a caller gets this answer once in a row
    for inode, mode in gone:
        with refused(errno.ESTALE):
            fs.call("getattr", inode, next(callers))
        with refused(errno.ESTALE):
            if stat.S_ISDIR(mode):
                fs.call("opendir", inode, next(callers))
            else:
                fs.call("open", inode, os.O_RDONLY, next(callers))


def test_second_estale_in_a_row_is_enoent(fs: FileSystem) -> None:
    """The kernel passes the second ESTALE on to its caller, who has no idea what it means."""
    me = Caller(pid=7)
    for handler, arguments in (("getattr", (me,)), ("open", (os.O_RDONLY, me))):
        for number in (errno.ESTALE, errno.ENOENT):
            fs.write("caches/work/ccache", IMAGE)
            inode = fs.walk("caches/work/ccache", me)
            fs.unlink("caches/work/ccache")
            with refused(number):
                fs.call(handler, inode, *arguments)


def test_estale_is_repeated_after_successful_lookup(fs: FileSystem) -> None:
    """An ESTALE that led to something has nothing to do with the next file that is gone."""
    for _ in range(3):
        fs.write("caches/work/ccache", IMAGE)
        inode = fs.walk("caches/work/ccache")
        fs.rmdir("caches/work")
        fs.mkdir("caches/work")
        with refused(errno.ESTALE):
            fs.call("getattr", inode, Caller())
        with refused(errno.ESTALE):
            fs.call("open", inode, os.O_RDONLY, Caller())


def test_renamed_symlink_is_estale(fs: FileSystem) -> None:
    inode = fs.walk("link")
    fs.rename("link", "default")
    with refused(errno.ESTALE):
        fs.call("readlink", inode, Caller())


def test_readdir_snapshot_omits_removed_names(fs: FileSystem) -> None:
    handle = fs.call("opendir", fs.walk("caches/tkt/credentials"), Caller())
    fs.unlink("caches/tkt/credentials/host%2Fone@KRBTEST.COM")
    page = Page(10)
    with page.taken():
        fs.call("readdir", handle, 0, page)
    assert [name for name, _ in page.entries] == [b"host%2Ftwo@KRBTEST.COM"]


def test_dir_lists_ccache_instead_of_scratch(fs: FileSystem) -> None:
    """Scratch in dir/ gives way to the ccache that gets its name."""
    fs.write("dir/tktnew", b"\x05\x04")
    fs.mkdir("caches/tktnew")
    fs.write("caches/tktnew/ccache", IMAGE)
    handle = fs.call("opendir", fs.walk("dir"), Caller())
    names = [name for name, _ in fs.file_system.handles.by_number[handle].entries]  # type: ignore[attr-defined]
    assert len(names) == len(set(names))
    assert fs.read("dir/tktnew") == IMAGE
    fs.unlink("dir/tktnew")
    assert fs.read("dir/tktnew") == b"\x05\x04"


def test_inodes_are_never_reused(fs: FileSystem) -> None:
    seen: set[int] = set()
    for _ in range(3):
        fs.mkdir("caches/again")
        fs.write("caches/again/ccache", IMAGE)
        new = {fs.walk(path) for path in fs.all_paths(b"/caches/again")}
        assert not new & seen
        seen |= new
        fs.rmdir("caches/again")


def test_readme_has_paths_of_the_mount(fs: FileSystem) -> None:
    text = fs.read("README").decode()
    assert "KRB5CCNAME=FILE:/run/user/1000/ccfs/default/ccache" in text
    assert "uid 1000" in text


def test_statfs_counts_against_the_limits(fs: FileSystem) -> None:
    data = fs.call("statfs", Caller())
    used = fs.file_system.store.used_bytes
    assert used >= len(IMAGE)
    assert data.f_blocks * data.f_frsize == 64 * 1024 * 1024
    assert data.f_bfree == (64 * 1024 * 1024 - used) // data.f_frsize
    assert (data.f_files, data.f_ffree, data.f_namemax) == (1024, 1022, 255)


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("n" * 58, "tkt." + "n" * 58),
        ("n" * 59, None),
        ("n" * 255, None),
        ("tkt" + "n" * 59, "tkt" + "n" * 59),
        ("tkt" + "n" * 60, None),
        ("tkt" + "n" * 252, None),
        ("a\\b", "tkt.a%5Cb"),
        ("a%2Fb", "tkt.a%2Fb"),
    ],
)
def test_dir_names_are_accepted_by_libkrb5(fs: FileSystem, name: str, listed: str | None) -> None:
    """Where `primary` has another one it refuses the whole collection."""
    fs.mkdir(f"caches/{name}")
    fs.write(f"caches/{name}/ccache", IMAGE)
    ident = next(line for line in fs.read(f"caches/{name}/info").splitlines() if line[:3] == b"id:")
    shown = listed.encode() if listed else b"tkt.~" + ident.removeprefix(b"id: ")
    assert shown in fs.entries("dir")
    assert fs.read(b"dir/" + shown) == IMAGE
    for written in (f"tkt.{name}", shown.decode()):
        if len(written) < 256 and not name.startswith("tkt") and "\\" not in written:
            fs.write("dir/primary", b"tkt\n")
            fs.write("dir/primary", written.encode() + b"\n")
            assert fs.readlink("default") == b"caches/" + name.encode()
            assert fs.read("dir/primary") == shown + b"\n"
    fs.rename(b"dir/" + shown, "dir/tkt.other")
    assert fs.read("caches/other/ccache") == IMAGE
    fs.write(f"caches/other/{name[:9]}", b"beside")
    assert b"tkt.other" in fs.entries("dir")


def test_primary_is_absent_before_default_exists() -> None:
    """Heimdal's kinit sets it where it is missing, libkrb5 makes one that says `tkt`."""
    for make in (
        lambda fs: fs.write("dir/tkt", IMAGE),
        lambda fs: fs.write("dir/primary", b"tkt\n"),
        lambda fs: (
            fs.write("dir/primary.XyZ", b"tkt\n"),
            fs.rename("dir/primary.XyZ", "dir/primary"),
        ),
    ):
        fs = FileSystem()
        assert b"primary" not in fs.entries("dir")
        with refused(errno.ENOENT):
            fs.walk("dir/primary")
        with refused(errno.ENOENT):
            fs.unlink("dir/primary")
        make(fs)
        assert fs.read("dir/primary") == b"tkt\n"
        assert b"primary" in fs.entries("dir")
