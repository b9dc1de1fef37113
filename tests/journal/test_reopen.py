# SPDX-License-Identifier: MIT
"""A daemon loads the journal of a killed one and goes on with its mount.

The kernel still has its open files, its inode numbers, and what it has read.
"""

import random
from pathlib import Path

import pytest

from ccfs.format.dialect import Dialect
from ccfs.journal import journal as journals
from ccfs.journal.lazy_journal import LazyJournal
from ccfs.journal.log import Log
from ccfs.journal.open_journal import OpenJournal
from ccfs.service.commit import Committer
from ccfs.store import Limits, Store
from ccfs.store.ccache import Ccache
from ccfs.store.effects import Effects, Listing
from ccfs.store.errors import BadContentError, DamagedError, GoneError
from ccfs.store.event_log import Reader
from ccfs.store.generation import OpenFile
from ccfs.store.scratch import DIR
from tests.support.journal_history import History, secret
from tests.support.journals import (
    MOUNT,
    JournaledStore,
    durable_state,
    journaled_store,
    opened,
    raise_enospc,
    state_reloaded,
)
from tests.support.storing import (
    ALICE,
    NOW,
    TGT,
    USER,
    at,
    check,
    contents,
    current,
    data_of,
    fill,
    put,
    record,
    removed,
    serial,
    start,
    whole,
)

LATE = record(b"late@R", ticket=b"<late>" * 20)
MORE = record(b"more@R")


def reopened(store: Store, file: OpenFile) -> OpenFile:
    """The open file as the kernel still has it."""
    number, handle = file.generation.number, file.handle
    assert handle is not None
    return store.open_files.reopen(number, handle, USER, writes=file.writes, append=file.append)


def default(journaled: JournaledStore) -> Ccache:
    return journaled.store.collection.default


# Open files


@pytest.mark.parametrize("append", [True, False])
@pytest.mark.parametrize("handle", [7, (1 << 64) - 1])
def test_incomplete_record_is_completed_after_restart(handle: int, append: bool) -> None:
    """At the end that the kernel knows."""
    with journaled_store() as journaled:
        ccache = fill(journaled.store, whole(record(TGT)))
        file = opened(journaled.store, ccache, handle, append=append)
        end = len(data_of(ccache))
        put(journaled.store, file, LATE[:50], end)
        journaled.commit()
        restarted = journaled.restart_after_kill()
        assert data_of(default(restarted)) == whole(record(TGT))
        assert current(default(restarted)).number == file.generation.number
        reopened_file = reopened(restarted.store, file)
        check(restarted.store, [reopened_file])
        assert reopened_file.incomplete == LATE[:50]
        put(restarted.store, reopened_file, LATE[50:], end + 50)
        check(restarted.store, [reopened_file])
        assert data_of(default(restarted)) == whole(record(TGT), LATE)
        restarted.commit()
        assert state_reloaded(restarted) == durable_state(restarted.store)
        assert not restarted.store.open_files.incomplete_records()
        restarted.close()


def test_two_incomplete_records_are_completed_after_restart() -> None:
    with journaled_store() as journaled:
        ccache = fill(journaled.store, whole(record(TGT)))
        files = [opened(journaled.store, ccache, handle) for handle in (7, 8)]
        put(journaled.store, files[0], LATE[:40])
        put(journaled.store, files[1], MORE[:30])
        journaled.commit()
        restarted = journaled.restart_after_kill()
        one, two = (reopened(restarted.store, file) for file in files)
        put(restarted.store, one, LATE[40:60])
        put(restarted.store, two, MORE[30:])
        put(restarted.store, one, LATE[60:])
        assert data_of(default(restarted)) == whole(record(TGT), MORE, LATE)
        check(restarted.store, [one, two])
        restarted.close()


def test_incomplete_record_of_closed_file_is_dropped() -> None:
    with journaled_store() as journaled:
        ccache = fill(journaled.store, whole(record(TGT)))
        put(journaled.store, opened(journaled.store, ccache, 7), LATE[:140])
        journaled.commit()
        restarted = journaled.restart_after_kill()
        assert LATE[20:140] in restarted.bytes()
        restarted.store.open_files.drop_restored(at(100))
        restarted.commit()
        check(restarted.store)
        assert LATE[20:140] not in restarted.bytes()
        assert state_reloaded(restarted) == durable_state(restarted.store)
        restarted.close()


def test_incomplete_record_goes_into_no_other_ccache() -> None:
    with journaled_store() as journaled:
        ccache = fill(journaled.store, whole(record(TGT)))
        work = fill(journaled.store, whole(), b"work")
        put(journaled.store, opened(journaled.store, ccache, 7), LATE[:50])
        journaled.commit()
        restarted = journaled.restart_after_kill()
        number = current(work).number
        other = restarted.store.open_files.reopen(number, 7, USER, writes=True, append=True)
        assert other.incomplete == b""
        check(restarted.store, [other])
        restarted.close()


def test_incomplete_header_is_completed_after_restart() -> None:
    with journaled_store() as journaled:
        ccache = default(journaled)
        start(journaled.store, ccache)
        journaled.commit()
        empty = journaled.restart_after_kill()
        assert data_of(default(empty)) == b""
        empty.close()
        file, data = opened(journaled.store, ccache, 7, append=False), whole(record(TGT))
        put(journaled.store, file, data[:11])
        journaled.commit()
        restarted = journaled.restart_after_kill()
        reopened_file = reopened(restarted.store, file)
        put(restarted.store, reopened_file, data[11:], 11)
        assert data_of(default(restarted)) == data
        check(restarted.store, [reopened_file])
        restarted.close()


def test_scratch_file_keeps_its_serial_number() -> None:
    with journaled_store() as journaled:
        generation = journaled.store.scratch.create(DIR, b"tktAbC", at())
        file = journaled.store.open_files.open(
            generation, USER, writes=True, append=False, handle=3
        )
        data = whole(record(TGT))
        put(journaled.store, file, data[:30])
        journaled.commit()
        restarted = journaled.restart_after_kill()
        reopened_file = reopened(restarted.store, file)
        assert contents(restarted.store, reopened_file) == data[:30]
        put(restarted.store, reopened_file, data[30:])
        restarted.store.close(reopened_file, NOW)
        assert data_of(restarted.store.collection.get(b"tktAbC")) == data
        check(restarted.store)
        restarted.close()


def test_appended_bytes_are_logged_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    append = Log.append

    def counted(log: Log, meta: bytes, data: list[bytes]) -> int:
        sizes.append(len(meta) + sum(map(len, data)))
        return append(log, meta, data)

    with journaled_store() as journaled:
        generation = journaled.store.scratch.create(DIR, b"big", at())
        file = journaled.store.open_files.open(generation, USER, writes=True, append=False)
        put(journaled.store, file, bytes(100_000))
        journaled.commit()
        monkeypatch.setattr(Log, "append", counted)
        put(journaled.store, file, b"more")
        journaled.commit()
        assert sizes[0] < 300


def test_superseded_generation_is_readable_after_restart() -> None:
    with journaled_store() as journaled:
        ccache = fill(journaled.store, whole(record(TGT), record(b"gone@R")))
        file = opened(journaled.store, ccache, 7)
        before = data_of(ccache)
        journaled.store.edits.remove(ccache, serial(ccache, "gone@R"), at())
        journaled.store.edits.store(ccache, MORE, at())
        journaled.commit()
        assert not file.generation.current
        restarted = journaled.restart_after_kill()
        reopened_file = reopened(restarted.store, file)
        assert restarted.store.open_files.read(reopened_file, 0, 1 << 20) == before
        put(restarted.store, reopened_file, LATE)
        assert [s.name for s in default(restarted).credentials.values()] == [
            "krbtgt%2FR@R",
            "more@R",
            "late@R",
        ]
        assert reopened_file.number is not None
        blind = restarted.store.open_files.reopen(
            reopened_file.number, 8, USER, writes=True, append=False
        )
        with pytest.raises(BadContentError):
            restarted.store.open_files.write(blind, 0, LATE, NOW)
        for one in (reopened_file, blind):
            restarted.store.close(one, NOW)
        check(restarted.store)
        restarted.close()


def test_write_by_superseded_number_renumbers() -> None:
    """To the kernel, which has cached the bytes of the current one."""
    with journaled_store() as journaled:
        ccache = fill(journaled.store, whole(record(TGT)))
        old = current(ccache)
        journaled.store.edits.store(ccache, MORE, at())
        number = current(ccache).number
        journaled.store.open_files.open(
            current(ccache), USER, writes=True, append=True, opened_by=old, handle=7
        )
        journaled.commit()
        restarted = journaled.restart_after_kill()
        reopened_file = restarted.store.open_files.reopen(
            number, 7, USER, writes=True, append=True, by_other_number=True
        )
        assert contents(restarted.store, reopened_file) == data_of(ccache)
        put(restarted.store, reopened_file, LATE)
        assert current(default(restarted)).number != number
        restarted.store.close(reopened_file, NOW)
        check(restarted.store)
        restarted.close()


def test_replaced_generation_cannot_be_reopened() -> None:
    with journaled_store() as journaled:
        ccache = fill(journaled.store, whole(record(TGT)))
        numbers = [current(ccache).number]
        journaled.store.edits.store(ccache, MORE, at())
        numbers.append(current(ccache).number)
        journaled.commit()
        journaled.store.reset(ccache, ALICE, at())
        journaled.commit()
        restarted = journaled.restart_after_kill()
        for number in (*numbers, 12345):
            with pytest.raises(GoneError):
                restarted.store.open_files.reopen(number, 1, USER, writes=False, append=False)
        restarted.close()


def test_generation_of_earlier_format_version_cannot_be_reopened() -> None:
    """Its writer would append records that are written in another way."""
    with journaled_store() as journaled:
        old = Dialect(3)
        ccache = fill(journaled.store, whole(record(TGT, dialect=old), dialect=old))
        number = current(ccache).number
        journaled.store.edits.store(ccache, MORE, at())
        journaled.commit()
        restarted = journaled.restart_after_kill()
        with pytest.raises(GoneError):
            restarted.store.open_files.reopen(number, 1, USER, writes=True, append=True)
        restarted.close()


def test_rewritten_log_has_numbers_of_open_files() -> None:
    with journaled_store() as journaled:
        ccache = fill(journaled.store, whole(record(TGT)))
        file = opened(journaled.store, ccache, 7)
        name = journaled.journal.mark[0]
        journaled.journal._size_limit = 0
        journaled.store.edits.store(ccache, MORE, at())
        journaled.commit()
        assert journaled.journal.mark[0] != name
        restarted = journaled.restart_after_kill()
        put(restarted.store, reopened(restarted.store, file), LATE)
        assert data_of(default(restarted)) == whole(record(TGT), MORE, LATE)
        restarted.close()


def test_removed_records_keep_their_offsets() -> None:
    """The kernel has cached the bytes of a number: they are the same afterwards."""
    with journaled_store() as journaled:
        gone = record(b"gone@R", ticket=b"<gone>" * 9)
        other = removed(record(b"other@R"))
        ccache = fill(journaled.store, whole(record(TGT), other, gone, MORE, LATE))
        journaled.commit()
        journaled.store.edits.remove(ccache, serial(ccache, "gone@R"), at())
        journaled.commit()
        assert b"<gone>" not in journaled.bytes()
        assert ccache.image
        assert ccache.image.removed_bytes
        restarted = journaled.restart_after_kill()
        assert data_of(default(restarted)) == data_of(ccache)
        assert current(default(restarted)).number == current(ccache).number
        check(restarted.store)
        restarted.close()


# The log of changes


def test_event_reader_continues_after_restart() -> None:
    with journaled_store() as journaled:
        journaled.store.log_refusal(at(), "one")
        journaled.commit()
        edition = journaled.store.events.edition
        first = Reader(journaled.store.events, edition).read(0, 1000)
        journaled.store.log_refusal(at(5), "two")
        assert journaled.store.effects.durable
        journaled.commit()
        restarted = journaled.restart_after_kill()
        reopened_file = restarted.store.events.find(edition.number)
        assert reopened_file == edition
        text = Reader(restarted.store.events, edition).read(len(first), 1000)
        assert text.split(b"\t")[:3] == [b"3", b"2023-11-14T22:13:25Z", b"refused"]
        restarted.store.log_refusal(at(9), "three")
        assert restarted.store.events.sequence == 4
        restarted.close()


def test_event_reader_that_missed_lines_continues_after_restart() -> None:
    with journaled_store(Limits(events=4)) as journaled:
        reader = Reader(journaled.store.events, journaled.store.events.edition)
        edition = journaled.store.events.edition.number
        for number in range(9):
            journaled.store.log_refusal(at(number), "why")
            journaled.commit()
        first = reader.read(0, 1000)
        text = first + reader.read(len(first), 60)
        assert reader.skipped
        restarted = journaled.restart_after_kill()
        found = restarted.store.events.find(edition)
        assert found
        reopened_file = Reader(restarted.store.events, found, reader.skipped)
        assert reopened_file.read(len(text), 1000) == reader.read(len(text), 1000) != b""
        assert reopened_file.behind == reader.behind
        restarted.close()


def test_expiry_is_announced_once_over_restart() -> None:
    with journaled_store() as journaled:
        fill(journaled.store, whole(record(TGT, endtime=int(NOW) + 50)))
        journaled.store.announce_expiry(NOW, USER)
        journaled.commit()
        restarted = journaled.restart_after_kill()
        end = restarted.store.events.end
        restarted.store.announce_expiry(NOW + 1, USER)
        assert restarted.store.events.end == end
        restarted.store.announce_expiry(NOW + 50, USER)
        assert restarted.store.events.end > end
        restarted.close()


# Steps


def test_mark_names_steps_made(monkeypatch: pytest.MonkeyPatch) -> None:
    with journaled_store() as journaled:
        ccache = fill(journaled.store, whole(record(TGT)))
        first = journaled.journal.mark
        assert first[0] > 0
        journaled.commit()
        second = journaled.journal.mark
        journaled.store.edits.store(ccache, MORE, at())
        with monkeypatch.context() as patched:
            patched.setattr(Log, "append", raise_enospc)
            with pytest.raises(DamagedError):
                journaled.commit()
        assert journaled.journal.mark == second
        restarted = journaled.restart_after_kill()
        assert [restarted.journal.has_made(one) for one in (first, second)] == [True, False]
        assert restarted.journal.mark == second
        restarted.close()
        journaled.committer.commit_or_warn()
        journaled.journal._size_limit = 0
        third = journaled.journal.mark
        journaled.store.edits.store(ccache, LATE, at())
        journaled.commit()
        assert journaled.journal.mark[0] != third[0]
        restarted = journaled.restart_after_kill()
        assert all(restarted.journal.has_made(one) for one in (first, second, third))
        assert not restarted.journal.has_made(restarted.journal.mark)
        assert restarted.journal.has_made((0, 0))
        restarted.close()


def test_lazy_journal_mark_before_file_exists(tmp_path: Path) -> None:
    """An idle mount has none; the first event makes it, but for those at the start."""
    path = tmp_path / "journal"
    late = LazyJournal(str(path), MOUNT)
    store = late.store(Limits(), at())
    committer = Committer(store, journal=late)
    committer.commit_or_warn()
    assert (late.mark, late.has_made((0, 0)), path.exists()) == ((0, 0), False, False)
    store.log_refusal(at(), "why")
    committer.commit()
    assert late.has_made((0, 0))
    name, number = late.mark
    assert (name > 0, number, late.has_made((name, number))) == (True, 2, False)
    late.close(wipe=False)
    loaded = OpenJournal.open(str(path), MOUNT)
    loaded.store(Limits(), at(9))
    assert loaded.journal.has_made((0, 0))
    assert loaded.journal.mark == (name, number)
    loaded.close(wipe=True)


def told(effects: Effects) -> list[object]:
    """The effects of which the kernel is notified."""
    return [
        effects.superseded,
        effects.removed_records,
        effects.destroyed,
        effects.listings,
        effects.changed,
        effects.changed_outside_fuse,
        effects.logged,
    ]


@pytest.mark.parametrize("anew", [False, True])
def test_last_effects_are_loaded(anew: bool) -> None:
    with journaled_store() as journaled:
        assert not journaled.journal.last
        ccache = fill(journaled.store, whole(record(TGT), record(b"gone@R")))
        work = fill(journaled.store, whole(MORE), b"work")
        journaled.commit()
        if anew:
            journaled.journal._size_limit = 0
        journaled.store.edits.remove(ccache, serial(ccache, "gone@R"), at())
        journaled.store.destroy(work, at())
        effects = journaled.store.take_effects()
        assert effects
        journaled.journal.commit(journaled.store, effects)
        restarted = journaled.restart_after_kill()
        assert told(restarted.journal.last) == told(effects)
        assert len(restarted.journal.last.removed_serials) == 2
        restarted.close()


def test_note_has_no_stale_effects() -> None:
    with journaled_store() as journaled:
        journaled.commit()
        journaled.store.set_note(b"key", b"value")
        journaled.commit()
        restarted = journaled.restart_after_kill()
        assert not restarted.journal.last
        assert restarted.store.notes == {b"key": b"value"}
        restarted.close()


def test_unknown_last_step_counts_as_all_changed() -> None:
    with journaled_store() as journaled:
        restarted = journaled.restart_after_kill()
        serials = {default(journaled).serial}
        assert restarted.journal.last.changed == serials
        assert restarted.journal.last.listings == {Listing.COLLECTION, *serials}
        restarted.close()


# Removed content in the bytes of the log


def test_removed_notes_scratch_and_incomplete_records_are_overwritten() -> None:
    with journaled_store() as journaled:
        ccache = fill(journaled.store, whole(record(TGT)))
        store, files = journaled.store, journaled.store.open_files
        generation = journaled.store.scratch.create(DIR, b"file", at())
        file = files.open(generation, USER, writes=True, append=False)
        tail = opened(journaled.store, ccache, 7)
        incomplete = record(b"s@R", ticket=secret(3))

        def left() -> set[int]:
            journaled.commit()
            return {number for number in range(9) if secret(number) in journaled.bytes()}

        store.set_note(b"key", secret(0))
        put(journaled.store, file, secret(1))
        put(journaled.store, tail, incomplete[:-2])
        assert left() == {0, 1, 3}
        store.set_note(b"key", secret(4))
        put(journaled.store, file, secret(2))
        assert left() == {1, 2, 3, 4}
        files.truncate(generation, len(secret(1)), at())
        journaled.store.close(tail, NOW)
        assert left() == {1, 4}
        put(journaled.store, file, secret(5), 0)
        store.set_note(b"key", b"")
        assert left() == {5}
        journaled.store.scratch.unlink(DIR, b"file")
        assert left() == {5}
        journaled.store.close(file, NOW)
        assert left() == set()
        assert journaled.store.notes == {}
        assert state_reloaded(journaled) == durable_state(journaled.store)


def test_rewritten_log_has_notes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A note that is changed meanwhile is the new one."""
    monkeypatch.setattr(journals, "NOTES", 2)
    monkeypatch.setattr(journals, "SLICE", 1)
    with journaled_store() as journaled:
        for number in range(9):
            journaled.store.set_note(b"%d" % number, b"value")
        journaled.commit()
        journaled.journal._size_limit = 0
        name = journaled.journal.mark[0]
        for number in range(9):
            journaled.store.set_note(b"%d" % number, b"new" if number % 3 else b"")
            journaled.commit()
        assert journaled.journal.mark[0] != name
        assert state_reloaded(journaled) == durable_state(journaled.store)


def test_fsync_refuses_incomplete_record() -> None:
    with journaled_store() as journaled:
        file = opened(journaled.store, fill(journaled.store, whole()), 7)
        put(journaled.store, file, LATE[:9])
        with pytest.raises(BadContentError):
            journaled.store.open_files.sync(file)


@pytest.mark.parametrize("seed", range(12))
def test_removed_secrets_are_overwritten_in_random_histories(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of records, incomplete ones, files and notes; nothing is there more often than it is seen."""
    chance = random.Random(seed)
    monkeypatch.setattr(journals, "SPARE", chance.choice([0, 4000, journals.SPARE]))
    monkeypatch.setattr(journals, "SLICE", chance.choice([1, journals.SLICE]))
    with journaled_store() as journaled:
        history = History(journaled.store, chance)
        for number in range(150):
            history.step(number)
            journaled.commit()
            held, live = journaled.bytes(), history.live()
            beside = journaled.path.with_name("journal.new")
            new = beside.read_bytes() if beside.exists() else b""
            for one in map(secret, range(number + 1)):
                assert held.count(one) == live.count(one)
                assert new.count(one) <= live.count(one)
        assert state_reloaded(journaled) == durable_state(journaled.store)
