# SPDX-License-Identifier: MIT
"""Steps that the journal has no room for, and steps in which the process is killed."""

import contextlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ccfs.journal import journal as journals
from ccfs.journal import log as logs
from ccfs.journal.log import Log
from ccfs.store.errors import DamagedError
from tests.support.journal_steps import (
    STEPS,
    prepared,
)
from tests.support.journals import (
    JournaledStore,
    assert_survives_kill,
    durable_state,
    journaled_store,
    raise_enospc,
)
from tests.support.require import missing
from tests.support.storing import (
    TGT,
    at,
    check,
    fill,
    record,
    whole,
)


@pytest.mark.parametrize("step", STEPS)
def test_step_without_room_is_written_with_next_step(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with journaled_store() as journaled:
        first, second = prepared(journaled)
        before = durable_state(journaled.store)
        STEPS[step](journaled.store, first, second)
        with monkeypatch.context() as patched:
            patched.setattr(Log, "append", raise_enospc)
            for _ in range(2):
                with pytest.raises(DamagedError, match="no space left"):
                    journaled.commit()
                journaled.committer.commit_or_warn()
                assert journaled.committer.journal_behind
        restarted = journaled.restart_after_kill()
        assert durable_state(restarted.store) == before
        restarted.close()
        journaled.store.collection.create(b"other", at(60))
        journaled.commit()
        assert not journaled.committer.journal_behind
        assert_survives_kill(journaled)


def test_tend_writes_step_that_had_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where that has nothing of its own to keep."""
    with journaled_store() as journaled:
        ccache = fill(journaled.store, whole(record(TGT)))
        journaled.commit()
        journaled.store.edits.set_kdc_offset(ccache, 5, at())
        with monkeypatch.context() as patched:
            patched.setattr(Log, "append", raise_enospc)
            with pytest.raises(DamagedError):
                journaled.commit()
        journaled.committer.commit_or_warn()
        assert not journaled.committer.journal_behind
        assert_survives_kill(journaled)


class Moments:
    """The bytes of the file after each of its changes: what a killed process leaves."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.taken = path, list[bytes]()
        for name in ("posix_fallocate", "ftruncate", "rename"):
            monkeypatch.setattr(logs.os, name, self._around(getattr(os, name)))  # type: ignore[attr-defined]
        monkeypatch.setattr(Log, "_acknowledge", self._around(Log._acknowledge))
        write = Log._write

        def in_two(log: Log, data: bytes, at: int) -> None:
            half = len(data) // 2
            for piece, place in ((data[:half], at), (data[half:], at + half)):
                write(log, piece, place)
                self.take()

        monkeypatch.setattr(Log, "_write", in_two)

    def _around(self, function: Callable[..., object]) -> Callable[..., object]:
        def around(*arguments: object) -> object:
            result = function(*arguments)
            self.take()
            return result

        return around

    def take(self) -> None:
        self.taken.append(self.path.read_bytes())


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("spare", [journals.SPARE, -1_000_000])
def test_kill_at_any_moment_of_step_leaves_it_done_or_not_done(
    step: str, spare: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has been or it hasn't; with the smaller spare the log is written anew after it."""
    with journaled_store() as journaled:
        first, second = prepared(journaled)
        before, mark = durable_state(journaled.store), journaled.journal.mark
        monkeypatch.setattr(journals, "SPARE", spare)
        journaled.journal._size_limit = spare + journaled.journal._writer.log.end
        with monkeypatch.context() as patched:
            moments = Moments(journaled.path, patched)
            STEPS[step](journaled.store, first, second)
            journaled.commit()
        after = durable_state(journaled.store)
        found = []
        for data in moments.taken:
            path = journaled.path.with_name("moment")
            path.write_bytes(data)
            restarted = JournaledStore(path)
            found.append(durable_state(restarted.store))
            check(restarted.store)
            assert restarted.journal.has_made(mark) == (found[-1] == after)
            assert not [m for m in (b"<gone>",) if m in path.read_bytes()]
            restarted.close()
        assert found[0] == before
        assert found[-1] == after
        turn = found.index(after)
        assert found == [before] * turn + [after] * (len(found) - turn)
        assert len(found) > 2


@pytest.mark.usefixtures("root")
def test_full_file_system_refuses_steps_until_there_is_room(tmp_path: Path) -> None:
    """EIO for the client while there is no room, and all of it kept once there is."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(place)]
    subprocess.run(mount, check=True, timeout=10)
    try:
        journaled = JournaledStore(place / "journal")
        ccache = fill(journaled.store, whole(record(TGT)))
        journaled.commit()
        ballast = place / "ballast"
        with ballast.open("wb") as file, contextlib.suppress(OSError):
            file.write(bytes(1 << 20))
        big = record(b"big/one@R", ticket=bytes(100_000))
        journaled.store.edits.store(ccache, big, at())
        with pytest.raises(DamagedError):
            journaled.commit()
        journaled.committer.commit_or_warn()
        ballast.unlink()
        journaled.store.edits.store(ccache, record(b"host/www@R"), at())
        journaled.commit()
        journaled.committer.commit_or_warn()
        journaled.close()
        restarted = JournaledStore(place / "journal")
        assert durable_state(restarted.store) == durable_state(journaled.store)
        restarted.close()
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True, timeout=10)


@pytest.fixture
def root() -> None:
    if os.geteuid() != 0:
        missing("root", "run the tests as root", "a small tmpfs is mounted")
