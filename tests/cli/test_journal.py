# SPDX-License-Identifier: MIT
"""The journal as its user meets it: where it is kept, who gets it back, what is refused."""

import contextlib
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccfs.errors import Exit
from ccfs.journal import location
from ccfs.linux import mountinfo
from tests.support.background_mount import BackgroundMount, background_mount, clear
from tests.support.clients.python import records
from tests.support.mounting import is_mounted
from tests.support.processes import serving
from tests.support.shell import wait_until

IMAGE = records.ccache(["host/one", "host/two"])


@pytest.fixture
def here() -> Iterator[BackgroundMount]:
    with background_mount() as made:
        yield made


def kill_both(here: BackgroundMount) -> None:
    """Kill the supervisor first, so that the daemon is not replaced."""
    daemon, supervisor_pid = here.pid(), here.supervisor_pid()
    for pid in (supervisor_pid, daemon):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not serving(here.path), "a process stays")


def content(here: BackgroundMount) -> bytes:
    return (here.path / "default/ccache").read_bytes()


def fails(here: BackgroundMount, *options: str) -> str:
    """What `ccfs mount` says when it refuses a journal, with the status for that."""
    done = here.run("mount", "--replace", *options, str(here.path))
    assert done.returncode == Exit.JOURNAL, done.stderr
    assert "ccfs: error: " in done.stderr
    return done.stderr


def set_aside(here: BackgroundMount) -> list[str]:
    return sorted(p.name for p in here.directory.iterdir() if ".damaged-" in p.name)


def test_journal_is_private_and_removed_with_mount(here: BackgroundMount) -> None:
    here.mount()
    (here.path / "default/ccache").write_bytes(IMAGE)
    found = [p for p in here.directory.iterdir() if p.name.startswith("journal")]
    assert {p.name for p in found} == {"journal"}
    assert {stat.S_IMODE(p.stat().st_mode) for p in found} == {0o600}
    here.unmount()
    assert [p.name for p in here.directory.iterdir()] == ["ccfs"]


def test_second_mount_loads_journal(here: BackgroundMount) -> None:
    here.mount()
    (here.path / "default/ccache").write_bytes(IMAGE)
    before = here.info()
    ids = (here.path / "default/ids").read_bytes()
    kill_both(here)
    done = here.run("mount", "--journal", str(here.journal), str(here.path))
    assert done.returncode == Exit.DEAD_MOUNT
    here.mount("--replace")
    assert content(here) == IMAGE
    assert (here.path / "default/ids").read_bytes() == ids
    assert here.info()["server_id"] != before["server_id"]


@pytest.mark.parametrize("below", ["XDG_RUNTIME_DIR", "/dev/shm"])
def test_journal_in_default_location_is_found(
    here: BackgroundMount, below: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below $XDG_RUNTIME_DIR, or in a directory of a random name."""
    runtime = here.directory / "runtime"
    runtime.mkdir(mode=0o700)
    if below.startswith("/"):
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    else:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))

    def kept() -> list[Path]:
        parents = Path("/dev/shm"), runtime
        mark = location._mountpoint_hash(str(here.path))
        return [p for parent in parents for p in parent.glob(f"ccfs-journal-{mark}*")]

    assert here.run("mount", str(here.path)).returncode == 0
    (here.path / "default/ccache").write_bytes(IMAGE)
    [directory] = kept()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    kill_both(here)
    assert here.run("mount", "--replace", str(here.path)).returncode == 0
    assert content(here) == IMAGE
    here.unmount()
    assert kept() == []


def test_no_journal_restores_nothing(here: BackgroundMount) -> None:
    assert here.run("mount", "--no-journal", str(here.path)).returncode == 0
    (here.path / "default/ccache").write_bytes(IMAGE)
    kill_both(here)
    assert here.run("mount", "--no-journal", "--replace", str(here.path)).returncode == 0
    assert not (here.path / "default/ccache").exists()


def test_journal_of_mountpoint_with_any_bytes(here: BackgroundMount) -> None:
    path = os.fsencode(here.directory) + b"/\xff\n ccfs"
    arguments = [sys.executable, "-m", "ccfs", "mount", "--journal", str(here.journal)]
    try:
        done = subprocess.run([*arguments, path], capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        Path(os.fsdecode(path), "default/ccache").write_bytes(IMAGE)
    finally:
        stop = [sys.executable, "-m", "ccfs", "unmount", path]
        assert subprocess.run(stop, timeout=60, check=False).returncode == 0  # type: ignore[arg-type]


def test_journal_in_use_is_not_taken(here: BackgroundMount) -> None:
    """A second mount with the same path takes nothing from the first."""
    here.mount()
    (here.path / "default/ccache").write_bytes(IMAGE)
    other = str(here.directory / "other")
    done = here.run("mount", "--journal", str(here.journal), other)
    assert done.returncode == Exit.JOURNAL
    assert f"in use by process {here.pid()}" in done.stderr
    assert set_aside(here) == []
    assert not is_mounted(Path(other))
    kill_both(here)
    done = here.run("mount", "--journal", str(here.journal), other)
    assert done.returncode == Exit.JOURNAL
    assert "another mountpoint" in done.stderr
    assert set_aside(here) == []
    here.mount("--replace")
    assert content(here) == IMAGE


def damaged(here: BackgroundMount, at: int) -> None:
    data = bytearray(here.journal.read_bytes())
    data[at] ^= 0x10
    here.journal.write_bytes(data)


IN_A_FRAME = 4096 + 30
AT = {"header": 8, "step": 64, "frame": IN_A_FRAME}


@pytest.mark.parametrize("at", AT.values(), ids=AT)
def test_damaged_journal_is_put_aside_at_mount(here: BackgroundMount, at: int) -> None:
    """The first mount says so; only the next one begins without it."""
    here.mount()
    (here.path / "default/ccache").write_bytes(IMAGE)
    kill_both(here)
    damaged(here, at)
    said = fails(here, "--journal", str(here.journal))
    assert str(here.journal) in said
    assert "kept as" in said
    assert set_aside(here)
    assert not is_mounted(here.path)
    here.mount()
    assert not (here.path / "default/ccache").exists()


def test_damaged_journal_is_not_replaced_by_supervisor(here: BackgroundMount) -> None:
    """The parent process does not come up empty: it gives up, and the mount stays, dead."""
    here.mount()
    (here.path / "default/ccache").write_bytes(IMAGE)
    daemon = here.pid()
    os.kill(daemon, signal.SIGSTOP)  # so that nothing is written while it is damaged
    damaged(here, IN_A_FRAME)
    os.kill(daemon, signal.SIGKILL)
    wait_until(lambda: not serving(here.path), "the parent process does not give up")
    with pytest.raises(OSError, match="not connected"):
        here.info()
    assert set_aside(here)


def make_link(path: Path) -> None:
    path.symlink_to("target")


def make_hard_link(path: Path) -> None:
    path.touch()
    path.with_name("other-name").hardlink_to(path)


def make_foreign(path: Path) -> None:
    path.touch()
    os.chown(path, 65534, 65534)


@pytest.mark.parametrize("part", ["", ".new"])
@pytest.mark.parametrize("make", [make_link, make_hard_link, Path.mkdir, os.mkfifo, make_foreign])
def test_foreign_journal_is_refused_and_left(make: object, part: str, tmp_path: Path) -> None:
    from ccfs.errors import JournalError

    if make is make_foreign and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    path = tmp_path / f"journal{part}"
    make(path)  # type: ignore[operator]
    before = path.lstat()
    with pytest.raises(JournalError, match=r"not a regular file|belongs to uid"):
        location.check_file(str(tmp_path / "journal"))
    assert path.lstat().st_ino == before.st_ino


def test_symlink_as_journal_is_refused(here: BackgroundMount) -> None:
    (here.directory / "journal").symlink_to("/etc/hostname")
    assert "not a regular file" in fails(here, "--journal", str(here.journal))


def test_untrusted_journal_directory_is_refused(here: BackgroundMount) -> None:
    done = here.run("mount", "--journal", "/var/tmp/ccfs-journal/j", str(here.path))
    assert done.returncode == Exit.JOURNAL
    with tempfile.TemporaryDirectory(dir="/var/tmp") as disk:
        if not location.in_memory(disk):
            assert "on a disk" in fails(here, "--journal", f"{disk}/j")
            options = ["--journal-on-disk", "--journal", f"{disk}/j"]
            assert here.run("mount", *options, str(here.path)).returncode == 0
            here.unmount()
    here.directory.chmod(0o750)
    assert "not yours alone" in fails(here, "--journal", str(here.journal))


def test_background_mount_leaves_nothing() -> None:
    """The tests' own promise: whatever happens to a mount, its place is cleared."""
    with background_mount() as made:
        made.mount()
        daemon = made.pid()
        os.kill(daemon, signal.SIGSTOP)
        clear(made)
        assert not serving(made.path)
    assert mountinfo.topmost(str(made.path)) is None
    assert not made.directory.exists()


def test_journal_of_stopped_daemon_is_taken_over(here: BackgroundMount) -> None:
    """It is ended, and the next one has its journal."""
    here.mount()
    (here.path / "default/ccache").write_bytes(IMAGE)
    daemon = here.pid()
    os.kill(daemon, signal.SIGSTOP)
    here.mount("--replace")
    assert daemon not in serving(here.path)
    assert content(here) == IMAGE


def test_journal_search_tolerates_vanishing_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In /dev/shm each user may make names like ours, and remove them while we look."""
    monkeypatch.setattr(location, "SHARED", str(tmp_path))
    prefix = f"{location._PREFIX}{location._mountpoint_hash('/m')}-"
    (tmp_path / f"{prefix}link").symlink_to("/etc")
    (tmp_path / f"{prefix}file").touch()
    vanishing = [tmp_path / f"{prefix}{number}" for number in range(20)]
    for path in vanishing:
        path.mkdir()
    real = os.scandir

    def and_then_they_go(directory: str) -> "os._ScandirIterator[str]":
        entries = [*real(directory)]
        for path in vanishing:
            path.rmdir()
        (tmp_path / "ours").mkdir()
        return contextlib.nullcontext(iter(entries))  # type: ignore[return-value]

    monkeypatch.setattr(os, "scandir", and_then_they_go)
    assert location._shared_directories("/m", os.geteuid()) == []


@pytest.mark.parametrize("limit", [*range(7, 17), 63])
def test_mount_with_too_few_descriptors_is_refused(here: BackgroundMount, limit: int) -> None:
    """Refused before anything is made, and nothing is left."""
    command = ["prlimit", f"--nofile={limit}:{limit}", sys.executable, "-m", "ccfs", "mount"]
    done = subprocess.run(
        [*command, "--journal", str(here.journal), str(here.path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, f"only {limit} files may be open" in done.stderr) == (5, True)
    assert os.listdir(here.directory) == []
