# SPDX-License-Identifier: MIT
"""Ordinary tools in a mount: what they are used for happens, or they say why not.

Each of these once failed, ended never, or said that it had done what it had not.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.clients.python import records
from tests.support.shell import Shared, sh, shared, wait_until

__all__ = ["shared"]  # a fixture

IMAGE = records.ccache(["host/one", "host/two"])
OTHER = records.ccache(["host/other"])
LONG_AGO = 1_577_836_800


@pytest.fixture
def top(shared: Shared) -> Path:
    """The root of a mount with a ccache in it and nothing else."""
    path = shared.empty()
    (path / "caches/tkt/ccache").write_bytes(IMAGE)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A ccache in another file system, of an earlier time and its owner's alone."""
    path = tmp_path / "krb5cc"
    path.write_bytes(OTHER)
    path.chmod(0o600)
    os.utime(path, (LONG_AGO + 1, LONG_AGO))
    return path


def events(top: Path) -> list[list[str]]:
    return [line.split("\t") for line in (top / "events").read_text().splitlines()]


@pytest.mark.parametrize(
    "command",
    [
        'cp -a "$1" default/ccache',
        'cp -p "$1" default/ccache',
        'mv "$1" default/ccache',
        'rsync -a "$1" default/ccache',
        'rsync -t "$1" default/ccache',
        'install -p -m 600 "$1" default/ccache',
        'cp "$1" default/ccache && touch -r "$1" default/ccache',
        'cp "$1" default/n && touch -d @1577836800 default/n && mv default/n default/ccache',
        'cat "$1" > default/ccache; touch -r "$1" default/ccache',
    ],
)
def test_cp_preserves_time(top: Path, source: Path, command: str) -> None:
    assert sh(top, command, str(source)) == ""
    assert (top / "default/ccache").read_bytes() == OTHER
    assert sh(top, "stat -c %Y default/ccache") == f"{LONG_AGO}\n"


def test_touch_sets_times_of_directories_and_links(top: Path) -> None:
    paths = "caches/tkt caches dir . default/credentials default/lock"
    sh(top, f"touch -d @{LONG_AGO} {paths} && touch -h -d @{LONG_AGO} default")
    assert sh(top, f"stat -c %Y {paths} default").split() == [str(LONG_AGO)] * 7
    sh(top, "mkdir caches/new; echo x > caches/tkt/scratch")
    assert str(LONG_AGO) not in sh(top, "stat -c %Y caches caches/tkt")


def test_set_times_are_visible_to_other_processes(top: Path) -> None:
    """The kernel keeps what it was told, until it is told otherwise."""
    assert (top / "default/ccache").stat().st_mtime > LONG_AGO
    os.utime(top / "default/ccache", ns=(5, LONG_AGO * 10**9 + 123))
    status = (top / "dir/tkt").stat()
    assert (status.st_atime_ns, status.st_mtime_ns) == (5, LONG_AGO * 10**9 + 123)
    with (top / "default/ccache").open("ab") as file:
        file.write(records.record("host/three"))
    assert (top / "dir/tkt").stat().st_mtime > LONG_AGO + 1


@pytest.mark.parametrize("place", [".", "default", "caches/tkt/", "dir"])
def test_listed_files_can_be_read_to_end(top: Path, place: str) -> None:
    """`cat *` once waited at the FIFO `changed` for ever."""
    assert "changed" not in sh(top, f"ls {place}").split()
    sh(top, f"cd {place} && cat $(find -H . -maxdepth 1 -type f) > /dev/null && ! grep zzz * 2>&1")
    sh(top, f"test -p {place if place != 'dir' else '.'}/changed")


@pytest.mark.parametrize("name", ["principal", "kdc_offset", "lock", "info", "ids"])
def test_tar_extracts_over_mount(top: Path, tmp_path: Path, name: str) -> None:
    """It removes what is in its way, and once found it there again, for ever."""
    (tmp_path / name).write_text({"principal": "bob@R\n", "kdc_offset": "7\n"}.get(name, ""))
    (tmp_path / name).chmod(0o600)
    readable = name in ("info", "ids")
    sh(top, f'tar -C "$1" -cf - {name} | tar -C default -xf -', str(tmp_path), status=2 * readable)
    if not readable:
        assert sh(top, f"cat default/{name}") == (tmp_path / name).read_text()
    assert name in sh(top, "ls default").split()


@pytest.mark.parametrize(
    "command",
    [
        'install -m 600 "$1" default/principal',
        'mv "$1" default/principal',
        "sed -i s/alice@KRBTEST.COM/bob@R/ default/principal",
        "echo bob@R > default/new && mv default/new default/principal",
        "rm default/principal && set -C && echo bob@R > default/principal",
    ],
)
def test_tools_that_recreate_files_work(top: Path, tmp_path: Path, command: str) -> None:
    path = tmp_path / "principal"
    path.write_text("bob@R\n")
    path.chmod(0o600)
    assert sh(top, command, str(path)) == ""
    assert sh(top, "cat default/principal") == "bob@R\n"


def test_sed_edits_configuration_entry(top: Path) -> None:
    sh(top, "printf yes > default/config/fast_avail && sed -i s/yes/no/ default/config/fast_avail")
    assert sh(top, "ls default/config; cat default/config/*") == "fast_avail\nno"
    sh(top, "mkdir caches/b && echo b@R > caches/b/principal")
    said = sh(top, "mv -n default/config/fast_avail caches/b/config/", status=1)
    assert "Operation not permitted" in said


def test_rm_of_kdc_offset_clears_it(top: Path) -> None:
    sh(top, "echo 7 > default/kdc_offset && rm default/kdc_offset && ls default > /dev/null")
    assert sh(top, "cat default/kdc_offset") == ""


def test_removed_fixed_name_returns_with_listing(top: Path) -> None:
    sh(top, "rm default/info && ! cat default/info 2> /dev/null")
    assert "info" in sh(top, "ls default").split()
    assert "initialised: yes" in sh(top, "cat default/info")


@pytest.mark.parametrize(
    "command",
    [
        "ln -sf caches/b default",
        'ln -sf "$PWD/caches/b" default',
        "ln -s caches/b default",
        "ln -sfn caches/b default",
        "rm default && ln -s caches/b default",
        "rm default; ln -s ./caches/b/ default",
        "ln -sf by-id/$(sed -n 's/^id: //p' caches/b/info) default",
    ],
)
def test_default_switches_by_ln_and_mv(top: Path, command: str) -> None:
    sh(top, "mkdir caches/b")
    assert sh(top, command) == ""
    assert sh(top, "readlink default; ls caches/tkt caches/b | grep -cx b", status=1) == (
        "caches/b\n0\n"
    )


@pytest.mark.parametrize(
    "command",
    ["ln -s caches/b caches/b", "ln -s caches/b caches/tkt/c", "ln -s /tmp default"],
)
def test_invalid_links_are_refused(top: Path, command: str) -> None:
    sh(top, "mkdir caches/b")
    assert "Operation not permitted" in sh(top, command, status=1)
    assert sh(top, "readlink default") == "caches/tkt\n"


def test_shred_removes_ccache(top: Path) -> None:
    assert sh(top, "shred -u default/ccache") == ""
    assert sh(top, "ls default/credentials; grep initialised default/info") == "initialised: no\n"
    assert "ccache" not in sh(top, "ls default").split()


def test_malformed_overwrite_destroys_ccache(top: Path) -> None:
    """By a write over all of it; a shorter one is refused and changes nothing."""
    before = len(events(top))
    with (top / "default/ccache").open("r+b", buffering=0) as file:
        with pytest.raises(OSError, match="Invalid argument"):
            file.write(b"\xff" * (len(IMAGE) - 1))
        assert (top / "dir/tkt").read_bytes() == IMAGE
        assert file.write(b"\xff" * len(IMAGE)) == len(IMAGE)
        assert (top / "default/ccache").read_bytes() == b""
        file.seek(0)
        file.write(IMAGE)
    assert (top / "default/ccache").read_bytes() == b""
    assert [line[2] for line in events(top)[before:]].count("uninitialised") == 1
    (top / "default/ccache").write_bytes(OTHER)
    assert (top / "dir/tkt").read_bytes() == OTHER


def test_incomplete_credential_is_reported_in_events(top: Path, tmp_path: Path) -> None:
    """close(2) can't fail here: the kernel sends no request for it."""
    record = records.record("host/new")
    (tmp_path / "record").write_bytes(record[:-1])
    path = str(tmp_path / "record")
    said = sh(top, 'dd if="$1" of=default/credentials/NEW conv=fsync status=none', path, status=1)
    assert "Invalid argument" in said
    sh(top, 'cp "$1" default/credentials/AGAIN', path)

    def dropped(name: str) -> bool:
        return ["dropped", "tkt", name] in [line[2:5] for line in events(top)]

    wait_until(lambda: dropped("NEW") and dropped("AGAIN"), "both are in the log")
    (tmp_path / "record").write_bytes(record)
    sh(top, 'dd if="$1" of=default/credentials/NEW conv=fsync status=none', path)
    assert "host%2Fnew@KRBTEST.COM" in sh(top, "ls default/credentials").split()


def test_fsync_refuses_incomplete_ccache(top: Path, tmp_path: Path) -> None:
    (tmp_path / "ccache").write_bytes(IMAGE[:-1])
    command = 'dd if="$1" of=default/ccache conv=fsync status=none'
    assert "Invalid argument" in sh(top, command, str(tmp_path / "ccache"), status=1)


@pytest.mark.parametrize("target", ["default/ccache", "dir/tkt.new", "default/principal"])
def test_mv_reports_refusals(top: Path, target: str) -> None:
    said = sh(top, f"echo no > default/new && mv default/new {target}", status=1)
    assert "Bad message" in said
    assert "subdirectory" not in said


def test_event_names_process_not_thread(top: Path) -> None:
    program = (
        "import sys, threading, pathlib\n"
        "write = pathlib.Path(sys.argv[1]).write_bytes\n"
        "thread = threading.Thread(target=write, args=(pathlib.Path(sys.argv[2]).read_bytes(),))\n"
        "thread.start(); thread.join()"
    )
    command = [sys.executable, "-c", program, "default/ccache", "dir/tkt"]
    with subprocess.Popen(command, cwd=top) as process:
        assert process.wait(30) == 0
    assert [line[6] for line in events(top)][-1] == f"pid={process.pid}"
    assert [line[7] for line in events(top)][-1].startswith("python")


def test_event_of_renamed_thread_names_process(top: Path) -> None:
    """A thread's name is no command."""
    said: list[list[str]] = []

    def work() -> None:
        Path("/proc/thread-self/comm").write_text("worker")
        (top / "default/principal").write_bytes(b"bob@R\n")
        said.extend(events(top)[-1:])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    command = Path("/proc/self/comm").read_text().rstrip("\n")
    assert said[0][6:] == [f"pid={os.getpid()}", command]


def test_late_event_reader_gets_one_line_for_gap(top: Path) -> None:
    with (top / "events").open("rb", buffering=0) as file:
        for number in range(12_000):
            (top / "default/kdc_offset").write_bytes(b"%d\n" % number)
        said = b"".join(iter(lambda: file.read(65536), b""))
    lines = said.splitlines()
    assert lines[0].startswith(b"# lost all events before ")
    assert b"  " not in said
    numbers = [int(line.split(b"\t")[0]) for line in lines[1:]]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert lines[0] == b"# lost all events before %d" % numbers[0]
