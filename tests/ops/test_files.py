# SPDX-License-Identifier: MIT
"""Opening, writing and removing files, and their effect on the store."""

import errno
import os
from itertools import pairwise

import pyfuse3
import pytest

from ccfs.store import Limits
from tests.support.clients.python import records
from tests.support.direct import Caller, Fields, FileSystem, refused

IMAGE = records.ccache(["host/one", "host/two"])
ONE, TWO = b"host%2Fone@KRBTEST.COM", b"host%2Ftwo@KRBTEST.COM"
NEW = records.record("host/new")
CREATE = os.O_CREAT | os.O_EXCL | os.O_WRONLY
TKT = "caches/tkt"


@pytest.fixture
def fs() -> FileSystem:
    made = FileSystem()
    made.write(f"{TKT}/ccache", IMAGE)
    return made


def names(fs: FileSystem, path: str = f"{TKT}/credentials") -> list[bytes]:
    return list(fs.entries(path))


def test_new_mount_has_default_without_file() -> None:
    made = FileSystem()
    assert made.readlink("default") == b"caches/tkt"
    with refused(errno.ENOENT):
        made.walk("caches/tkt/ccache")
    assert names(made, "dir") == []


def test_ccache_has_two_names(fs: FileSystem) -> None:
    assert fs.read("dir/tkt") == IMAGE
    fs.write("dir/tkt", NEW, os.O_APPEND)
    assert fs.read(f"{TKT}/ccache") == IMAGE + NEW
    assert names(fs) == [ONE, TWO, b"host%2Fnew@KRBTEST.COM"]


def test_create_opens_file_created_through_other_name(fs: FileSystem) -> None:
    """Two processes with O_CREAT at a time: the kernel locks the directories one by one."""
    directory = fs.walk("dir")
    info, attributes = fs.call("create", directory, b"tkt", 0o600, os.O_CREAT | os.O_RDWR, Caller())
    assert attributes.st_ino == fs.walk(f"{TKT}/ccache")
    assert fs.read_handle(info.fh) == IMAGE
    fs.call("create", directory, b"tkt", 0o600, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, Caller())
    assert fs.read("dir/tkt") == b""
    with refused(errno.EEXIST):
        fs.call("create", directory, b"tkt", 0o600, CREATE, Caller())


@pytest.mark.parametrize("path", ["caches", "default", "changed", f"{TKT}/credentials"])
def test_create_over_directory_is_refused(fs: FileSystem, path: str) -> None:
    directory, name = fs.parent(path)
    with refused(errno.EEXIST):
        fs.call("create", directory, name, 0o600, os.O_CREAT | os.O_WRONLY, Caller())


@pytest.mark.parametrize("where", ["", "caches", "by-id"])
def test_create_is_refused_in_fixed_directories(fs: FileSystem, where: str) -> None:
    with refused(errno.EPERM):
        fs.call("create", fs.walk(where), b"x", 0o600, CREATE, Caller())


@pytest.mark.parametrize("where", ["", TKT, "dir", f"{TKT}/credentials", f"{TKT}/config"])
def test_mkdir_is_refused_outside_caches(fs: FileSystem, where: str) -> None:
    with refused(errno.EPERM):
        fs.mkdir(f"{where}/x")


@pytest.mark.parametrize("where", ["caches", TKT, "dir", f"{TKT}/credentials"])
def test_symlink_is_refused_outside_root(fs: FileSystem, where: str) -> None:
    with refused(errno.EPERM):
        fs.symlink(f"{where}/x", b"caches/tkt")


def test_symlinks_are_limited(fs: FileSystem) -> None:
    for number in range(64):
        fs.symlink(f"link{number}", b"caches/tkt")
    with refused(errno.ENOSPC):
        fs.symlink("one-more", b"caches/tkt")


def test_malformed_ccache_is_refused_at_write(fs: FileSystem) -> None:
    """Refused at the write; what was there before stays, but for what O_TRUNC has taken."""
    handle = fs.open(f"{TKT}/ccache", os.O_RDWR)
    for offset, data in ((0, b"\x06"), (len(IMAGE), b"\xff" * 40), (len(IMAGE) + 1, NEW)):
        with refused(errno.EINVAL):
            fs.call("write", handle, offset, data)
    assert fs.read(f"{TKT}/ccache") == IMAGE
    with refused(errno.EINVAL):
        fs.write(f"{TKT}/ccache", b"no ccache")
    assert fs.read(f"{TKT}/ccache") == b""


def test_unlink_removes_credential(fs: FileSystem) -> None:
    inode = fs.walk(f"{TKT}/ccache")
    fs.unlink(f"{TKT}/credentials/".encode() + ONE)
    assert names(fs) == [TWO]
    assert fs.walk(f"{TKT}/ccache") != inode
    assert fs.outside.stale.count(inode) == 1
    assert records.secrets_of("host/one")[1] not in fs.read(f"{TKT}/ccache")
    assert fs.lines()[-1][2:5] == ["removed", "tkt", ONE.decode()]


def test_credential_is_found_by_id(fs: FileSystem) -> None:
    serial = fs.walk(f"{TKT}/credentials/".encode() + ONE) >> 5
    text = fs.read(f"{TKT}/credentials/{serial:x}")
    assert text == fs.read(f"{TKT}/credentials/".encode() + ONE)
    assert f"Id: {serial:x}\n".encode() in text
    assert fs.read(f"{TKT}/credentials/{serial:x}.raw") == records.record("host/one")
    for other in (f"{serial:X}.RAW", f"0{serial:x}", f" {serial:x}", f"{serial:x}.raw.raw"):
        with refused(errno.ENOENT):
            fs.walk(f"{TKT}/credentials/{other}")


def test_secrets_are_in_ccache_and_raw_files_only(fs: FileSystem) -> None:
    key, ticket = records.secrets_of("host/one")
    secret = (key, ticket, key.hex().encode(), ticket.hex().encode())
    found = {
        path
        for path in fs.all_paths()
        if fs.stat(path).st_mode & 0o170000 == 0o100000
        and any(one in fs.read(path) for one in secret)
    }
    assert found == {b"/caches/tkt/ccache", b"/dir/tkt"}


def test_write_of_new_file_stores_credential(fs: FileSystem) -> None:
    """Stored at the write that completes it, and a file that goes when it is closed."""
    handle = fs.open(f"{TKT}/credentials/anything", CREATE)
    for start, end in pairwise((0, 1, 100, len(NEW))):
        assert len(names(fs)) == 2
        assert fs.call("write", handle, start, NEW[start:end]) == end - start
    assert names(fs) == [ONE, TWO, b"host%2Fnew@KRBTEST.COM"]
    (number,) = fs.file_system.handles.unfinished
    inode = number << 5 | 22
    assert fs.call("getattr", inode, Caller()).st_size == len(NEW)
    with refused(errno.EINVAL):
        fs.call("write", handle, len(NEW), b"\x00")
    with refused(errno.ENOENT):
        fs.walk(f"{TKT}/credentials/anything")
    fs.call("release", handle)
    assert fs.file_system.handles.unfinished == {}
    with refused(errno.ESTALE):
        fs.call("getattr", inode, Caller())
    assert fs.read("dir/tkt") == IMAGE + NEW


@pytest.mark.parametrize(
    "data", [NEW + b"\x00", NEW + NEW, b"\xff" * 20, b"\x00\x00\x00\x01\x7f\xff\xff\xff\x00"]
)
def test_malformed_credential_is_refused(fs: FileSystem, data: bytes) -> None:
    handle = fs.open(f"{TKT}/credentials/anything", CREATE)
    with refused(errno.EINVAL):
        fs.call("write", handle, 0, data)
    fs.call("release", handle)
    assert fs.read("dir/tkt") == IMAGE


def test_incomplete_credential_is_not_stored(fs: FileSystem) -> None:
    fs.write(f"{TKT}/credentials/anything", NEW[:-1], CREATE)
    assert fs.read("dir/tkt") == IMAGE


def test_credential_for_uninitialised_ccache_is_refused(fs: FileSystem) -> None:
    fs.mkdir("caches/work")
    handle = fs.open("caches/work/credentials/x", CREATE)
    with refused(errno.ENOENT):
        fs.call("write", handle, 0, NEW)


def test_pending_credential_of_destroyed_ccache_is_estale(fs: FileSystem) -> None:
    fs.mkdir("caches/work")
    fs.write("caches/work/ccache", IMAGE)
    handle = fs.open("caches/work/credentials/x", CREATE)
    fs.rmdir("caches/work")
    with refused(errno.ESTALE):
        fs.call("write", handle, 0, NEW)
    fs.call("release", handle)


def test_configuration_entries_are_files(fs: FileSystem) -> None:
    path = f"{TKT}/config/pa_type~krbtgt%2FR@R"
    fs.write(path, b"2")
    fs.write(f"{TKT}/config/start_realm", b"R\x00\xff")
    assert fs.read(path) == b"2"
    assert fs.read(f"{TKT}/config/start_realm") == b"R\x00\xff"
    assert names(fs) == [ONE, TWO]
    fs.write(path, b"", os.O_TRUNC)
    fs.write(path, b"14", os.O_TRUNC)
    assert (fs.read(path), len(names(fs, f"{TKT}/config"))) == (b"14", 2)
    fs.unlink(path)
    assert names(fs, f"{TKT}/config") == [b"start_realm"]
    assert b"krb5_ccache_conf_data" in fs.read("dir/tkt")


def test_configuration_entry_of_uninitialised_ccache_is_refused(fs: FileSystem) -> None:
    fs.mkdir("caches/work")
    with refused(errno.ENOENT):
        fs.open("caches/work/config/x", CREATE)


@pytest.mark.parametrize("name", ["x%", "a%2fb", "~~~", "x~%zz"])
def test_invalid_configuration_name_is_refused(fs: FileSystem, name: str) -> None:
    with refused(errno.EINVAL):
        fs.open(f"{TKT}/config/{name}", CREATE)


def test_principal_file_replaces_principal(fs: FileSystem) -> None:
    assert fs.read(f"{TKT}/principal") == b"alice@KRBTEST.COM\n"
    fs.write(f"{TKT}/principal", rb"bob\/admin@EXAMPLE.COM" + b"\n", 0)
    assert fs.read(f"{TKT}/principal") == rb"bob\/admin@EXAMPLE.COM" + b"\n"
    assert names(fs) == [ONE, TWO]
    assert b"bob/admin" in fs.read("dir/tkt")


def test_principal_write_initialises_ccache(fs: FileSystem) -> None:
    fs.mkdir("caches/work")
    assert fs.read("caches/work/principal") == b""
    fs.write("caches/work/principal", b"bob@R", 0)
    assert fs.read("dir/tkt.work")[:2] == b"\x05\x04"


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"bob", b"bob@R@S", b"bob@R\\", b"bob\x00@R", b"a/" * 70_000 + b"a@R"]
)
def test_invalid_principal_is_refused(fs: FileSystem, text: bytes) -> None:
    handle = fs.open(f"{TKT}/principal", os.O_WRONLY | os.O_TRUNC)
    with refused(errno.EINVAL):
        fs.call("write", handle, 0, text)
    assert fs.read(f"{TKT}/principal") == b"alice@KRBTEST.COM\n"


def test_principal_of_one_mebibyte_is_written(fs: FileSystem) -> None:
    text = b"a" * (1 << 20) + b"@R\n"
    fs.write(f"{TKT}/principal", text, 0)
    assert fs.read(f"{TKT}/principal") == text
    assert fs.stat(f"{TKT}/principal").st_size == len(text)
    with refused(errno.EINVAL):
        fs.write(f"{TKT}/principal", b"a" * (2 << 20) + b"@R\n", 0)


def test_kdc_offset_file_sets_and_clears_offset(fs: FileSystem) -> None:
    assert fs.read(f"{TKT}/kdc_offset") == b""
    for text, reads in ((b"-3600\n", b"-3600\n"), (b" 5 ", b"5\n"), (b"0", b"0\n"), (b"\n", b"")):
        fs.write(f"{TKT}/kdc_offset", text, os.O_TRUNC)
        assert fs.read(f"{TKT}/kdc_offset") == reads


@pytest.mark.parametrize("text", [b"soon", b"1.5", b"0x10", b"2147483648", b"9" * 5000, b"\xff"])
def test_invalid_offset_is_refused(fs: FileSystem, text: bytes) -> None:
    fs.write(f"{TKT}/kdc_offset", b"7", 0)
    with refused(errno.EINVAL):
        fs.write(f"{TKT}/kdc_offset", text, 0)
    assert fs.read(f"{TKT}/kdc_offset") == b"7\n"


def test_primary_file_sets_default(fs: FileSystem) -> None:
    fs.mkdir("caches/work")
    fs.write("dir/primary", b"tkt.work\n", 0)
    assert (fs.readlink("default"), fs.read("dir/primary")) == (b"caches/work", b"tkt.work\n")
    fs.write("dir/primary", b"tktcoming", 0)
    assert fs.readlink("default") == b"caches/tktcoming"
    for text in (b"work", b"tkt.tkt", b"", b"tkt.a%2fb"):
        with refused(errno.EINVAL):
            fs.write("dir/primary", text, 0)


def test_text_files_refuse_truncation_except_to_zero(fs: FileSystem) -> None:
    """But to nothing, which nothing happens at, as in O_TRUNC."""
    fs.write(f"{TKT}/config/x", b"1")
    for path in ("principal", "kdc_offset", "config/x", "lock"):
        before = fs.read(f"{TKT}/{path}")
        resize(fs, f"{TKT}/{path}", 0)
        with refused(errno.EPERM):
            resize(fs, f"{TKT}/{path}", 5)
        assert fs.read(f"{TKT}/{path}") == before


def resize(fs: FileSystem, path: str, size: int) -> None:
    wanted = pyfuse3.EntryAttributes()
    wanted.st_size = size
    fs.call("setattr", fs.walk(path), wanted, Fields(update_size=True), None, Caller())


def test_ccache_truncation_follows_records(fs: FileSystem) -> None:
    with refused(errno.EINVAL):
        resize(fs, f"{TKT}/ccache", len(IMAGE) + 1)
    resize(fs, f"{TKT}/ccache", len(IMAGE) - len(records.record("host/two")))
    assert names(fs) == [ONE]
    resize(fs, f"{TKT}/ccache", 0)
    assert (names(fs), fs.read("dir/tkt")) == ([], b"")


def test_lock_files_refuse_writes(fs: FileSystem) -> None:
    for path in ("lock", f"{TKT}/lock"):
        with refused(errno.EINVAL):
            fs.write(path, b"x", 0)
        assert fs.read(path) == b""


def test_rm_r_order_destroys_ccache(fs: FileSystem) -> None:
    """In the order of `rm -r`: what is in a directory, then the directory."""
    fs.write(f"{TKT}/config/x", b"1")
    fs.write(f"{TKT}/scratch", b"1")
    for path in sorted(fs.all_paths(b"/caches/tkt"), key=lambda path: -path.count(b"/")):
        if fs.stat(path).st_mode & 0o170000 == 0o040000:
            fs.rmdir(path)
        else:
            fs.unlink(path)
    assert names(fs, TKT) == FIXED
    fs.rmdir(TKT)
    assert fs.lines()[-1][2:4] == ["default", "tkt"]


FIXED = [b"principal", b"credentials", b"config", b"kdc_offset", b"ids", b"info", b"lock"]


@pytest.mark.parametrize("directory", ["credentials", "config"])
def test_rmdir_of_fixed_directory_reissues_inode(fs: FileSystem, directory: str) -> None:
    """The kernel believes it and finds nothing in that inode any more: there is another one."""
    fs.write(f"{TKT}/config/x", b"1")
    old = fs.walk(f"{TKT}/{directory}")
    before = names(fs, f"{TKT}/{directory}")
    fs.rmdir(f"{TKT}/{directory}")
    assert fs.walk(f"{TKT}/{directory}") != old
    assert names(fs, f"{TKT}/{directory}") == before != []


@pytest.mark.parametrize("path", ["README", "info", "events", "dir/primary", "changed"])
def test_fixed_files_cannot_be_removed(fs: FileSystem, path: str) -> None:
    with refused(errno.EPERM):
        fs.unlink(path)


@pytest.mark.parametrize("path", ["caches", "dir", "by-id"])
def test_fixed_directories_cannot_be_removed(fs: FileSystem, path: str) -> None:
    with refused(errno.EPERM):
        fs.rmdir(path)


def test_unlink_uninitialises_ccache_only(fs: FileSystem) -> None:
    ident = fs.walk(TKT)
    fs.unlink(f"{TKT}/ccache")
    assert (fs.walk(TKT), names(fs, "dir")) == (ident, [])
    fs.mkdir("caches/work")
    fs.write("caches/work/ccache", IMAGE)
    fs.unlink("dir/tkt.work")
    assert names(fs, "caches") == [b"tkt"]


def test_unlinked_ccache_is_writable_by_open_handle(fs: FileSystem) -> None:
    """kdestroy writes zeros to it and asks for its size; no other file changes."""
    handle = fs.open("dir/tkt", os.O_RDWR)
    inode = fs.walk("dir/tkt")
    fs.unlink("dir/tkt")
    assert fs.read_handle(handle) == IMAGE
    assert fs.call("write", handle, 0, bytes(len(IMAGE))) == len(IMAGE)
    attributes = fs.call("getattr", inode, Caller())
    assert (attributes.st_size, attributes.st_nlink) == (len(IMAGE), 0)
    fs.write("dir/tkt", IMAGE)
    fs.call("write", handle, 0, bytes(len(IMAGE)))
    assert fs.read("dir/tkt") == IMAGE
    fs.call("release", handle)
    fs.call("forget", [(inode, 1_000)])
    with refused(errno.ESTALE):
        fs.call("getattr", inode, Caller())


def test_superseded_inode_is_estale_at_open(fs: FileSystem) -> None:
    """The kernel has to look the name up again, and gets no second ESTALE if it comes late."""
    old = fs.walk("dir/tkt")
    fs.unlink(f"{TKT}/credentials/".encode() + ONE)
    new = fs.walk("dir/tkt")
    attributes = fs.call("getattr", old, Caller())
    assert (attributes.st_ino, attributes.st_size) == (new, fs.stat("dir/tkt").st_size)
    assert (attributes.attr_timeout, attributes.entry_timeout) == (0, 0)
    for _ in range(2):
        with refused(errno.ESTALE):
            fs.call("open", old, os.O_RDONLY, Caller())


def test_inode_superseded_between_lookup_and_open_is_opened(fs: FileSystem) -> None:
    """The kernel looks up once after an ESTALE: what it has found then is good, however late."""
    old = fs.walk("dir/tkt")
    fs.unlink(f"{TKT}/credentials/".encode() + ONE)
    with refused(errno.ESTALE):
        fs.call("open", old, os.O_RDONLY, Caller())
    found = fs.walk("dir/tkt")
    fs.unlink(f"{TKT}/credentials/".encode() + TWO)
    info = fs.call("open", found, os.O_RDONLY, Caller())
    assert info.direct_io
    assert fs.read_handle(info.fh) == fs.read("dir/tkt")
    with refused(errno.ESTALE):
        fs.call("open", found, os.O_RDONLY, Caller())


def test_superseded_inode_opened_before_is_estale(fs: FileSystem) -> None:
    """Once it was opened in time, it is no better than any old one."""
    old = fs.walk("dir/tkt")
    fs.unlink(f"{TKT}/credentials/".encode() + ONE)
    with refused(errno.ESTALE):
        fs.call("open", old, os.O_RDONLY, Caller())
    found = fs.walk("dir/tkt")
    fs.call("open", found, os.O_RDONLY, Caller())
    fs.unlink(f"{TKT}/credentials/".encode() + TWO)
    with refused(errno.ESTALE):
        fs.call("open", found, os.O_RDONLY, Caller())


def test_ccaches_and_credentials_are_cached_by_kernel(fs: FileSystem) -> None:
    def cached(path: str | bytes) -> bool:
        info = fs.call("open", fs.walk(path), os.O_RDONLY, Caller())
        assert info.keep_cache != info.direct_io
        return bool(info.keep_cache)

    assert cached("dir/tkt")
    assert cached(f"{TKT}/credentials/".encode() + ONE)
    assert not any(map(cached, ("info", "stats", "events", f"{TKT}/info", f"{TKT}/principal")))


def test_scratch_in_dir_becomes_ccache_at_close(fs: FileSystem) -> None:
    handle = fs.open("dir/tktXYZ", CREATE)
    fs.call("write", handle, 0, IMAGE)
    with refused(errno.ENOENT):
        fs.walk("caches/tktXYZ")
    fs.call("release", handle)
    assert fs.read("caches/tktXYZ/ccache") == IMAGE
    fs.write("dir/other", IMAGE)
    with refused(errno.ENOENT):
        fs.walk("caches/other")


def test_scratch_expires_after_ten_minutes(fs: FileSystem) -> None:
    fs.write(f"{TKT}/scratch", b"x")
    fs.symlink("link", b"caches/tkt")
    handle = fs.open("dir/kept", CREATE)
    fs.clock.now += 599
    fs.file_system.store.scratch.expire(fs.clock())
    assert b"scratch" in names(fs, TKT)
    fs.clock.now += 2
    fs.file_system.store.scratch.expire(fs.clock())
    assert (b"scratch" in names(fs, TKT), b"link" in names(fs, "")) == (False, False)
    assert b"kept" in names(fs, "dir")
    fs.call("release", handle)


def test_limits_are_enospc_and_edquot() -> None:
    made = FileSystem(limits=Limits(ccaches=2, ccache_bytes=4096, total_bytes=6000))
    made.mkdir("caches/work")
    with refused(errno.ENOSPC):
        made.mkdir("caches/more")
    made.write("caches/work/ccache", IMAGE)
    with refused(errno.ENOSPC):
        made.write("caches/work/ccache", records.record("x") * 10, os.O_APPEND)
    made.write("dir/scratch", bytes(4000))
    with refused(errno.EDQUOT):
        made.write("dir/more", bytes(4000))
    assert made.read("caches/work/ccache") == IMAGE
