# SPDX-License-Identifier: MIT
"""No process sees stale content: after each change every name shows the new state at once.

With caching on, through the kernel and behind it, from several processes.  A reader in the middle
of the old bytes reads them to their end.
"""

import contextlib
import ctypes
import mmap
import multiprocessing
import os
import random
import subprocess
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from ccfs.format.ccache import decode_ccache, scan_prefix
from ccfs.format.config import is_config
from ccfs.format.credential import scan_credential
from ccfs.format.principal import unparse_name
from ccfs.format.removed_record import is_removed
from tests.support.clients.python import records
from tests.support.mounting import Mounted

ROUNDS = 300
SECONDS = 60
FORK = multiprocessing.get_context("fork")
SERVERS = [f"host/web-{number}" for number in range(40)]
IMAGE = records.ccache(SERVERS)
NAMES = ("caches/tkt/ccache", "dir/tkt", "default/ccache")


def file_of(server: str) -> str:
    return server.replace("/", "%2F") + f"@{records.REALM.decode()}"


def servers_in(image: bytes) -> list[str]:
    """The credentials of a ccache that count, in their order."""
    live = [c for c in decode_ccache(image).credentials if not is_removed(c) and not is_config(c)]
    return [unparse_name(c.server).decode() for c in live]


def fresh(number: int, most: int = 12) -> bytes:
    return records.ccache([f"host/{number}-{each}" for each in range(1 + number % most)])


def write(path: Path, data: bytes, flags: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | flags, 0o600)
    try:
        assert os.write(descriptor, data) == len(data)
    finally:
        os.close(descriptor)


def remove(top: Path, number: int) -> None:
    names = os.listdir(top / "caches/tkt/credentials")
    (top / "caches/tkt/credentials" / names[number % len(names)]).unlink()


def store(top: Path, number: int) -> None:
    path = top / "caches/tkt/credentials/any"
    write(path, records.record(f"host/stored-{number}"), os.O_CREAT | os.O_EXCL)


def append(top: Path, number: int) -> None:
    write(top / "dir/tkt", records.record(f"host/appended-{number}"), os.O_APPEND)


def overwrite(top: Path, number: int) -> None:
    write(top / NAMES[number % 3], fresh(number), os.O_CREAT | os.O_TRUNC)


def replace(top: Path, number: int) -> None:
    for directory in (top / "caches/tkt", top / "dir")[number % 2 :][:1]:
        write(directory / "scratch", fresh(number), os.O_CREAT)
        (directory / "scratch").rename(top / NAMES[number % 3])


def begin_anew(top: Path, number: int) -> None:
    (top / NAMES[number % 2]).unlink()
    write(top / NAMES[(number + 1) % 2], fresh(number), os.O_CREAT | os.O_EXCL)


def move(top: Path, number: int) -> None:
    (top / "caches/other").mkdir()
    write(top / "caches/other/ccache", fresh(number), os.O_CREAT)
    if number % 2:
        (top / "caches/other").rename(top / "caches/tkt")
    else:
        (top / "caches/other/ccache").rename(top / "dir/tkt")


def set_principal(top: Path, number: int) -> None:
    write(top / "caches/tkt/principal", b"a" * (number % 50 + 1) + b"@KRBTEST.COM\n", 0)


def set_config(top: Path, number: int) -> None:
    write(top / "caches/tkt/config/x", b"x" * (number % 50), os.O_CREAT | os.O_TRUNC)


def set_offset(top: Path, number: int) -> None:
    write(top / "caches/tkt/kdc_offset", b"%d\n" % number if number % 2 else b"\n", os.O_TRUNC)


CHANGES: Sequence[Callable[[Path, int], None]] = (
    remove,
    store,
    append,
    overwrite,
    replace,
    begin_anew,
    move,
    set_principal,
    set_config,
    set_offset,
)
BEHIND = (remove, store, set_principal, set_config, set_offset)


@pytest.fixture
def top(mount: Mounted) -> Path:
    write(mount.path / "caches/tkt/ccache", IMAGE, os.O_CREAT)
    return mount.path


def observed(top: Path) -> dict[str, tuple[object, ...]]:
    """What each name shows: by stat, by a listing, by open and read, by mmap."""
    return {name: look(top / name) for name in NAMES}


def look(path: Path) -> tuple[object, ...]:
    status = path.stat()
    with path.open("rb", buffering=0) as file:
        inner, data = os.fstat(file.fileno()), file.readall()
        with mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ) as memory:
            mapped = bytes(memory)
    assert mapped == data
    assert (status.st_ino, status.st_size) == (inner.st_ino, inner.st_size)
    assert status.st_size == len(data)
    listed = {entry.name: entry.inode() for entry in os.scandir(path.parent)}
    assert listed[path.name] == status.st_ino
    return status.st_ino, status.st_nlink, data


def test_change_is_visible_at_once_under_every_name(top: Path) -> None:
    """The changes come from a process of their own, the looks from two others."""
    choose = random.Random(7)
    with worker(changer, top) as changes, worker(observer, top) as other:
        before: dict[str, tuple[object, ...]] = {}
        for number in range(ROUNDS):
            if number % 20 == 0:
                overwrite(top, number + 11)
            change = choose.choice(CHANGES)
            ask(changes, (CHANGES.index(change), number))
            seen = observed(top)
            assert len(set(seen.values())) == 1, change
            assert ask(other, None) == seen, change
            data = seen[NAMES[0]][2]
            assert isinstance(data, bytes)
            assert sorted(map(file_of_listed, servers_in(data))) == sorted(
                name for name in os.listdir(top / "caches/tkt/credentials")
            )
            principal = (top / "caches/tkt/principal").read_bytes()
            assert principal == unparse_name(decode_ccache(data).principal) + b"\n"
            assert change is set_config or seen != before, change
            before = seen


def file_of_listed(server: str) -> str:
    return server.replace("/", "%2F")


def changer(top: Path, order: Any) -> None:
    which, number = order
    CHANGES[which](top, number)


def observer(top: Path, _: object) -> dict[str, tuple[object, ...]]:
    return observed(top)


@contextlib.contextmanager
def worker(work: Callable[[Path, Any], object], top: Path) -> Iterator[Any]:
    """A process that does `work` once for each thing it is sent, and sends the result."""
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=serve, args=(work, top, theirs, ours), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        end([process])


def serve(work: Callable[[Path, Any], object], top: Path, theirs: Any, ours: Any) -> None:
    ours.close()
    with contextlib.suppress(EOFError):
        while True:
            order = theirs.recv()
            try:
                theirs.send((work(top, order), None))
            except Exception:
                theirs.send((None, traceback.format_exc()))


def ask(worker: Any, order: object) -> object:
    worker.send(order)
    assert worker.poll(SECONDS), "it hangs"
    result, failure = worker.recv()
    assert failure is None, failure
    return result


def end(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        process.join(1)
        process.kill()
        process.join(SECONDS)


def test_switch_is_visible_at_once(top: Path) -> None:
    (top / "caches/b").mkdir()
    write(top / "caches/b/ccache", fresh(3), os.O_CREAT)
    images = {"tkt": IMAGE, "b": fresh(3)}
    for number in range(ROUNDS):
        name = ("tkt", "b")[number % 2]
        if number % 3:
            os.symlink(f"caches/{name}", top / "link")
            (top / "link").rename(top / "default")
        else:
            write(top / "dir/scratch", b"tkt.b\n" if name == "b" else b"tkt\n", os.O_CREAT)
            (top / "dir/scratch").rename(top / "dir/primary")
        assert (top / "default/ccache").read_bytes() == images[name]
        assert os.readlink(top / "default") == f"caches/{name}"
        assert (top / "dir/primary").read_text() == ("tkt.b\n" if name == "b" else "tkt\n")


def test_concurrent_readers_see_nothing_stale_or_torn(top: Path) -> None:
    """No stale result, nothing torn, no hang; what is acknowledged is seen by who opens later."""
    write(top / "dir/tkt", records.ccache(["host/s-0"]), os.O_TRUNC)
    acknowledged = FORK.Value(ctypes.c_int, 0)
    over = FORK.Event()
    failures = FORK.SimpleQueue()
    jobs: list[tuple[Callable[..., int], tuple[object, ...]]] = [
        (count_up, (top, acknowledged)),
        *((rewrite, (top, which, over)) for which in (0, 1)),
        *((follow, (top / name, acknowledged, over)) for name in NAMES),
        (gaze, (top, over)),
    ]
    done = FORK.SimpleQueue()
    processes = [
        FORK.Process(target=report, args=(job, args, done, failures), daemon=True)
        for job, args in jobs
    ]
    for process in processes:
        process.start()
    try:
        processes[0].join(SECONDS)
        assert processes[0].exitcode == 0, "the writer hangs"
        over.set()
        for process in processes:
            process.join(SECONDS)
            assert process.exitcode == 0, "a process hangs"
    finally:
        over.set()
        end(processes)
    assert failures.empty(), failures.get()
    assert all(done.get() > 0 for _ in processes)


def report(job: Callable[..., int], args: tuple[object, ...], done: Any, failures: Any) -> None:
    try:
        done.put(job(*args))
    except Exception:
        failures.put(traceback.format_exc())


def count_up(top: Path, acknowledged: Any) -> int:
    """Store a credential a round, behind the file or through it; of old ones remove some."""
    for number in range(1, ROUNDS + 1):
        record = records.record(f"host/s-{number}")
        if number % 2:
            write(top / "caches/tkt/credentials/any", record, os.O_CREAT | os.O_EXCL)
        else:
            write(top / "dir/tkt", record, os.O_APPEND)
        acknowledged.value = number
        if number > 5:
            (top / "caches/tkt/credentials" / file_of(f"host/s-{number - 5}")).unlink()
    return ROUNDS


def rewrite(top: Path, which: int, over: Any) -> int:
    """Change what stands before the credentials, or beside them."""
    number = 0
    while not over.is_set():
        (set_principal, set_config)[which](top, number)
        number += 1
    return number


def follow(path: Path, acknowledged: Any, over: Any) -> int:
    rounds = 0
    while not over.is_set():
        least = acknowledged.value
        with path.open("rb", buffering=0) as file:
            image = file.read(700) + file.readall()
        servers = servers_in(image[: whole(image)])
        numbers = [int(server.partition("-")[2].split("@")[0]) for server in servers]
        assert max(numbers) >= least, (numbers, least)
        rounds += 1
    return rounds


def whole(image: bytes) -> int:
    """Where the complete records end.

    The kernel hands an append on in pieces, at ends of pages, so that a reader without a lock may
    see the beginning of the last record; nothing else may stand there.
    """
    found = scan_prefix(image, len(IMAGE))
    assert found is not None
    prefix, at = found
    while (end := scan_credential(image, at, prefix.header.dialect, len(IMAGE))) is not None:
        at = end
        if at == len(image):
            return at
    beginning = records.principal(1, records.CLIENT)
    assert image[at:][: len(beginning)] == beginning[: len(image) - at], image[at:]
    return at


def gaze(top: Path, over: Any) -> int:
    """Stat both names all the time, and list."""
    rounds = 0
    while not over.is_set():
        for name in NAMES:
            (top / name).stat()
        os.listdir(top / "caches/tkt/credentials")
        rounds += 1
    return rounds


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("change", BEHIND, ids=lambda change: change.__name__)
def test_open_reader_keeps_old_bytes(
    top: Path, change: Callable[[Path, int], None], cached: bool
) -> None:
    """To their end, while others look at the path and see the new state."""
    path = top / "caches/tkt/ccache"
    image = records.ccache([f"host/web-{number}" for number in range(500)])
    write(path, image, os.O_TRUNC)
    with path.open("rb", buffering=0) as reader, looking_on(top):
        read = reader.read(5000)
        if not cached:
            os.posix_fadvise(reader.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        for number in range(1, 6):
            change(top, number)
        with (top / "dir/tkt").open("rb", buffering=0) as other:
            assert other.readall() != image
        while piece := reader.read(3000):
            read += piece
    assert len(read) == len(image)
    assert read == image


@contextlib.contextmanager
def looking_on(top: Path) -> Iterator[None]:
    """Run a process that stats both names without a pause."""
    script = "import os, sys\nwhile True:\n    for path in sys.argv[1:]: os.stat(path)\n"
    command = ["/usr/bin/python3", "-c", script, *(str(top / name) for name in NAMES)]
    with subprocess.Popen(command) as process:
        try:
            yield
        finally:
            process.kill()
