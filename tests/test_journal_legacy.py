"""Journals of version 4, as a killed daemon of that version has left one: read once, then a log.

The vector has a default with a KDC offset and one ccache more, and three steps that are in their
records' rows alone.
"""

import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from ccfs.daemon import MountOptions
from ccfs.daemon.kept import Kept
from ccfs.errors import JournalError
from ccfs.journal.log import MAGIC
from ccfs.store import Stamp, Store, Who
from tests.storing import check

VECTOR = Path(__file__).parent / "vectors/journals/version-4.tar.xz"
AT = Stamp(1_700_000_100.0, Who(1000, 1, "ccfs"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with tarfile.open(VECTOR) as archive:
        for name in ("journal", "journal-wal", "journal-step"):
            archive.extract(name, tmp_path)
    for file in tmp_path.iterdir():
        file.chmod(0o600)
    return tmp_path / "journal"


def loaded(path: Path, mountpoint: str = "/m", uid: int = 1000) -> Store:
    options = MountOptions(mountpoint, journal=str(path))
    kept = Kept.open(options)
    try:
        return kept.store(options, AT._replace(who=Who(uid, 1, "ccfs")))
    finally:
        kept.close(wipe=False)


def seen(store: Store) -> list[object]:
    check(store)
    return [
        (c.name, c.serial, c.rank, c.change_time, list(c.credentials), c.size)
        for c in store.collection.all()
    ]


def test_all_of_it_is_there_and_a_log_takes_its_place(path: Path) -> None:
    first = seen(loaded(path))
    late = [f"late%2F{n}@R" for n in range(3)]
    assert [(name, names) for name, _, _, _, names, _ in first] == [  # type: ignore[misc]
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
def test_a_damaged_one_is_kept_aside(path: Path, part: str, at: int | None, said: str) -> None:
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


def test_one_of_another_mountpoint_stays(path: Path) -> None:
    with pytest.raises(JournalError, match="belongs to another mountpoint"):
        loaded(path, "/other")
    assert seen(loaded(path))


def test_one_that_a_daemon_has_is_left_to_it(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as daemon:
        daemon.execute("PRAGMA locking_mode = EXCLUSIVE")
        daemon.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="in use"):
            loaded(path)
        daemon.execute("ROLLBACK")
    assert seen(loaded(path))
