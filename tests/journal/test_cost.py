# SPDX-License-Identifier: MIT
"""What a step writes to the journal, and when the journal is written anew."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from ccfs.journal import journal as journals
from ccfs.journal.log import Log
from ccfs.store import Limits
from ccfs.store import generations as generations
from ccfs.store.ccache import Ccache
from ccfs.store.errors import DamagedError
from tests.support.journal_steps import (
    prepared,
)
from tests.support.journals import (
    JournaledStore,
    assert_survives_kill,
    journaled_store,
    raise_enospc,
)
from tests.support.storing import (
    BOB,
    TGT,
    appender,
    at,
    current,
    fill,
    record,
    serial,
    serials,
    whole,
)


@contextlib.contextmanager
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The sizes of the writes to the file."""
    sizes: list[int] = []
    write = Log._write

    def counted(log: Log, data: bytes, place: int) -> None:
        sizes.append(len(data))
        write(log, data, place)

    with monkeypatch.context() as patched:
        patched.setattr(Log, "_write", counted)
        yield sizes


def test_step_write_size_is_independent_of_ccache_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generations, "ORPHAN_BYTES", 0)
    counted, new = [], record(b"new/one@R")
    for number in (10, 10_000):
        with journaled_store() as journaled:
            records = (record(b"host/%d@R" % n) for n in range(number))
            store = journaled.store
            ccache = fill(store, whole(*records))
            file = appender(store, current(ccache))
            steps: tuple[Callable[[], object], ...] = (
                partial(store.edits.store, ccache, new, at()),
                partial(store.open_files.write, file, 0, new, 0.0),
                partial(store.edits.remove, ccache, serial(ccache, "host%2F5@R"), at()),
                partial(store.edits.set_kdc_offset, ccache, 3, at()),
            )
            journaled.commit()
            for step in steps:
                with written(monkeypatch) as sizes:
                    step()
                    journaled.commit()
                sizes[0] -= len(str(journaled.store.events.sequence))
                counted.append(sizes)
            assert_survives_kill(journaled)
    few, many = counted[:4], counted[4:]
    assert few == many
    assert list(map(len, few)) == [1, 1, 2, 1]  # a removal also overwrites
    assert sum(few[0]) < len(new) + 320


def test_mostly_dead_log_is_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is memory, and a daemon that comes back reads all of it."""
    monkeypatch.setattr(journals, "SPARE", 10_000)
    with journaled_store() as journaled:
        ccache = fill(journaled.store, whole(record(TGT, ticket=bytes(5000))))
        journaled.commit()
        assert journaled.journal._new_writer is None
        most, files = 0, set()
        for number in range(400):
            store_and_remove(journaled, ccache, number)
            most = max(most, journaled.path.stat().st_size)
            files.add(journaled.path.stat().st_ino)
            assert journaled.journal.is_at(str(journaled.path))
        assert most < 200_000
        assert len(files) > 20
        assert os.listdir(journaled.path.parent) == ["journal"]
        assert_survives_kill(journaled)


def test_rewritten_log_has_step_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    with journaled_store() as journaled:
        ccaches = [fill(journaled.store, whole(record(TGT)), b"c%d" % n) for n in range(8)]
        journaled.commit()
        monkeypatch.setattr(journals, "SLICE", 1)
        journaled.journal._size_limit = 0
        journaled.store.edits.set_kdc_offset(ccaches[0], 1, at())
        journaled.commit()
        assert journaled.journal._new_writer is not None
        for ccache in ccaches:
            journaled.store.edits.set_kdc_offset(ccache, 7, at())
        with monkeypatch.context() as patched:
            patched.setattr(Log, "append", raise_enospc)
            with pytest.raises(DamagedError):
                journaled.commit()
        journaled.journal._size_limit = 0
        for number in range(20):
            journaled.store.edits.set_kdc_offset(ccaches[0], number + 10, at())
            journaled.commit()
        assert journaled.journal._new_writer is None
        assert_survives_kill(journaled)


def test_loaded_log_is_rewritten_as_soon_as_live_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much of the log was dead when it was read: kills don't make it grow."""
    monkeypatch.setattr(journals, "SPARE", 10_000)
    with journaled_store(Limits(events=2)) as journaled:
        fill(journaled.store, whole(record(TGT)))
        journaled.commit()
        for turn in range(6):
            for number in range(60):
                ccache = journaled.store.collection.default
                journaled.store.edits.set_kdc_offset(ccache, number + 1, at(number))
                journaled.commit()
            assert journaled.journal._writer.log.end < 4096 + 12_000
            assert journaled.path.stat().st_size == 65_536
            path = journaled.path.with_name(f"turn{turn}")
            shutil.copy(journaled.path, path)
            journaled.close()
            journaled.__init__(path, journaled.limits)


def test_log_continues_when_rewrite_has_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "SPARE", 0)
    with journaled_store() as journaled:
        ccache = fill(journaled.store, whole(record(TGT)))
        journaled.commit()
        monkeypatch.setattr(Log, "begin", raise_enospc)
        for number in range(60):
            store_and_remove(journaled, ccache, number)
        assert os.listdir(journaled.path.parent) == ["journal"]
        same_after_load(journaled, monkeypatch)


def test_log_is_rewritten_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps go into both meanwhile; a kill in between leaves the old one, nothing of the new."""
    with journaled_store() as journaled:
        data = whole(*(record(b"h/%d@R" % n, ticket=bytes(900)) for n in range(20)))
        ccaches = [fill(journaled.store, data, b"c%d" % n) for n in range(8)]
        prepared(journaled)
        monkeypatch.setattr(journals, "SLICE", 1)
        journaled.journal._size_limit = 0
        beside, scratch_state = journaled.path.with_name("journal.new"), 0
        for number in range(40):
            ccache = ccaches[number % 7]
            if number == 5:
                journaled.store.destroy(ccaches.pop(), at(number))
                journaled.store.reset_named(b"late", BOB, at(number))
            elif number % 3:
                journaled.store.edits.store(ccache, record(b"new/%d@R" % number), at(number))
            else:
                journaled.store.edits.remove(ccache, min(serials(ccache)), at(number))
            journaled.commit()
            scratch_state += beside.exists()
            assert_survives_kill(journaled)
            if journaled.journal._new_writer is None:
                break
        assert scratch_state >= 5
        assert not beside.exists()
        journaled.journal._size_limit = 0
        journaled.store.edits.store(ccaches[0], record(b"again@R", ticket=b"<beside>"), at(60))
        journaled.commit()
        assert beside.exists()
        shutil.copy(beside, journaled.path.with_name("again.new"))
        assert_survives_kill(journaled)
        assert not journaled.path.with_name("again.new").exists()


def store_and_remove(journaled: JournaledStore, ccache: Ccache, seconds: int) -> None:
    """Commit a credential of 2,000 bytes, then its removal."""
    credential = record(b"h@R", ticket=bytes(2000))
    stored = journaled.store.edits.store(ccache, credential, at(seconds))
    assert stored is not None
    journaled.commit()
    journaled.store.edits.remove(ccache, stored.serial, at(seconds))
    journaled.commit()


def same_after_load(journaled: JournaledStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert_survives_kill(journaled)
