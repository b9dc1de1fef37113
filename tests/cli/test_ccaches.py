# SPDX-License-Identifier: MIT
"""`ccfs switch`, `destroy`, `wait` and `lock` on a real mount."""

import os
import subprocess
import sys
from pathlib import Path

from ccfs.errors import Exit
from tests.support.clients.python import records
from tests.support.mounting import Mounted, ccfs_command, run_ccfs

TOO_LONG = 20


def said(done: subprocess.CompletedProcess[str]) -> tuple[int, str]:
    """The exit status and the first line on stderr."""
    return done.returncode, done.stderr.partition("\n")[0]


def make(mount: Mounted, name: str) -> Path:
    """An initialised ccache."""
    directory = mount.path / "caches" / name
    directory.mkdir()
    (directory / "principal").write_bytes(b"alice@EXAMPLE.COM\n")
    return directory


def test_switch_changes_default(mount: Mounted) -> None:
    make(mount, "work")
    assert said(run_ccfs("switch", "-m", mount.path, "work")) == (Exit.OK, "")
    assert os.readlink(mount.path / "default") == "caches/work"
    assert set(os.listdir(mount.path)) >= {"default", "caches"}
    assert not [name for name in os.listdir(mount.path) if name.startswith(".")]


def test_missing_ccache_is_one_line_error(mount: Mounted) -> None:
    """Each command says so in one line, also for what can't be a name."""
    for name in ("nothing", "..", "a/b"):
        for command in (["switch"], ["destroy"], ["wait"], ["lock"]):
            run = ["--", "true"] if command == ["lock"] else []
            done = run_ccfs(*command, "-m", mount.path, name, *run)
            assert done.returncode == Exit.NO_CCACHE, done
            assert done.stderr.startswith("ccfs: error: cannot open ccache ")
            assert "ccfs: hint: list them with 'ccfs list'" in done.stderr
    assert os.readlink(mount.path / "default") == "caches/tkt"


def test_destroy_removes_ccache(mount: Mounted) -> None:
    make(mount, "work")
    assert said(run_ccfs("destroy", "-m", mount.path, "work")) == (Exit.OK, "")
    assert os.listdir(mount.path / "caches") == ["tkt"]


def test_copy_duplicates_ccache(mount: Mounted) -> None:
    make(mount, "work")
    caches = mount.path / "caches"
    data = (caches / "work/ccache").read_bytes()
    assert said(run_ccfs("copy", "-m", mount.path, "work", "again")) == (Exit.OK, "")
    assert (caches / "again/ccache").read_bytes() == data
    ident = os.readlink(caches.parent / "default"), (caches / "again").stat().st_ino
    assert sorted(os.listdir(caches)) == ["again", "tkt", "work"]
    assert run_ccfs("copy", "-m", mount.path, "tkt", "new").returncode == Exit.NO_CCACHE
    (caches / "tkt/ccache").write_bytes(data + records.record("host/more"))
    assert run_ccfs("copy", "-m", mount.path, "tkt", "again").returncode == Exit.OK
    done = run_ccfs("copy", "-m", mount.path, "tkt", "again")
    assert done.returncode == Exit.EXISTS
    assert done.stderr == (
        'ccfs: error: ccache "again" has credentials\n'
        "ccfs: hint: add '--replace', or name another\n"
    )
    assert said(run_ccfs("copy", "--replace", "-m", mount.path, "tkt", "again")) == (Exit.OK, "")
    assert (caches / "again/ccache").read_bytes() == (caches / "tkt/ccache").read_bytes()
    assert (os.readlink(caches.parent / "default"), (caches / "again").stat().st_ino) == ident
    assert run_ccfs("copy", "-m", mount.path, "tkt", "tkt").returncode == Exit.USAGE
    assert not [name for name in os.listdir(caches / "again") if name.startswith(".ccfs")]


def waiting(mount: Mounted, *name: str) -> subprocess.Popen[bytes]:
    """A `ccfs wait` that has its FIFO open."""
    command = [*ccfs_command(), "wait", "-m", str(mount.path), *name]
    process = subprocess.Popen(command)
    mine = f"/proc/{process.pid}/fd"
    while not any("changed" in link for link in links(mine)):
        assert process.poll() is None
    return process


def links(directory: str) -> list[str]:
    """Where the descriptors of a process lead."""
    found = []
    for name in os.listdir(directory):
        try:
            found.append(os.readlink(f"{directory}/{name}"))
        except OSError:
            continue
    return found


def test_wait_returns_at_change_of_one_or_any(mount: Mounted) -> None:
    directory = make(mount, "work")
    one, any_one = waiting(mount, "work"), waiting(mount)
    try:
        make(mount, "other")
        assert any_one.wait(TOO_LONG) == 0
        assert one.poll() is None
        (directory / "principal").write_bytes(b"bob@EXAMPLE.COM\n")
        assert one.wait(TOO_LONG) == 0
    finally:
        for process in (one, any_one):
            process.kill()
            process.wait(TOO_LONG)


def test_wait_ends_with_mount(mount: Mounted) -> None:
    process = waiting(mount)
    try:
        mount.process.terminate()
        assert process.wait(TOO_LONG) in (Exit.OK, Exit.NOT_MOUNTED, Exit.DEAD_MOUNT)
        assert mount.process.wait(TOO_LONG) == 0
    finally:
        process.kill()
        process.wait(TOO_LONG)


def test_lock_runs_command_under_lock(mount: Mounted) -> None:
    make(mount, "work")
    lock = ["lock", "-m", str(mount.path), "work", "--"]
    assert run_ccfs(*lock, "sh", "-c", "exit 7").returncode == 7
    assert run_ccfs(*lock, "sh", "-c", "kill -TERM $$").returncode == 128 + 15
    assert run_ccfs(*lock).returncode == Exit.USAGE
    assert said(run_ccfs(*lock, "/nowhere/at/all"))[0] == Exit.UNEXPECTED


def test_lock_excludes_other_writers(mount: Mounted) -> None:
    """While a command runs under the lock no other process gets it; readers share it."""
    make(mount, "work")
    ccfs = [*ccfs_command(), "lock", "-m", str(mount.path)]
    inner = [*ccfs, "--nonblock", "work", "--", sys.executable, "-c", ""]
    done = run_ccfs("lock", "-m", mount.path, "work", "--", *inner)
    assert said(done) == (Exit.LOCKED, 'ccfs: error: ccache "work" is locked')
    shared = [*ccfs, "--nonblock", "--shared", "work", "--", sys.executable, "-c", ""]
    done = run_ccfs("lock", "--shared", "-m", mount.path, "work", "--", *shared)
    assert said(done) == (Exit.OK, "")
