# SPDX-License-Identifier: MIT
"""The import at login, as the daemon does it: stored and kept before the source goes."""

import errno
import functools
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from ccfs.daemon.login_import import Importer, ImportWhen
from ccfs.errors import JournalError, NoAnswerError, SourceError, UserError
from ccfs.journal.journal import Journal
from ccfs.journal.log import Log
from ccfs.linux import foreign_file
from ccfs.ops.waiters import Waiters
from ccfs.service.commit import Committer
from ccfs.service.info import Owner
from ccfs.store import Limits, Store
from ccfs.store.ccache import Ccache
from tests.support.direct import Outside
from tests.support.mounting import TMPFS, MakeMount
from tests.support.storing import (
    BOB,
    KEY,
    NOW,
    TGT,
    at,
    check,
    config,
    data_of,
    fill,
    record,
    said,
    whole,
)
from tests.support.vectors import BROKEN, vector

DELEGATED = whole(record(TGT, endtime=int(NOW) + 3600), config(b"fast_avail"), principal=BOB)
MINE = whole(record(TGT, endtime=int(NOW) + 60))
UID = os.getuid()
OWNER = Owner(UID, UID)
SECONDS = 20.0
SHORT = 0.3


class Daemon:
    """A server with its journal, and what was left for it."""

    def __init__(self, directory: Path, limits: Limits | None = None) -> None:
        self.directory = directory
        self.left = directory / "krb5cc_1000_XyZ"
        self.leave(DELEGATED)
        self.outside = Outside()
        self.journal = Journal(str(directory / "journal"), fresh=True)
        self.store = Store(limits or Limits(), at())
        self.journal.create("/m", UID, self.store)
        self.committer = Committer(self.store, journal=self.journal, clock=lambda: NOW)
        self.committer.subscribe(Waiters(self.store, self.outside).wake)
        self.committer.commit()

    def leave(self, data: bytes) -> None:
        self.left.write_bytes(data)
        self.left.chmod(0o600)

    def take(
        self,
        into: str = "session-7",
        when: ImportWhen = ImportWhen.ALWAYS,
        seconds: float = SECONDS,
    ) -> str | None:
        async def run() -> str | None:
            importer = Importer(self.committer, OWNER)
            return await importer.take(f"FILE:{self.left}", into, when, seconds)

        return trio.run(run)

    def refused(self, kind: type[UserError] = SourceError, into: str = "session-7") -> str:
        """The reason of the refusal; the source stays, and no ccache is made."""
        with pytest.raises(kind) as told:
            self.take(into)
        assert os.path.lexists(self.left)
        assert self.store.collection.find(into.encode()) is None
        check(self.store)
        return told.value.reason

    def kept(self) -> dict[bytes, bytes]:
        """What a new daemon would find in the journal: the initialised ccaches."""
        self.journal.close()
        return kept(self.directory)

    def ccache(self, name: bytes) -> Ccache:
        return self.store.collection.get(name)


def kept(directory: Path) -> dict[bytes, bytes]:
    journal = Journal(str(directory / "journal"), fresh=False)
    store = Store(Limits(), at(), journal.load("/m", UID))
    journal.close()
    return {c.name: data_of(c) for c in store.collection.all() if c.initialised}


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ccfs-login-", dir=TMPFS) as directory:
        yield Path(directory)


@pytest.fixture
def daemon(place: Path) -> Iterator[Daemon]:
    made = Daemon(place)
    yield made
    made.journal.close()


def test_import_creates_session_ccache(daemon: Daemon) -> None:
    """The default stays what it is; the outside is told; the event says who."""
    tkt = fill(daemon.store, MINE)
    assert daemon.take() == "session-7"
    assert data_of(daemon.ccache(b"session-7")) == DELEGATED
    assert daemon.store.collection.default is tkt
    assert data_of(tkt) == MINE
    assert not daemon.left.exists()
    assert daemon.outside.touched == [daemon.ccache(b"session-7").ident]
    log = daemon.store.events
    last = log.read(log.edition, 0, 1 << 20).decode().splitlines()[-1]
    assert last.split("\t")[2:] == [
        "replaced",
        "session-7",
        "-",
        f"uid={UID}",
        "pid=0",
        "import",
    ]
    check(daemon.store)
    assert daemon.kept() == {b"tkt": MINE, b"session-7": DELEGATED}


def test_second_import_replaces_session_ccache(daemon: Daemon) -> None:
    daemon.take()
    ccache = daemon.ccache(b"session-7")
    daemon.leave(MINE)
    assert daemon.take() == "session-7"
    assert daemon.ccache(b"session-7") is ccache
    assert data_of(ccache) == MINE


EXPIRED = whole(record(TGT, endtime=int(NOW)), record(endtime=int(NOW) - 5))
ENDLESS = whole(record(TGT, endtime=0))
IF_EMPTY: dict[str, tuple[bytes | None, bool]] = {
    "no file": (None, True),
    "no credential": (whole(), True),
    "configuration alone": (whole(config(b"pa_type")), True),
    "expired ones alone": (EXPIRED, True),
    "one that is valid": (MINE, False),
    "an expired one and a valid one": (whole(record(endtime=5), record(endtime=1 << 31)), False),
}


@pytest.mark.parametrize("kind", IF_EMPTY)
def test_import_into_default_only_if_empty(daemon: Daemon, kind: str) -> None:
    before, empty = IF_EMPTY[kind]
    if before is not None:
        fill(daemon.store, before)
    assert daemon.take("default", ImportWhen.IF_EMPTY) == ("tkt" if empty else None)
    assert daemon.left.exists() is not empty
    if empty:
        assert data_of(daemon.ccache(b"tkt")) == DELEGATED
    else:
        assert data_of(daemon.ccache(b"tkt")) == before


def test_import_into_default_follows_default(daemon: Daemon) -> None:
    work = fill(daemon.store, MINE, b"work")
    daemon.store.collection.set_default(work, at())
    assert daemon.take("default") == "work"
    assert data_of(work) == DELEGATED


def test_import_accepts_any_ccache_name(daemon: Daemon) -> None:
    name = "a/b \udcff\n"
    assert daemon.take(name) == name
    assert data_of(daemon.ccache(b"a/b \xff\n")) == DELEGATED


HOSTILE: dict[str, tuple[Callable[[Daemon], object], str]] = {
    "nothing": (lambda d: d.leave(b""), "it is no ccache"),
    "cut short": (lambda d: d.leave(DELEGATED[:-1]), "it is no ccache"),
    "something behind": (lambda d: d.leave(DELEGATED + b"\0"), "it is no ccache"),
    "a keytab": (lambda d: d.leave(b"\x05\x02\0\0\0\x2a" + bytes(42)), "it is no ccache"),
    "huge": (lambda d: os.truncate(d.left, 1 << 40), "is larger than a ccache may be"),
    "a symbolic link": (
        lambda d: (d.left.rename(d.directory / "x"), d.left.symlink_to("x")),
        "it is a symbolic link",
    ),
    "open to its group": (lambda d: d.left.chmod(0o640), "it is open to others"),
    **{name: (lambda d, n=name: d.leave(vector(n)), "it is no ccache") for name in BROKEN},
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_sources_are_refused_and_left(
    daemon: Daemon, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """Refused in one line without their bytes, and left where they are."""
    make, why = HOSTILE[kind]
    make(daemon)
    said = daemon.refused()
    assert said.startswith(f"cannot import {daemon.left}: ")
    assert why in said
    assert caplog.text == ""


@pytest.mark.parametrize("residual", ["KEYRING:session:x", "krb5cc", "FILE:", ""])
def test_other_residual_types_are_refused(daemon: Daemon, residual: str) -> None:
    with pytest.raises(SourceError):
        trio.run(Importer(daemon.committer, OWNER).take, residual, "default", ImportWhen.ALWAYS)


def test_import_under_invalid_name_is_refused(daemon: Daemon) -> None:
    assert "no ccache can have that name" in daemon.refused(into="tkt.x")


def test_import_beyond_limits_is_refused_and_logged(place: Path) -> None:
    """It is said, also in the log that users see."""
    daemon = Daemon(place, Limits(ccaches=1))
    try:
        assert "too many ccaches" in daemon.refused()
        assert "refused - over 1 ccaches" in said(daemon.store)
    finally:
        daemon.journal.close()


def test_source_in_ccfs_mount_is_refused(daemon: Daemon, make_mount: MakeMount) -> None:
    """KRB5CCNAME may point at a mount: nothing was left there by a login."""
    mount = make_mount("--no-journal")
    file = mount.path / "default/ccache"
    file.write_bytes(DELEGATED)
    daemon.left = file
    assert "is in a ccfs already" in daemon.refused()
    assert file.read_bytes() == DELEGATED


def test_import_fails_and_leaves_source_when_journal_is_full(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is said to be imported that could be lost: the source stays."""
    big = whole(record(TGT, ticket=KEY * 10_000))
    daemon.leave(big)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, KEY.decode())

    with monkeypatch.context() as patched:
        patched.setattr(Log, "append", full)
        assert daemon.refused(JournalError) == "the journal could not keep it"
    assert daemon.left.read_bytes() == big
    assert "commit failed: DamagedError at " in caplog.text
    assert KEY.decode() not in caplog.text
    assert daemon.take() == "session-7"
    assert daemon.kept()[b"session-7"] == big


def test_import_bug_is_reported_without_message(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ValueError(KEY)

    monkeypatch.setattr(daemon.store, "put", broken)
    assert daemon.refused(UserError) == "unexpected failure of the import"
    assert "import failed: ValueError at broken" in caplog.text
    assert KEY.decode() not in caplog.text


def test_import_reports_source_it_cannot_remove(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The import is done, and the log says what stays."""
    commit = daemon.committer.commit

    def and_meanwhile() -> None:
        commit()
        daemon.leave(MINE)

    monkeypatch.setattr(daemon.committer, "commit", and_meanwhile)
    assert daemon.take() == "session-7"
    assert daemon.left.read_bytes() == MINE
    assert f"{daemon.left} has changed since it was read, and stays" in caplog.text


def test_import_is_journaled_before_source_is_removed(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    commit, remove = daemon.journal.commit, foreign_file.Source.remove

    def kept_now(*arguments: object) -> None:
        order.append("kept")
        commit(*arguments)  # type: ignore[arg-type]

    def removed_now(source: foreign_file.Source) -> None:
        order.append("removed")
        remove(source)

    monkeypatch.setattr(daemon.journal, "commit", kept_now)
    monkeypatch.setattr(foreign_file.Source, "remove", removed_now)
    daemon.take()
    assert order == ["kept", "removed"]


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_daemon_killed_during_import_loses_nothing(place: Path, moment: str) -> None:
    """Nothing is lost: it is in the file, or in the journal, or in both."""
    code = "import sys; from tests.ccfsd.test_import import die; die(*sys.argv[1:])"
    died = subprocess.run([sys.executable, "-c", code, place, moment], timeout=60, check=False)
    assert died.returncode == -signal.SIGKILL
    found, left = kept(place), list(place.glob("krb5cc*"))
    assert bool(left) is (moment != "after")
    assert found == ({} if moment == "before" else {b"session-7": DELEGATED})
    assert all(file.read_bytes() == DELEGATED for file in left)


def die(place: str, moment: str) -> None:
    """Be killed in the middle of an import."""
    daemon = Daemon(Path(place))
    remove = foreign_file.Source.remove

    def killed(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def removed(source: foreign_file.Source) -> None:
        remove(source)
        killed()

    if moment == "before":
        daemon.store.put = killed  # type: ignore[assignment, method-assign]
    foreign_file.Source.remove = killed if moment == "between" else removed  # type: ignore[assignment, method-assign]
    daemon.take()


@pytest.mark.expects_warnings
def test_import_gives_up_on_hanging_source(daemon: Daemon, make_mount: MakeMount) -> None:
    """It is given up in time, the loop goes on, others wait their turn; then all is as before.

    The file is on a FUSE mount whose daemon is stopped.
    """
    mount = make_mount("--no-journal")
    hung = mount.path / "caches" / "tkt" / "ccache"
    hung.write_bytes(DELEGATED)
    before = len(os.listdir("/proc/self/fd"))

    async def scene() -> None:
        importer = Importer(daemon.committer, OWNER)
        take = functools.partial(importer.take, into="default", when=ImportWhen.ALWAYS)
        os.kill(mount.pid, signal.SIGSTOP)
        try:
            for _ in range(2):
                with pytest.raises(NoAnswerError, match="could not be read in time"):
                    await take(str(hung), seconds=SHORT)
            with pytest.raises(NoAnswerError):  # one at a time
                await take(str(daemon.left), seconds=SHORT)
        finally:
            os.kill(mount.pid, signal.SIGCONT)
        assert await take(str(daemon.left), seconds=SECONDS) == "tkt"

    trio.run(scene)
    assert hung.read_bytes() == DELEGATED
    assert data_of(daemon.ccache(b"tkt")) == DELEGATED
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # no descriptor of the hung file


def test_abandoned_import_is_not_stored(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread comes back late: its file stays, and no ccache appears behind anybody's back."""

    async def scene() -> None:
        importer, late = Importer(daemon.committer, OWNER), trio.Event()
        reading, go_on = trio.Event(), threading.Event()
        opened = foreign_file.open_source

        def slowly(path: str, limit: int) -> object:
            trio.from_thread.run_sync(reading.set)
            assert go_on.wait(SECONDS)
            return opened(path, limit)

        store = importer._store

        def stored(*arguments: object) -> bool:
            done = store(*arguments)  # type: ignore[arg-type]
            late.set()
            return done

        monkeypatch.setattr(foreign_file, "open_source", slowly)
        monkeypatch.setattr(importer, "_store", stored)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                importer.take, str(daemon.left), "session-7", ImportWhen.ALWAYS, SECONDS
            )
            await reading.wait()
            nursery.cancel_scope.cancel()
        go_on.set()
        with trio.fail_after(SECONDS):
            await late.wait()

    trio.run(scene)
    assert daemon.store.collection.find(b"session-7") is None
    assert daemon.left.read_bytes() == DELEGATED


def test_session_ccache_is_destroyed_with_session(daemon: Daemon) -> None:
    daemon.take()

    async def scene() -> None:
        importer = Importer(daemon.committer, OWNER)
        importer.destroy("session-7")
        importer.destroy("session-7")

    trio.run(scene)
    assert daemon.store.collection.find(b"session-7") is None
    assert KEY not in (daemon.directory / "journal").read_bytes()
    assert daemon.kept() == {}
