# SPDX-License-Identifier: MIT
"""Several processes at one ccache: nothing is lost, nothing torn, no reader disturbed."""

import contextlib
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.ccache_tree import CcacheTree
from tests.support.client_programs import run
from tests.support.clients.python import PROGRAMS, Programs, records
from tests.support.kdc import Kdc, await_line

SECONDS = 60
EACH = 60
MANY = [f"host/web-{number}" for number in range(3000)]

Process = subprocess.Popen[bytes]
Replace = Callable[[CcacheTree, Path], None]

Commands = list[tuple[str | Path, ...]]


@contextlib.contextmanager
def crew(python: Programs, commands: Commands) -> Iterator[list[Process]]:
    """Processes that begin together; those left when the block ends are killed."""
    processes: list[Process] = []
    try:
        for name, *arguments in commands:
            processes.append(
                subprocess.Popen(
                    [sys.executable, PROGRAMS / f"{name}.py", *arguments],
                    env=python.environment(),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                )
            )
        for process in processes:
            await_line(process, b"ready\n")
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def result(process: Process) -> list[str]:
    """End a process's input, wait for it, and return the words of its last line."""
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, output.decode()
    return output.decode().splitlines()[-1].split()


def initialized(place: CcacheTree) -> tuple[Path, Path]:
    """Both names of a ccache without credentials."""
    (place.path / "caches/tkt/ccache").write_bytes(records.ccache([]))
    return place.join_names()


def test_eight_processes_store_and_read_consistently(python: Programs, place: CcacheTree) -> None:
    """Five writers and three readers, through both names of one ccache."""
    one, other = initialized(place)
    writers: Commands = [
        ("writer", "libkrb5", one, "a", str(EACH)),
        ("writer", "libkrb5", other, "b", str(EACH)),
        ("writer", "libkrb5", other, "c", str(EACH)),
        ("writer", "append", one, "d", str(EACH)),
        ("writer", "append", other, "e", str(EACH)),
    ]
    readers: Commands = [
        ("reader", "libkrb5", other),
        ("reader", "locked", one),
        ("reader", "unlocked", other),
    ]
    with crew(python, writers + readers) as processes:
        stored = [result(process) for process in processes[: len(writers)]]
        read = [result(process) for process in processes[len(writers) :]]
    expected = {f"host/{name}-{number}" for name in "abcde" for number in range(EACH)}
    assert stored == [["stored", str(EACH)]] * len(writers)
    assert [words[-1] for words in read] == [str(len(expected))] * len(readers)
    assert one.read_bytes() == other.read_bytes()
    servers = records.servers_in(one.read_bytes())
    assert len(servers) == len(expected)
    assert set(servers) == expected
    if place.ccfs:
        assert len(os.listdir(one.parent / "credentials")) == len(expected)


def test_appenders_keep_their_order(python: Programs, place: CcacheTree) -> None:
    """Two appenders with stale ideas of where the end is."""
    one, other = initialized(place)
    writers: Commands = [
        ("writer", "append", path, name, "150") for path, name in ((one, "a"), (other, "b"))
    ]
    with crew(python, writers) as processes:
        assert [result(process) for process in processes] == [["stored", "150"]] * 2
    servers = records.servers_in(one.read_bytes())
    assert len(servers) == 300
    for name in ("a", "b"):
        mine = [server for server in servers if server.startswith(f"host/{name}-")]
        assert mine == [f"host/{name}-{number}" for number in range(150)]


def churn(python: Programs, place: CcacheTree, changes: Sequence[tuple[str, int]]) -> None:
    """Change a ccache in several ways at a time and read it: no error, nothing torn."""
    one, other = initialized(place)
    names = (one, other if place.ccfs else one)
    workers: Commands = [
        ("churn", how, names[number % 2], f"w{number}", str(count))
        for number, (how, count) in enumerate(changes)
    ]
    readers: Commands = [("reader", "changing", path) for path in names]
    with crew(python, workers + readers) as processes:
        changed = [result(process) for process in processes[: len(workers)]]
        read = [result(process) for process in processes[len(workers) :]]
    assert changed == [["errors", "{}"]] * len(workers)
    assert [words[0] for words in read] == ["read"] * len(readers)


def test_concurrent_initializations_are_consistent(python: Programs, place: CcacheTree) -> None:
    """Three initialize the same ccache over and over, as kinit does, under two readers."""
    churn(python, place, [("initialize", 100)] * 3)


def test_store_during_libkrb5_removal_loses_nothing(python: Programs, place: CcacheTree) -> None:
    churn(python, place, [("store", 200), ("remove", 100)])


def test_store_during_rm_loses_nothing(python: Programs, mounted: CcacheTree) -> None:
    churn(python, mounted, [("store", 200), ("remove", 100), ("unlink", 100)])


def by_rename(place: CcacheTree, path: Path) -> None:
    scratch = path.with_name(f"{path.name}.XyZ123")
    scratch.write_bytes(records.ccache(["host/new"]))
    scratch.rename(path)


def by_unlink(place: CcacheTree, path: Path) -> None:
    path.unlink()
    with path.open("xb") as file:
        file.write(records.ccache(["host/new"]))


@pytest.mark.parametrize("replace", [by_rename, by_unlink])
def test_open_reader_keeps_bytes_of_replaced_ccache(place: CcacheTree, replace: Replace) -> None:
    """A reader halfway through a big ccache gets the other half of the same generation."""
    path, image = place.default, records.ccache(MANY)
    path.write_bytes(image)
    with path.open("rb", buffering=0) as reader:
        half = read_half(reader.fileno(), image)
        replace(place, path)
        assert records.servers_in(path.read_bytes()) == ["host/new"]
        rest = read_exactly(reader.fileno(), len(image))
        assert half + rest == image
        assert path.read_bytes() == records.ccache(["host/new"])


def test_open_reader_of_destroyed_ccache_sees_old_bytes_or_zeros(
    kdc: Kdc, place: CcacheTree
) -> None:
    """kdestroy zeroes the file it has unlinked: a reader sees the old bytes or zeros, or less."""
    path, image = place.default, records.ccache(MANY)
    path.write_bytes(image)
    with path.open("rb", buffering=0) as reader:
        half = read_half(reader.fileno(), image)
        run(["kdestroy"], kdc.environment(place.file_name))
        assert not path.exists()
        rest = read_exactly(reader.fileno(), len(image))
    assert half == image[: len(half)]
    assert rest in (image[len(half) :], bytes(len(image) - len(half)))


def test_reader_during_libkrb5_removal_sees_whole_credentials(
    kdc: Kdc, python: Programs, place: CcacheTree
) -> None:
    """libkrb5 overwrites in place: a reader sees each credential as it was or as removed."""
    path, image = place.default, records.ccache(MANY)
    path.write_bytes(image)
    gone = MANY[-2]
    with path.open("rb", buffering=0) as reader:
        half = read_half(reader.fileno(), image)
        removed = python.run("remove", f"{gone}@{kdc.realm}", ccname=place.file_name)
        assert removed.stdout == f"removed: {gone}@{kdc.realm}\n"
        rest = read_exactly(reader.fileno(), len(image))
    start = image.index(records.record(gone))
    end = start + len(records.record(gone))
    after = half + rest
    assert (len(after), after[:start], after[end:]) == (len(image), image[:start], image[end:])
    assert f"{gone}@" not in run(["klist"], kdc.environment(place.file_name)).stdout
    assert f"{MANY[-1]}@" in run(["klist"], kdc.environment(place.file_name)).stdout


def test_reader_during_rm_is_undisturbed(kdc: Kdc, mounted: CcacheTree) -> None:
    """`rm credentials/X` makes a new image; the reader of the old one isn't disturbed."""
    path, image = mounted.default, records.ccache(MANY)
    path.write_bytes(image)
    directory = path.parent / "credentials"
    gone = [MANY[2999], MANY[1500], MANY[0]]
    kept = [name for name in MANY if name not in gone]
    with path.open("rb", buffering=0) as reader:
        half = read_half(reader.fileno(), image)
        for name in gone:
            (directory / f"{name.replace('/', '%2F')}@{kdc.realm}").unlink()
        assert len(os.listdir(directory)) == len(kept)
        rest = read_exactly(reader.fileno(), len(image))
    assert half + rest == image
    for name, ccname in ((path, mounted.file_name), (mounted.path / "dir/tkt", mounted.dir_name)):  # type: ignore[assignment]
        now = name.read_bytes()  # type: ignore[attr-defined]
        assert not [server for server in gone if records.secrets_of(server)[1] in now]
        assert listed(kdc, ccname) == kept


def listed(kdc: Kdc, ccname: str) -> list[str]:
    """The servers that klist lists."""
    lines = run(["klist"], kdc.environment(ccname)).stdout.splitlines()
    return [line.split()[-1].partition("@")[0] for line in lines if "host/" in line]


@pytest.mark.parametrize("replace", [by_rename, by_unlink])
def test_writer_of_replaced_ccache_does_not_change_new_one(
    place: CcacheTree, replace: Replace
) -> None:
    """Writes through a descriptor of the old generation don't reach the new one."""
    path = place.default
    path.write_bytes(records.ccache(["host/old"]))
    appender = os.open(path, os.O_WRONLY | os.O_APPEND)
    writer = os.open(path, os.O_RDWR)
    try:
        replace(place, path)
        os.write(appender, records.record("host/late"))
        os.pwrite(writer, bytes(40), 0)
        assert path.read_bytes() == records.ccache(["host/new"])
    finally:
        os.close(appender)
        os.close(writer)
    assert path.read_bytes() == records.ccache(["host/new"])


def test_unlinked_ccache_is_writable_by_its_descriptor_only(place: CcacheTree) -> None:
    """Writes to an unlinked ccache stay with its descriptor; kdestroy relies on that."""
    path, image = place.default, records.ccache(["host/old"])
    path.write_bytes(image)
    descriptor = os.open(path, os.O_RDWR)
    try:
        path.unlink()
        assert stat.S_ISREG(os.fstat(descriptor).st_mode)
        assert os.pread(descriptor, len(image), 0) == image
        assert os.pwrite(descriptor, bytes(len(image)), 0) == len(image)
        assert not path.exists()
        path.write_bytes(records.ccache(["host/new"]))
        os.pwrite(descriptor, bytes(len(image)), 0)
        assert records.servers_in(path.read_bytes()) == ["host/new"]
    finally:
        os.close(descriptor)
    assert records.servers_in(path.read_bytes()) == ["host/new"]


def test_readers_during_renames_see_whole_ccaches(python: Programs, place: CcacheTree) -> None:
    """Rename after rename over a ccache that is read all the time: each reading is a whole one."""
    path = place.default
    path.write_bytes(records.ccache(["host/new"]))
    with crew(python, [("reader", how, path) for how in ("libkrb5", "locked")]) as processes:
        for _ in range(150):
            by_rename(place, path)
        read = [result(process) for process in processes]
    assert [words[-1] for words in read] == ["1", "1"]


def read_half(descriptor: int, image: bytes) -> bytes:
    """The first half; the kernel then forgets what it has of the second."""
    half = read_exactly(descriptor, len(image) // 2)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return half


def read_exactly(descriptor: int, size: int) -> bytes:
    """Up to `size` bytes from where the descriptor stands; less at the end of the file."""
    chunks = []
    while size and (chunk := os.read(descriptor, min(size, 1 << 16))):
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)
