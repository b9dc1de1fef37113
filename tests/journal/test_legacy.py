# SPDX-License-Identifier: MIT
"""Journals of versions 4 and 6, as killed daemons have left them: read once, then written anew.

The vector of version 4 has a default with a KDC offset and one ccache more, and three steps that
are in their records' rows alone; that of version 6 has an uninitialised ccache and a scratch file
more.
"""

import errno
import os
import sqlite3
import subprocess
import sys
import tarfile
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from ccfs.errors import JournalError
from ccfs.journal.log import MAGIC, Log, version_of
from ccfs.journal.open_journal import OpenJournal
from ccfs.store import Client, Limits, Stamp, Store
from ccfs.store.ccache import Ccache
from tests.support.paths import VECTORS
from tests.support.storing import check

JOURNALS = VECTORS / "journals"
AT = Stamp(1_700_000_100.0, Client(1000, 1, "ccfs"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return extracted("version-4.tar.xz", tmp_path)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return extracted("version-6.tar.xz", tmp_path)


def extracted(vector: str, tmp_path: Path) -> Path:
    with tarfile.open(JOURNALS / vector) as archive:
        for member in archive.getmembers():
            archive.extract(member, tmp_path)
    for file in tmp_path.iterdir():
        file.chmod(0o600)
    return tmp_path / "journal"


def loaded(path: Path, mountpoint: str = "/m", uid: int = 1000) -> Store:
    kept = OpenJournal.open(str(path), mountpoint)
    try:
        return kept.store(Limits(), AT._replace(client=Client(uid, 1, "ccfs")))
    finally:
        kept.close(wipe=False)


def seen(store: Store) -> list[object]:
    check(store)
    return [
        (c.name, c.serial, c.rank, c.change_time, list(c.credentials), c.size)
        for c in store.collection.all()
    ]


def test_sqlite_journal_is_converted_whole(path: Path) -> None:
    first = seen(loaded(path))
    late = [f"late%2F{n}@R" for n in range(3)]
    assert [(name, names) for name, _, _, _, names, _ in first] == [  # type: ignore[has-type]
        (b"a/b", ["krbtgt%2FR@R"]),
        (b"tkt", ["krbtgt%2FR@R", *late]),
    ]
    assert [one.name for one in path.parent.iterdir()] == ["journal"]
    assert path.read_bytes().startswith(MAGIC)
    assert b"l2" in path.read_bytes()
    again = loaded(path)
    assert seen(again) == first
    prefix = again.collection.default.prefix
    assert prefix is not None
    assert prefix.header.kdc_offset == (7, 0)


@pytest.mark.parametrize(
    ("part", "at", "said"),
    [
        ("-step", 3, "step number is damaged"),
        ("-wal", None, "lost its last changes|damaged"),
    ],
)
def test_damaged_sqlite_journal_is_put_aside(
    path: Path, part: str, at: int | None, said: str
) -> None:
    file = Path(f"{path}{part}")
    data = bytearray(file.read_bytes())
    if at is None:
        del data[len(data) // 2 :]
    else:
        data[at] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(JournalError, match=said):
        loaded(path)
    assert not path.exists()
    assert [one.name for one in path.parent.iterdir() if "damaged" in one.name]


def test_sqlite_journal_of_another_mountpoint_stays(path: Path) -> None:
    with pytest.raises(JournalError, match="belongs to another mountpoint"):
        loaded(path, "/other")
    assert seen(loaded(path))


def test_sqlite_journal_in_use_stays(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as daemon:
        daemon.execute("PRAGMA locking_mode = EXCLUSIVE")
        daemon.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="in use"):
            loaded(path)
        daemon.execute("ROLLBACK")
    assert seen(loaded(path))


# Version 6


def test_version_6_log_is_converted(log: Path) -> None:
    first = loaded(log)
    late = [f"late%2F{n}@R" for n in range(3)]
    assert [(c.name, c.serial, c.change_time, list(c.credentials)) for c in ccaches(first)] == [
        (b"a/b", 1700000000005, 1700000008, ["krbtgt%2FR@R", "host%2Fwww@R"]),
        (b"tkt", 1700000000002, 1700000007, ["krbtgt%2FR@R", *late]),
        (b"empty", 1700000000019, 1700000009, []),
    ]
    assert version_of(str(log)) == 7
    assert [one.name for one in log.parent.iterdir()] == ["journal"]
    [scratch] = first.scratch.all()
    assert scratch.scratch_name == (1700000000002, b"ccache.bak")
    again = loaded(log)
    assert seen(again) == seen(first)
    assert [c.current and c.current.number for c in ccaches(again)] == [
        c.current and c.current.number for c in ccaches(first)
    ]
    assert bytes(again.scratch.all()[0].data) == bytes(scratch.data)
    assert again.collection.default_chosen


def ccaches(store: Store) -> list[Ccache]:
    return store.collection.all()


@pytest.mark.parametrize("change", [20, 64, 4096 + 8, 4096 + 60])
def test_damaged_version_6_log_is_put_aside(log: Path, change: int) -> None:
    data = bytearray(log.read_bytes())
    data[change] ^= 0xFF
    log.write_bytes(data)
    with pytest.raises(JournalError, match="damaged"):
        loaded(log)
    assert [one.name for one in log.parent.iterdir() if "damaged" in one.name]
    assert not log.exists()


@pytest.mark.parametrize("version", ["path", "log"])
def test_journal_that_cannot_be_converted_stays(
    version: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    path: Path = request.getfixturevalue(version)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Log, "append", full)
        with pytest.raises(JournalError, match="anew: no space left"):
            loaded(path)
    assert version == "path" or path.read_bytes() == before  # SQLite takes up its own log
    assert not [one.name for one in path.parent.iterdir() if one.suffix == ".new"]
    assert seen(loaded(path))


def test_version_6_log_of_another_mountpoint_or_in_use_stays(log: Path) -> None:
    before = log.read_bytes()
    with pytest.raises(JournalError, match="belongs to another mountpoint"):
        loaded(log, "/other")
    assert log.read_bytes() == before
    program = (
        "import sys; from ccfs.journal.log import Log; log = Log(sys.argv[1], fresh=False)\n"
        "print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(log)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as daemon:
        assert daemon.stdout
        assert daemon.stdout.readline() == b"\n"
        with pytest.raises(JournalError, match="in use"):
            loaded(log)
        daemon.communicate(timeout=20)
    assert log.read_bytes() == before


def test_log_of_later_version_is_refused_and_stays(log: Path) -> None:
    loaded(log)
    data = bytearray(log.read_bytes())
    data[8:12] = (8).to_bytes(4, "little")
    data[56:60] = zlib.crc32(data[:56]).to_bytes(4, "little")
    log.write_bytes(data)
    with pytest.raises(JournalError, match="it is of version 8, this ccfs reads up to 7"):
        loaded(log)
    assert log.read_bytes() == data
    assert [one.name for one in log.parent.iterdir()] == ["journal"]
