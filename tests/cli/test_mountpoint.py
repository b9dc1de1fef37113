# SPDX-License-Identifier: MIT
"""The mount table and directories to mount on; no mount is made here."""

import os
import threading
from pathlib import Path

import pytest

from ccfs.errors import MountpointError, NotMountedError
from ccfs.linux import forked_call, mountinfo
from ccfs.linux.mountinfo import Mount
from ccfs.mounting import mount_directory, mountpoint

TABLE = r"""22 27 0:21 / /proc rw,relatime - proc proc rw
42 30 0:39 / /run/user/7/ccfs rw,nosuid,nodev,relatime shared:1 - fuse.ccfs ccfs rw,user_id=7
43 30 0:40 / /dev/shm/a\040b\011\134c\012 rw shared:2 master:1 - fuse.ccfs ccfs rw,user_id=0
44 30 0:41 / /mnt rw - tmpfs tmpfs rw
45 30 0:45 / /mnt rw - fuse.sshfs host:/ rw,user_id=9
46 30 0:46 / /mnt/deeper rw - fuse.ccfs ccfs rw
this is no line of a mount table
47 30 0:47 / /nothing-behind-the-dash rw -
"""


def test_mountinfo_is_parsed() -> None:
    assert mountinfo.parse(TABLE) == [
        Mount("/proc", "proc", 21, None),
        Mount("/run/user/7/ccfs", "fuse.ccfs", 39, 7),
        Mount("/dev/shm/a b\t\\c\n", "fuse.ccfs", 40, 0),
        Mount("/mnt", "tmpfs", 41, None),
        Mount("/mnt", "fuse.sshfs", 45, 9),
        Mount("/mnt/deeper", "fuse.ccfs", 46, None),
    ]


def test_topmost_mount_is_last_on_path() -> None:
    table = mountinfo.parse(TABLE)
    found = mountinfo.topmost("/mnt", table)
    assert found is not None
    assert (found.fstype, found.is_ccfs) == ("fuse.sshfs", False)
    assert mountinfo.topmost("/mn", table) is None


def test_mountinfo_lines_end_at_newline_only() -> None:
    """A source with other separators in it hides no mount that covers another."""
    odd = "44 30 0:41 / /mnt rw - tmpfs a\x0b\x0c\x1c\x85\u2028b rw\n"
    table = mountinfo.parse(TABLE + odd + "48 44 0:48 / /mnt rw - fuse.ccfs ccfs rw\n")
    found = mountinfo.topmost("/mnt", table)
    assert found is not None
    assert (found.id, found.parent, found.is_ccfs) == (48, 44, True)


def test_topmost_mount_is_found_by_parent() -> None:
    """One that was made beneath another stands behind it in the table."""
    table = mountinfo.parse(
        "70 71 0:50 / /m rw - fuse.ccfs ccfs rw\n71 30 0:51 / /m rw - fuse.ccfs ccfs rw\n"
    )
    found = mountinfo.topmost("/m", table)
    assert found is not None
    assert found.id == 70


def test_mount_table_has_root() -> None:
    assert mountinfo.topmost("/") is not None


def test_path_without_ccfs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotMountedError):
        mountpoint.find(str(tmp_path))
    with pytest.raises(NotMountedError):
        mountpoint.find("/proc")


def test_mountpoint_path_is_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    assert mountpoint.resolve("link") == str(real)
    assert mountpoint.resolve("link/ccfs") == str(real / "ccfs")
    assert mountpoint.resolve("./real/../real/") == str(real)


def test_missing_mountpoint_is_created(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        os.close(mount_directory.prepare(str(tmp_path / "ccfs")))
    finally:
        os.umask(before)
    assert (tmp_path / "ccfs").stat().st_mode & 0o7777 == 0o700
    os.close(mount_directory.prepare(str(tmp_path / "ccfs")))


def test_unusable_mountpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "entry").mkdir()
    for place, reason in [
        ("file", "is not a directory"),
        ("full", "is not empty"),
        ("no/parent", "does not exist"),
    ]:
        with pytest.raises(MountpointError, match=reason):
            mount_directory.prepare(str(tmp_path / place))
    with pytest.raises(MountpointError, match="is busy: a file system of type proc"):
        mount_directory.prepare("/proc")
    with pytest.raises(MountpointError, match="cannot make /proc/x: the file system of /proc"):
        mount_directory.prepare("/proc/x")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 7, 7)
    with pytest.raises(MountpointError, match="belongs to uid 7"):
        mount_directory.prepare(str(tmp_path / "theirs"))


def test_forked_call_returns_bytes() -> None:
    large = os.urandom(300_000)
    assert forked_call.call(lambda: large, 10) == large


def test_forked_call_raises_its_error() -> None:
    with pytest.raises(FileNotFoundError):
        forked_call.call(lambda: Path("/nowhere/at/all").read_bytes(), 10)


def test_forked_call_reports_broken_child() -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        forked_call.call(lambda: bytes(1 // 0), 10)


def test_forked_call_gives_up_after_timeout(tmp_path: Path) -> None:
    """It is given up, and what it waits for can still come afterwards."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(TimeoutError):
        forked_call.call(fifo.read_bytes, 0.1)
    assert threading.active_count() == 1
