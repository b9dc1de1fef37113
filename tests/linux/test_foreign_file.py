# SPDX-License-Identifier: MIT
"""Taking over a file that another program wrote: only the caller's own, and only once."""

import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ccfs.errors import Exit, SourceError
from ccfs.linux import foreign_file
from tests.support.mounting import TMPFS
from tests.support.require import missing

DATA = b"what was left " * 100
LIMIT = 4096
OTHER = 64002


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ccfs-import-", dir=TMPFS) as directory:
        yield Path(directory)


@pytest.fixture
def source(place: Path) -> Path:
    return leave(place / "krb5cc")


def leave(path: Path, data: bytes = DATA) -> Path:
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def refused(path: Path | str) -> str:
    """Why a source is refused, which is left as it is."""
    before = listing(Path(path).parent)
    with pytest.raises(SourceError) as told, foreign_file.open_source(str(path), LIMIT):
        pass
    assert told.value.status is Exit.BAD_SOURCE
    assert listing(Path(path).parent) == before
    return told.value.reason


def listing(directory: Path) -> list[tuple[str, int, int, int]]:
    found = [(p.name, p.lstat()) for p in sorted(directory.iterdir())]
    return [(name, s.st_ino, s.st_size, s.st_mtime_ns) for name, s in found]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_foreign_file_is_read_and_removed(source: Path) -> None:
    before = descriptors()
    with foreign_file.open_source(str(source), LIMIT) as opened, source.open("rb") as kept:
        assert opened.data == DATA
        assert opened.device() == source.parent.stat().st_dev
        opened.remove()
        assert not source.exists()
        assert kept.read() == bytes(len(DATA))
        data = opened.data
    assert data == bytes(len(DATA))
    assert descriptors() == before


@pytest.mark.parametrize("size", [0, 1, LIMIT - 1, LIMIT])
def test_sizes_up_to_the_limit_are_read(place: Path, size: int) -> None:
    path = leave(place / "krb5cc", b"x" * size)
    with foreign_file.open_source(str(path), LIMIT) as opened:
        assert opened.data == b"x" * size


def test_read_only_file_is_removed_without_overwriting(source: Path) -> None:
    """It is removed, without being overwritten where that is not allowed."""
    source.chmod(0o400)
    with foreign_file.open_source(str(source), LIMIT) as opened:
        opened.remove()
    assert not source.exists()


def symlink(path: Path) -> None:
    leave(path.with_name("real"))
    path.symlink_to("real")


def hard_link(path: Path) -> None:
    leave(path)
    path.with_name("other").hardlink_to(path)


def of_another(path: Path) -> None:
    if os.geteuid() != 0:
        missing("root", "run the tests as root", "chown(2) needs it")
    leave(path)
    os.chown(path, OTHER, -1)


def hard_link_of_another(path: Path) -> None:
    of_another(path.with_name("keytab"))
    path.hardlink_to(path.with_name("keytab"))


def huge(path: Path) -> None:
    leave(path, b"")
    os.truncate(path, 1 << 40)


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a symbolic link": (symlink, "it is a symbolic link"),
    "a dangling link": (lambda p: p.symlink_to("nowhere"), "it is a symbolic link"),
    "a hard link": (hard_link, "it has more than one name"),
    "another user's": (of_another, "it belongs to another user"),
    "a hard link of another's": (hard_link_of_another, "it belongs to another user"),
    "a FIFO": (os.mkfifo, "it is not a regular file"),
    "a directory": (Path.mkdir, "it is not a regular file"),
    "a socket": (bound, "no such device or address"),
    "a device": (lambda p: os.mknod(p, 0o20600, os.makedev(1, 5)), "it is not a regular file"),
    "huge": (huge, "it is larger than a ccache may be"),
    "one byte too large": (lambda p: leave(p, b"x" * (LIMIT + 1)), "is larger than a ccache"),
    "open to its group": (lambda p: leave(p).chmod(0o640), "it is open to others"),
    "open to all": (lambda p: leave(p).chmod(0o604), "it is open to others"),
    "nothing": (lambda p: None, "no such file or directory"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused(place: Path, kind: str) -> None:
    make, why = HOSTILE[kind]
    make(place / "krb5cc")
    before = descriptors()
    said = refused(place / "krb5cc")
    assert said.startswith(f"cannot import {place}/krb5cc: ")
    assert why in said
    assert descriptors() == before


def test_path_below_file_is_refused(source: Path) -> None:
    with pytest.raises(SourceError, match="not a directory"):
        foreign_file.Source(f"{source}/krb5cc", LIMIT)


def test_file_locked_by_writer_is_refused(source: Path) -> None:
    """Kerberos libraries lock what they write; ours keeps them out until it is removed."""
    exclusive = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    with source.open("r+b") as writer:
        fcntl.fcntl(writer, fcntl.F_OFD_SETLK, exclusive)
        assert "another process has locked it" in refused(source)
    with (
        foreign_file.open_source(str(source), LIMIT),
        source.open("r+b") as writer,
        pytest.raises(BlockingIOError),
    ):
        fcntl.fcntl(writer, fcntl.F_OFD_SETLK, exclusive)


@pytest.mark.parametrize("more", [b"more", b""])
def test_file_changed_while_read_is_refused(
    source: Path, monkeypatch: pytest.MonkeyPatch, more: bytes
) -> None:
    """Grown, or cut short."""
    readv = os.readv

    def meanwhile(descriptor: int, views: list[memoryview]) -> int:
        with source.open("ab") as writer:
            writer.write(more)
            writer.truncate(None if more else 3)
        return readv(descriptor, views)

    monkeypatch.setattr(os, "readv", meanwhile)
    with pytest.raises(SourceError, match="changes while it is read"):
        foreign_file.Source(str(source), LIMIT)


def replaced(path: Path) -> None:
    leave(path.with_name("new"))
    path.with_name("new").rename(path)


def grown(path: Path) -> None:
    with path.open("ab") as writer:
        writer.write(b"one more credential")


def to_a_link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


CHANGES: dict[str, Callable[[Path], object]] = {
    "another file": replaced,
    "more in it": grown,
    "a link to it": to_a_link,
    "a second name": lambda p: p.with_name("second").hardlink_to(p),
    "a directory": lambda p: (p.rename(p.with_name("moved")), p.mkdir()),
    "nothing": lambda p: p.rename(p.with_name("moved")),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_file_changed_after_reading_stays(source: Path, kind: str) -> None:
    """The file may hold content that was not imported."""
    with foreign_file.open_source(str(source), LIMIT) as opened:
        CHANGES[kind](source)
        before = listing(source.parent)
        with pytest.raises(SourceError):
            opened.remove()
    assert listing(source.parent) == before


def test_replacement_file_is_not_overwritten(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with foreign_file.open_source(str(source), LIMIT) as opened:
        look = os.stat

        def and_then_it_changes(*arguments: object, **options: object) -> os.stat_result:
            found = look(*arguments, **options)  # type: ignore[arg-type]
            monkeypatch.setattr(os, "stat", look)
            replaced(source)
            return found

        monkeypatch.setattr(os, "stat", and_then_it_changes)
        with pytest.raises(SourceError, match="has changed since it was read, and stays"):
            opened.remove()
    assert source.read_bytes() == DATA


@pytest.mark.parametrize("kind", ["another file", "a link to it", "a directory"])
def test_replacement_file_is_not_removed(
    source: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """However late: no file is removed but the one that was read."""
    with foreign_file.open_source(str(source), LIMIT) as opened:
        rename, before = os.rename, []

        def and_before_it_changes(*arguments: object, **options: object) -> None:
            monkeypatch.setattr(os, "rename", rename)
            CHANGES[kind](source)
            before.append(listing(source.parent))
            rename(*arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(os, "rename", and_before_it_changes)
        with pytest.raises(SourceError, match="has changed since it was read, and stays"):
            opened.remove()
    assert [listing(source.parent)] == before


def test_replaced_directory_does_not_redirect_removal(place: Path) -> None:
    """The file that was opened goes, by its directory's descriptor."""
    (place / "a").mkdir()
    (place / "b").mkdir()
    leave(place / "a/krb5cc")
    leave(place / "b/krb5cc", b"another file")
    with foreign_file.open_source(str(place / "a/krb5cc"), LIMIT) as opened:
        (place / "a").rename(place / "c")
        (place / "a").symlink_to("b")
        opened.remove()
    assert (place / "b/krb5cc").read_bytes() == b"another file"
    assert not (place / "c/krb5cc").exists()


@pytest.mark.parametrize(
    ("residual", "path"),
    [
        ("FILE:/tmp/krb5cc_0", "/tmp/krb5cc_0"),
        ("/tmp/krb5cc_0", "/tmp/krb5cc_0"),
        ("FILE:/tmp/a:b", "/tmp/a:b"),
    ],
)
def test_file_residual_is_parsed(residual: str, path: str) -> None:
    assert foreign_file.path_of_residual(residual) == path


@pytest.mark.parametrize(
    "residual",
    ["", "FILE:", "krb5cc", "FILE:krb5cc", "DIR:/tmp", "KCM:", "/", "/tmp/", "/tmp/..", "/a\0b"],
)
def test_other_residual_is_refused(residual: str) -> None:
    with pytest.raises(SourceError, match="cannot import "):
        foreign_file.path_of_residual(residual)


def test_path_in_message_is_escaped(place: Path) -> None:
    said = refused(place / "a\nb\udcff")
    assert "\n" not in said
    assert r"a\nb\udcff" in said
    assert said.isprintable()


@pytest.mark.parametrize("kind", ["a file", "a directory"])
def test_file_is_not_put_back_over_new_file(
    source: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The file is put back unless its name is another's: neither is lost then."""
    with foreign_file.open_source(str(source), LIMIT) as opened:
        unlink = os.unlink

        def and_before_it_is_taken(name: str, **options: object) -> None:
            monkeypatch.setattr(os, "unlink", unlink)
            source.write_bytes(b"new") if kind == "a file" else source.mkdir()
            raise PermissionError(1, "not now")

        monkeypatch.setattr(os, "unlink", and_before_it_is_taken)
        with pytest.raises(SourceError, match=r"the former file is \.ccfs-import-"):
            opened.remove()
    assert source.is_dir() if kind == "a directory" else source.read_bytes() == b"new"
    (aside,) = [path for path in source.parent.iterdir() if path.name.startswith(".ccfs-import-")]
    assert aside.read_bytes() == DATA


KILLED = """
import os, signal, sys
from ccfs.linux import foreign_file
with foreign_file.open_source(sys.argv[1], 1 << 20) as opened:
    os.unlink = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
    opened.remove()
"""


def test_interrupted_removal_is_completed_next_time(source: Path) -> None:
    """No ticket stays under a name that nothing looks for; what the name doesn't fit stays."""
    killed = subprocess.run([sys.executable, "-c", KILLED, str(source)], timeout=20, check=False)
    assert killed.returncode == -signal.SIGKILL
    (aside,) = [path for path in source.parent.iterdir() if path.name.startswith(".ccfs-import-")]
    other = aside.with_name(aside.name[:-1] + "z")
    leave(other, b"x" + DATA)
    with open(aside, "rb") as held:
        leave(source)
        with foreign_file.open_source(str(source), LIMIT) as opened:
            opened.remove()
        assert held.read() == bytes(len(DATA))
    assert listing_names(source.parent) == {other.name}


def listing_names(directory: Path) -> set[str]:
    """The names in a directory."""
    return {path.name for path in directory.iterdir()}
