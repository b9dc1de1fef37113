# SPDX-License-Identifier: MIT
"""A mount at its limits, and with malformed content."""

import errno
import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.clients.python import records
from tests.support.mounting import MakeMount, Mounted
from tests.support.shell import Shared, sh, shared, wait_until

__all__ = ["shared"]  # a fixture

IMAGE = records.ccache(["host/one"])
CONFINED = ("--max-ccaches", "3", "--max-ccache-size", "16K", "--max-total-size", "40K")
HUGE = struct.pack(">I", 0xFFFFFFFF)
RECORD = records.record("host/new")
PRINCIPAL = records.principal(1, b"alice")


@pytest.fixture
def top(shared: Shared) -> Path:
    """The root of a mount with a ccache in it and nothing else."""
    return begun(shared.empty())


@pytest.fixture
def confined(make_mount: MakeMount) -> Path:
    """The root of a mount with narrow limits and a ccache in it."""
    return begun(make_mount(*CONFINED).path)


def begun(path: Path) -> Path:
    (path / "caches/tkt/ccache").write_bytes(IMAGE)
    return path


def refused(step: Callable[[], object], number: int) -> None:
    with pytest.raises(OSError, match=r"\[Errno") as raised:
        step()
    assert errno.errorcode[raised.value.errno or 0] == errno.errorcode[number]


def append(path: Path, data: bytes) -> None:
    """Write all at the end: the kernel may take it in pieces."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    finally:
        os.close(descriptor)


def create(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        assert os.write(descriptor, data) == len(data)
    finally:
        os.close(descriptor)


def used(top: Path) -> int:
    return int(json.loads((top / "stats").read_text())["bytes"])


def test_ccache_limit_refuses_mkdir(confined: Path) -> None:
    (confined / "caches/a").mkdir()
    (confined / "caches/b").mkdir()
    refused((confined / "caches/c").mkdir, errno.ENOSPC)
    refused(lambda: (confined / "dir/primary").write_text("tkt.c\n"), errno.ENOSPC)
    assert sorted(os.listdir(confined / "caches")) == ["a", "b", "tkt"]
    (confined / "dir/tktc").write_bytes(IMAGE)  # stays scratch: there is no room for a ccache
    assert sorted(os.listdir(confined / "caches")) == ["a", "b", "tkt"]
    (confined / "caches/b").rmdir()
    (confined / "caches/c").mkdir()


def test_ccache_size_limit_refuses_whole_record(confined: Path) -> None:
    """At the limit a record is refused as a whole; what was there stays."""
    path, stored = confined / "caches/tkt/ccache", ["host/one"]
    while path.stat().st_size + len(records.record("host/00")) <= 16 * 1024:
        stored.append(f"host/{len(stored):02}")
        append(path, records.record(stored[-1]))
    refused(lambda: append(path, records.record("host/99")), errno.ENOSPC)
    refused(lambda: create(path.parent / "credentials/x", records.record("host/99")), errno.ENOSPC)
    refused(lambda: create(path.parent / "config/x", bytes(1000)), errno.ENOSPC)
    refused(lambda: create(path.parent / "scratch", bytes(17 * 1024)), errno.ENOSPC)
    refused(lambda: os.truncate(path.parent / "scratch", 1 << 40), errno.ENOSPC)
    assert records.servers_in(path.read_bytes()) == stored
    (path.parent / "credentials/host%2F01@KRBTEST.COM").unlink()
    assert len(os.listdir(path.parent / "credentials")) == len(stored) - 1


def test_total_size_limit_counts_ccaches_and_scratch(confined: Path) -> None:
    """ccaches and scratch together; what is removed makes room, and all of it."""
    for name in ("a", "b"):
        (confined / "caches" / name).mkdir()
        (confined / "caches" / name / "ccache").write_bytes(records.ccache(["host/x"] * 25))
    before = used(confined)
    refused(lambda: create(confined / "dir/scratch", bytes(14 * 1024)), errno.EDQUOT)
    refused(lambda: append(confined / "dir/tkt", records.record("x") * 25), errno.EDQUOT)
    servers = records.servers_in((confined / "dir/tkt").read_bytes())
    assert servers == ["host/one"] + ["x"] * (len(servers) - 1)
    (confined / "dir/scratch").unlink()
    (confined / "dir/tkt").write_bytes(IMAGE)
    assert used(confined) == before
    assert sh(confined, "df --output=used -k . | tail -1").strip() == str(-(-before // 4096) * 4)
    for name in ("a", "b", "tkt"):
        (confined / "caches" / name).rmdir()
    assert used(confined) == 0


def test_limits_are_shown_in_info(mount: Mounted) -> None:
    lines = (mount.path / "info").read_text().splitlines()
    assert {"limit_ccaches: 1024", f"limit_ccache_bytes: {8 << 20}"} <= set(lines)
    assert f"limit_total_bytes: {64 << 20}" in lines


BROKEN = {
    "garbage": b"\xde\xad\xbe\xef" * 100,
    "zeros": bytes(5000),
    "version 5": b"\x05\x05" + IMAGE[2:],
    "header of 4 GiB tags": b"\x05\x04\xff\xff" + bytes(4) + HUGE,
    "tag beyond the header": b"\x05\x04\x00\x06\x00\x01\xff\xff\x00\x00" + PRINCIPAL,
    "components of 4 GiB": b"\x05\x04\x00\x00" + bytes(4) + HUGE + bytes(20),
    "realm of 4 GiB": b"\x05\x04\x00\x00" + bytes(4) + struct.pack(">I", 1) + HUGE + bytes(20),
    "key of 4 GiB": IMAGE + PRINCIPAL * 2 + b"\x00\x12" + HUGE + bytes(20),
    "addresses without end": IMAGE + PRINCIPAL * 2 + bytes(2 + 4 + 21) + HUGE + bytes(20),
    "ticket of 8 MiB": IMAGE + RECORD[:-408] + struct.pack(">I", 8 << 20) + bytes(20),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_malformed_ccache_is_refused_by_every_way(top: Path, data: bytes) -> None:
    """Refused by whatever way it comes; what was there before stays, and the mount lives."""
    other = top / "caches/other"
    other.mkdir()
    refused(lambda: create(other / "ccache", data), errno.EINVAL)
    create(top / "dir/scratch", data)
    refused(lambda: (top / "dir/scratch").rename(top / "dir/tkt"), errno.EBADMSG)
    refused(lambda: (top / "dir/scratch").rename(top / "caches/tkt/ccache"), errno.EBADMSG)
    if record := data.removeprefix(IMAGE) if data.startswith((IMAGE, b"\xde")) else b"":
        refused(lambda: append(top / "dir/tkt", record), errno.EINVAL)
        refused(lambda: create(top / "caches/tkt/credentials/x", record), errno.EINVAL)
    assert (top / "dir/tkt").read_bytes() == IMAGE


def test_truncated_ccache_is_taken_without_incomplete_record(top: Path) -> None:
    """Each beginning of a ccache is taken, and what is incomplete dropped at the close."""
    path = top / "caches/tkt/ccache"
    start = len(records.ccache([]))
    for length in range(0, len(IMAGE), 7):
        path.write_bytes(IMAGE[:length])
        assert path.read_bytes() == (IMAGE[:start] if length >= start else b"")
    assert os.listdir(path.parent / "credentials") == []


def test_ccache_with_random_bytes_is_taken_or_einval(top: Path) -> None:
    """Flipped bytes of a ccache, at random places: taken or EINVAL, and never anything else."""
    choose = random.Random(1)
    path = top / "dir/tkt"
    image = records.ccache(["host/a", "host/b", "host/c"])
    for _ in range(300):
        broken = bytearray(image)
        for _ in range(choose.randrange(1, 6)):
            broken[choose.randrange(len(broken))] = choose.choice((0, 1, 0x7F, 0xFF))
        try:
            path.write_bytes(broken)
        except OSError as error:
            assert error.errno == errno.EINVAL  # noqa: PT017
        for entry in os.scandir(top / "caches/tkt/credentials"):
            Path(entry.path).read_bytes()
        (top / "caches/tkt/info").read_text()
    path.write_bytes(image)
    assert path.read_bytes() == image


def test_refused_write_in_place_changes_nothing(top: Path) -> None:
    """A refused write changes neither the store nor the kernel's pages."""
    choose = random.Random(2)
    path = top / "dir/tkt"
    path.write_bytes(records.ccache(["host/a", "host/b", "host/c"]))
    before = path.read_bytes()
    with path.open("r+b", buffering=0) as file:
        for _ in range(500):
            offset = choose.randrange(len(before))
            data = choose.randbytes(choose.randrange(1, 9))
            try:
                os.pwrite(file.fileno(), data, offset)
            except OSError as error:
                assert error.errno == errno.EINVAL  # noqa: PT017
                after = before
            else:
                after = before[:offset] + data + before[offset + len(data) :]
            assert os.pread(file.fileno(), 1 << 20, 0)[: len(before)] == after[: len(before)]
            before = path.read_bytes()


def test_principal_of_one_mebibyte_is_stored(top: Path) -> None:
    name = b"p" * (1 << 20)
    image = b"\x05\x04\x00\x00" + records.principal(1, name)
    (top / "caches/tkt/ccache").write_bytes(image)
    assert (top / "dir/tkt").read_bytes() == image
    assert (top / "default/principal").read_bytes() == name + b"@KRBTEST.COM\n"
    assert (top / "default/principal").stat().st_size == len(name) + 13
    assert f"principal: {'p' * 100}" in (top / "default/info").read_text()


def test_service_of_one_mebibyte_is_stored(top: Path) -> None:
    append(top / "dir/tkt", records.record("host/" + "s" * (1 << 20)))
    names = os.listdir(top / "default/credentials")
    assert sorted(map(len, names)) == [len("host%2Fone@KRBTEST.COM"), 255]
    text = (top / "default/credentials" / max(names, key=len)).read_text()
    assert f"Server: host/{'s' * (1 << 20)}@KRBTEST.COM\n" in text


def test_ten_thousand_credentials_are_listed(top: Path) -> None:
    servers = [f"host/{number}" for number in range(10_000)]
    image = records.ccache(servers)
    (top / "caches/tkt/ccache").write_bytes(image)
    assert (top / "dir/tkt").read_bytes() == image
    directory = top / "caches/tkt/credentials"
    names = os.listdir(directory)
    assert len(set(names)) == 10_000
    for number in (0, 4_999, 9_999):
        name = f"host%2F{number}@KRBTEST.COM"
        assert f"Server: host/{number}@" in (directory / name).read_text()
        (directory / name).unlink()
    assert len(os.listdir(directory)) == 9_997
    append(top / "dir/tkt", RECORD)
    assert (directory / "host%2Fnew@KRBTEST.COM").exists()
    (top / "caches/tkt/ccache").unlink()
    assert os.listdir(directory) == []


def test_thousand_ccaches_are_listed(top: Path) -> None:
    for number in range(1023):
        (top / "caches" / str(number)).mkdir()
    for number in range(100):
        (top / "caches" / str(number) / "ccache").write_bytes(IMAGE)
    refused((top / "caches/more").mkdir, errno.ENOSPC)
    assert len(os.listdir(top / "caches")) == len(os.listdir(top / "by-id")) == 1024
    assert len(os.listdir(top / "dir")) == 102
    for number in range(1023):
        (top / "caches" / str(number)).rmdir()
    assert os.listdir(top / "caches") == ["tkt"]
    assert used(top) == len(IMAGE)


NARROW = ("--max-open", "20", "--max-events", "30")


@pytest.mark.parametrize("mount", [NARROW], indirect=True)
def test_open_file_limit_is_emfile(mount: Mounted) -> None:
    """EMFILE to the one who asks for one more; commands and the end go on working."""
    path = mount.path / "dir/tkt"
    path.write_bytes(IMAGE)
    opened = [path.open("rb", buffering=0) for _ in range(20)]
    with pytest.raises(OSError, match=r"Too many open files"):
        path.open("rb")
    with pytest.raises(OSError, match=r"Too many open files"):
        os.listdir(mount.path / "caches")
    said = mount.ccfs("status")
    assert "limit_handles: 20\n" in said.stdout
    assert "limit_events: 30\n" in said.stdout
    opened.pop().close()
    wait_until(lambda: opens(path), "a file is closed and no other can be opened")
    assert "\trefused\t-\tover 20 open files\t" in (mount.path / "events").read_text()
    for file in opened:
        file.close()


def opens(path: Path) -> bool:
    """Whether there is room: the kernel tells of a close when it likes."""
    try:
        path.open("rb").close()
    except OSError as error:
        assert error.errno == errno.EMFILE  # noqa: PT017
        return False
    return True


@pytest.mark.parametrize("mount", [NARROW], indirect=True)
def test_event_limit_drops_oldest_lines(mount: Mounted) -> None:
    for number in range(50):
        (mount.path / "caches" / str(number)).mkdir()
    lines = (mount.path / "events").read_text().splitlines()
    assert 15 <= len([line for line in lines if not line.startswith("#")]) <= 30
    assert lines[-1].split("\t")[3] == "49"
