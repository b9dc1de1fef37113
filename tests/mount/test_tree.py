# SPDX-License-Identifier: MIT
"""A mount in the hands of a user: what DESIGN says that each operation means, with real tools."""

import contextlib
import errno
import fcntl
import json
import mmap
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clients.python import records
from tests.support.inotify import (
    IN_ATTRIB,
    IN_CLOSE_WRITE,
    IN_DELETE,
    IN_MODIFY,
    IN_MOVED_TO,
    seen,
    watching,
)
from tests.support.shell import Shared, output_until, running, sh, shared, wait_until, waiting

__all__ = ["shared"]  # a fixture

IMAGE = records.ccache(["host/one", "host/two"])
OTHER = records.ccache(["host/other"])
ONE, TWO = "host%2Fone@KRBTEST.COM", "host%2Ftwo@KRBTEST.COM"
CHANGED = ("changed", "caches/tkt/changed")


@pytest.fixture
def top(shared: Shared) -> Path:
    """The root of a mount with a ccache in it and nothing else."""
    path = shared.empty()
    (path / "caches/tkt/ccache").write_bytes(IMAGE)
    return path


def lines(top: Path, after: int = 0) -> list[list[str]]:
    """The fields of the events behind the first `after` of them."""
    return [line.split("\t") for line in (top / "events").read_text().splitlines()][after:]


def test_ls_and_cat_show_the_tree(top: Path) -> None:
    assert sh(top, "ls").split() == sorted(os.listdir(top))
    assert sh(top, "readlink default") == "caches/tkt\n"
    assert sh(top, "ls caches/tkt/credentials").split() == [ONE, TWO]
    assert sh(top, f"grep ^Server: caches/tkt/credentials/{ONE}") == (
        "Server: host/one@KRBTEST.COM\n"
    )
    assert sh(top, "cat dir/primary default/principal") == "tkt\nalice@KRBTEST.COM\n"
    assert sh(top, "find . -type f -perm /077; find . ! -user $(id -u)") == ""
    assert "KRB5CCNAME=FILE:" in sh(top, "cat README")
    assert json.loads(sh(top, "cat stats"))["credentials"] == 2
    assert sh(top, "cmp caches/tkt/ccache dir/tkt && stat -c '%h %a' dir/tkt") == "1 600\n"


def test_recursive_listing_has_no_errors(top: Path) -> None:
    lines = sh(top, "ls -laR").splitlines()
    assert not [line for line in lines if "cannot" in line or "?" in line]
    sh(top, "find . -type f ! -path './changed' -exec cat {} + > /dev/null")
    sh(top, "tar cf /dev/null --exclude=changed . && du -a . > /dev/null && df .")


def test_file_sizes_equal_bytes_read(top: Path) -> None:
    for path in sh(top, "find . -type f").split():
        size, read = sh(top, f"stat -c %s '{path}'; wc -c < '{path}'").split()
        assert size == read, path


def test_cp_in_and_out_keeps_bytes(top: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(OTHER)
    sh(top, 'cp "$1"/in caches/tkt/ccache && cp dir/tkt "$1"/out', str(tmp_path))
    assert (tmp_path / "out").read_bytes() == OTHER
    sh(top, 'cp -p caches/tkt/ccache "$1"/out2 && cat < "$1"/in > dir/tkt', str(tmp_path))
    assert (top / "dir/tkt").read_bytes() == OTHER


@pytest.mark.parametrize("block", [1, 7, 512, 4096])
def test_dd_writes_in_blocks(top: Path, tmp_path: Path, block: int) -> None:
    (tmp_path / "in").write_bytes(OTHER)
    sh(top, f'dd if="$1"/in of=dir/tkt bs={block} status=none', str(tmp_path))
    assert (top / "caches/tkt/ccache").read_bytes() == OTHER


def test_shell_append_stores_credential(top: Path, tmp_path: Path) -> None:
    (tmp_path / "record").write_bytes(records.record("host/new"))
    sh(top, 'cat "$1"/record >> dir/tkt', str(tmp_path))
    assert (top / "caches/tkt/ccache").read_bytes() == IMAGE + records.record("host/new")
    assert len(sh(top, "ls caches/tkt/credentials").split()) == 3


def test_malformed_ccache_is_einval(top: Path) -> None:
    output = sh(top, "printf 'no ccache' > caches/tkt/ccache", status=1)
    assert "Invalid argument" in output
    assert (top / "caches/tkt/ccache").read_bytes() == b""


def test_rename_of_malformed_ccache_is_refused(top: Path) -> None:
    output = sh(top, "echo no > caches/tkt/x; mv caches/tkt/x caches/tkt/ccache", status=1)
    assert "cannot move" in output
    with pytest.raises(OSError, match="Bad message"):
        (top / "caches/tkt/x").rename(top / "dir/tkt")
    assert (top / "dir/tkt").read_bytes() == IMAGE


def test_incomplete_record_is_dropped_at_close(top: Path) -> None:
    before = len(lines(top))
    with (top / "dir/tkt").open("ab", buffering=0) as file:
        file.write(records.record("host/new")[:100])
        assert len((top / "caches/tkt/ccache").read_bytes()) == len(IMAGE) + 100
    wait_until(lambda: len(lines(top)) > before, "no event")
    assert lines(top)[-1][2:4] == ["dropped", "tkt"]
    assert (top / "caches/tkt/ccache").read_bytes() == IMAGE


def test_rm_removes_credential(top: Path) -> None:
    sh(top, f"rm caches/tkt/credentials/{ONE}")
    assert sh(top, "ls caches/tkt/credentials") == f"{TWO}\n"
    assert records.secrets_of("host/one")[0] not in (top / "dir/tkt").read_bytes()
    assert sh(top, f"rm caches/tkt/credentials/{ONE} 2>&1 | grep -c 'No such file'") == "1\n"


def test_write_stores_credential(top: Path, tmp_path: Path) -> None:
    (tmp_path / "record").write_bytes(records.record("host/new"))
    sh(top, 'cp "$1"/record caches/tkt/credentials/any', str(tmp_path))
    assert (top / "dir/tkt").read_bytes() == IMAGE + records.record("host/new")
    sh(top, "ls caches/tkt/credentials/any", status=2)
    with (tmp_path / "record").open("ab") as file:
        file.write(b"x")
    sh(top, 'cp "$1"/record caches/tkt/credentials/any', str(tmp_path), status=1)


def test_small_files_are_writable(top: Path) -> None:
    sh(top, "echo bob@EXAMPLE.COM > default/principal && echo -90 > default/kdc_offset")
    sh(top, "printf 2 > default/config/pa_type && printf 'a\\0b' > 'default/config/x~y@R'")
    assert sh(top, "cat default/principal default/kdc_offset") == "bob@EXAMPLE.COM\n-90\n"
    assert sh(top, "cat default/config/pa_type; od -An -c default/config/x~y@R | tr -d ' '") == (
        "2a\\0b\n"
    )
    for command in ("echo bob > default/principal", "echo soon > default/kdc_offset"):
        assert "Invalid argument" in sh(top, command, status=1)
    assert sh(top, "rm default/config/pa_type; ls default/config") == "x~y@R\n"


def test_rm_uninitialises_ccache(top: Path) -> None:
    ident = sh(top, "grep ^id: caches/tkt/info")
    sh(top, "rm caches/tkt/ccache")
    assert sh(top, "ls dir; grep ^id: caches/tkt/info") == ident
    sh(top, "mkdir caches/work && cp README caches/work/scratch")
    (top / "caches/work/ccache").write_bytes(OTHER)
    sh(top, "rm dir/tkt.work")
    assert sh(top, "ls caches") == "tkt\n"


@pytest.mark.parametrize("command", ["rmdir caches/work", "rm -r caches/work", "rm -rf caches/*"])
def test_rmdir_destroys_ccache(top: Path, command: str) -> None:
    sh(top, "mkdir caches/work && printf 1 > default/config/x && cp README caches/work/scratch")
    (top / "caches/work/ccache").write_bytes(OTHER)
    before = len(lines(top))
    assert sh(top, command) == ""
    assert sh(top, "ls caches") == "tkt\n"
    assert ["destroyed", "work"] in [line[2:4] for line in lines(top, before)]
    (top / "caches/tkt/ccache").write_bytes(OTHER)
    assert sh(top, "ls default/credentials") == "host%2Fother@KRBTEST.COM\n"


def test_rm_r_of_ccache_in_use_keeps_directories_working(top: Path) -> None:
    """The directories that `rm` believes to be gone work as before, also for who is in them."""
    with open_directories(top / "caches/tkt", top / "caches/tkt/credentials"):
        sh(top, "rm -rf caches/tkt/*")
        (top / "caches/tkt/ccache").write_bytes(OTHER)
        assert sh(top, "ls caches/tkt/credentials") == "host%2Fother@KRBTEST.COM\n"
    assert sh(top, "ls caches/tkt/credentials") == "host%2Fother@KRBTEST.COM\n"


@contextlib.contextmanager
def open_directories(*paths: Path) -> Iterator[None]:
    descriptors = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in paths]
    try:
        yield
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


@pytest.mark.parametrize("name", ["", "ccache", "lock", "credentials"])
def test_mv_over_directory_in_use_works(top: Path, name: str) -> None:
    """The kernel marks it dead while a file in it is open; it can still be used."""
    sh(top, "mkdir caches/a caches/b")
    (top / "caches/a/ccache").write_bytes(IMAGE)
    (top / "caches/b/ccache").write_bytes(OTHER)
    ident = sh(top, "grep ^id: caches/b/info")
    held = os.open(top / "caches/b" / name, os.O_RDONLY)
    try:
        sh(top, "mv -T caches/a caches/b")
        assert (top / "caches/b/ccache").read_bytes() == IMAGE
        assert sh(top, "ls caches caches/b/credentials").split()[-2:] == [ONE, TWO]
    finally:
        os.close(held)
    assert sh(top, "grep ^id: caches/b/info; ls caches") == f"{ident}b\ntkt\n"
    assert (top / "dir/tkt.b").read_bytes() == IMAGE


def test_mv_renames_ccache(top: Path) -> None:
    sh(top, "mkdir caches/b && mv caches/tkt/ccache caches/b/ccache")
    assert (top / "dir/tkt.b").read_bytes() == IMAGE
    assert sh(top, "readlink default; ls caches") == "caches/b\nb\n"
    sh(top, "mv caches/b caches/c && mv dir/tkt.c dir/tktd")
    assert (top / "caches/tktd/ccache").read_bytes() == IMAGE
    output = sh(top, "mv caches/tktd/ccache README", status=1)
    assert "Operation not permitted" in output


def test_mv_to_other_file_system_copies(top: Path, tmp_path: Path) -> None:
    """To another file system mv copies and removes, as it always does."""
    sh(top, 'mv caches/tkt/ccache "$1"/kept', str(tmp_path))
    assert (tmp_path / "kept").read_bytes() == IMAGE
    assert sh(top, "ls dir") == ""
    sh(top, 'mv "$1"/kept caches/tkt/ccache', str(tmp_path))
    assert (top / "dir/tkt").read_bytes() == IMAGE


@pytest.mark.parametrize("target", ["caches/b", "caches/b/", "./caches/b", "$PWD/caches/b"])
def test_ln_switches_default(top: Path, target: str) -> None:
    sh(top, f'mkdir caches/b && ln -sfn "{target}" default')
    assert sh(top, "readlink default; cat dir/primary; ls | grep -c .") == (
        f"caches/b\ntkt.b\n{len(os.listdir(top))}\n"
    )


def test_ln_to_missing_ccache_is_refused(top: Path) -> None:
    before = set(os.listdir(top))
    sh(top, "ln -sfn caches/absent default", status=1)
    sh(top, "ln -sfn /tmp default", status=1)
    assert (set(os.listdir(top)), os.readlink(top / "default")) == (before, "caches/tkt")


def test_unsupported_attribute_changes_are_refused(top: Path) -> None:
    sh(top, "touch dir/tkt default/lock README && chmod 600 dir/tkt && chown $(id -u) dir/tkt")
    for command in ("chmod 644 dir/tkt", "chmod 755 caches"):
        assert "Operation not permitted" in sh(top, command, status=1)
    assert sh(top, "stat -c %a dir/tkt caches") == "600\n700\n"
    assert sh(top, "mkfifo x; mkdir x; ln README x; echo > x", status=1).count("not perm") == 4


def test_fcntl_locks_work_across_processes_and_names(top: Path) -> None:
    """Across processes, on any node, and for both names of a ccache."""
    for path in ("lock", "default/lock", "dir/tkt", "caches"):
        with locked(top / path):
            sh(top, f"flock -n {path} true", status=1)
            other = "caches/tkt/ccache" if path == "dir/tkt" else path
            sh(top, f"flock -n {other} true", status=1)
        sh(top, f"flock -n {path} true")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("path", CHANGED)
def test_cat_changed_returns_at_next_change(top: Path, path: str) -> None:
    """Returns at the next change; so do all who wait, also after a listing of the directory."""
    sh(top, f"ls -l {Path(path).parent}")
    for number in range(3):
        with waiting(top, path, path, path) as waiters:
            sh(top, f"printf {number} > default/config/x")
            for waiter in waiters:
                assert waiter.communicate(timeout=20) == (b"", None)
                assert waiter.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_cat_changed_can_be_interrupted(top: Path, number: signal.Signals) -> None:
    with waiting(top, "changed") as (waiter,):
        waiter.send_signal(number)
        assert waiter.wait(20) == -number


def test_cat_changed_of_destroyed_ccache_returns(top: Path) -> None:
    sh(top, "mkdir caches/work")
    with waiting(top, "caches/work/changed") as (waiter,):
        sh(top, "rmdir caches/work")
        assert waiter.wait(20) == 0


def test_poll_of_changed_misses_no_change(top: Path) -> None:
    """Open it without blocking, read the state, then poll: no change is missed."""
    descriptor = os.open(top / "default/changed", os.O_RDONLY | os.O_NONBLOCK)
    try:
        poll = select.poll()
        poll.register(descriptor, 0)
        assert poll.poll(0) == []
        sh(top, "rm default/ccache")
        assert poll.poll(20_000) == [(descriptor, select.POLLHUP)]
    finally:
        os.close(descriptor)


def test_tail_follows_events(top: Path) -> None:
    """Several of them, each with all lines from where it began."""
    with contextlib.ExitStack() as stack:
        tails = [
            stack.enter_context(running(["tail", "-n", "+1", "-f", "-s", "0.05", "events"], top))
            for _ in range(3)
        ]
        for name in ("first", "second"):
            sh(top, f"mkdir caches/{name}")
            for tail in tails:
                output_until(tail, f"\tcreated\t{name}\t".encode())


def test_event_line_has_all_fields(top: Path) -> None:
    sh(top, "mkdir caches/work; :")
    fields = sh(top, "tail -n 1 events").rstrip("\n").split("\t")
    assert fields[2:6] == ["created", "work", "-", f"uid={os.getuid()}"]
    assert fields[7] == "mkdir"


def wait_by_select(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 20)[0])


def wait_by_poll(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(20_000))


@pytest.mark.parametrize("wait", [wait_by_select, wait_by_poll])
def test_select_and_poll_wait_for_events(top: Path, wait: object) -> None:
    assert callable(wait)
    with (top / "events").open("rb", buffering=0) as log:
        for number in range(3):
            assert wait(log.fileno())
            log.read()
            assert select.select([log], [], [], 0)[0] == []
            sh(top, f"mkdir caches/{number}")


@pytest.mark.parametrize("edge", [0, select.EPOLLET])
def test_epoll_waits_for_events(top: Path, edge: int) -> None:
    """Level and edge triggered, named once and asked again and again."""
    with (top / "events").open("rb", buffering=0) as log, select.epoll() as epoll:
        epoll.register(log.fileno(), select.EPOLLIN | edge)
        assert epoll.poll(20)
        for number in range(4):
            log.read()
            while epoll.poll(0):
                pass
            sh(top, f"mkdir caches/{number}")
            assert epoll.poll(20), number


def test_inotify_reports_changes(top: Path) -> None:
    """What clients do is seen as anywhere; what is done behind the file as a change of it."""
    with watching(top / "caches/tkt") as watch:
        (top / "caches/tkt/scratch").write_bytes(OTHER)
        assert (IN_MODIFY, b"scratch") in seen(watch, (IN_CLOSE_WRITE, b"scratch"))
        (top / "caches/tkt/scratch").rename(top / "caches/tkt/ccache")
        seen(watch, (IN_MOVED_TO, b"ccache"))
        (top / "caches/tkt/credentials/host%2Fother@KRBTEST.COM").unlink()
        seen(watch, (IN_ATTRIB, b"ccache"))
        (top / "caches/tkt/ccache").unlink()
        seen(watch, (IN_DELETE, b"ccache"))


NAMES = [
    b"a%2Fb",
    b"100%25",
    b"two%0Alines",
    b"%2Ehidden",
    b"%00",
    "Ünïcode ☃".encode(),
    b"".join(b"%%%02X" % byte for byte in [*range(1, 32), *range(128, 180)]),
    b" !\"#$&'()*+,-.0:;<=>?@[\\]^_`{|}",
]


@pytest.mark.parametrize("name", NAMES)
def test_odd_names_are_encoded(top: Path, name: bytes) -> None:
    """As directories, in dir/ and in events; no other form of the name resolves."""
    directory = os.path.join(os.fsencode(top), b"caches", name)
    os.mkdir(directory)
    with open(os.path.join(directory, b"ccache"), "wb") as file:
        file.write(IMAGE)
    assert name in os.listdir(os.path.join(os.fsencode(top), b"caches"))
    listed = b"tkt." + name.replace(b"\\", b"%5C")
    with open(os.path.join(os.fsencode(top), b"dir", listed), "rb") as file:
        assert file.read() == IMAGE
    lines = (top / "events").read_bytes().splitlines()
    assert all(line.count(b"\t") == 7 for line in lines)
    assert any(line.split(b"\t")[3] == name for line in lines)
    os.rmdir(directory)
    assert name not in os.listdir(os.path.join(os.fsencode(top), b"caches"))


def test_names_over_255_bytes_are_enametoolong(top: Path) -> None:
    for path in ("caches", "caches/tkt", "dir", "caches/tkt/credentials"):
        with pytest.raises(OSError, match="too long") as raised:
            os.stat(top / path / ("n" * 256))
        assert raised.value.errno == errno.ENAMETOOLONG
    (top / "caches" / ("n" * 255)).mkdir()
    (top / "caches" / ("n" * 255) / "ccache").write_bytes(IMAGE)
    (top / "dir/scratch").write_bytes(b"x")
    (top / "dir/scratch").rename(top / "dir" / ("s" * 255))
    assert len(os.listdir(top / "caches")) == 2


def test_credential_with_long_name_is_listed(top: Path) -> None:
    long = "host/" + "x" * 300
    (top / "dir/tkt").write_bytes(records.ccache([long, long, "host/a\nb", "host/a/b"]))
    names = os.listdir(top / "caches/tkt/credentials")
    assert len(set(names)) == 4
    assert max(map(len, names)) == 255
    for name in names:
        assert "Server: host/" in (top / "caches/tkt/credentials" / name).read_text()
        (top / "caches/tkt/credentials" / name).unlink()
    assert os.listdir(top / "caches/tkt/credentials") == []


def test_mmap_shows_current_bytes(top: Path) -> None:
    """Shared mappings, too, right after a change."""
    assert mapped(top / "dir/tkt") == IMAGE
    sh(top, f"rm caches/tkt/credentials/{ONE}")
    assert mapped(top / "dir/tkt") == (top / "caches/tkt/ccache").read_bytes() != IMAGE


def mapped(path: Path) -> bytes:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
        return bytes(memory)


def test_concurrent_creates_through_both_names_succeed(top: Path) -> None:
    """Through both names, without O_EXCL: neither is told that the file exists."""
    script = (
        "import os, sys\n"
        "for n in range(150):\n"
        "    sys.stdin.readline()\n"
        "    os.close(os.open(sys.argv[1].replace('N', str(n)), os.O_CREAT | os.O_WRONLY))\n"
        "    print(flush=True)\n"
    )
    for number in range(150):
        (top / f"caches/{number}").mkdir()
    with contextlib.ExitStack() as stack:
        pair = []
        for path in ("caches/N/ccache", "dir/tkt.N"):
            command = ["/usr/bin/python3", "-c", script, str(top / path)]
            pair.append(
                stack.enter_context(
                    subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                )
            )
        for _ in range(150):
            for process in pair:
                assert process.stdin is not None
                process.stdin.write(b"\n")
                process.stdin.flush()
            for process in pair:
                assert output_until(process, b"\n") == b"\n"
    assert [process.returncode for process in pair] == [0, 0]
