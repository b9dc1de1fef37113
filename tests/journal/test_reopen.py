"""What a daemon finds in the journal that goes on where another one was killed.

The kernel still has its open files, its inode numbers, and what it has read.
"""

import random
from pathlib import Path

import pytest

from ccfs.daemon import MountOptions
from ccfs.daemon.lazy_journal import LazyJournal
from ccfs.daemon.open_journal import OpenJournal as Open
from ccfs.format.dialect import Dialect
from ccfs.journal import journal as journals
from ccfs.journal.log import Log
from ccfs.ops.file_system import Owner, Server
from ccfs.store import Limits, Store
from ccfs.store.ccache import Ccache
from ccfs.store.effects import Effects, Listing
from ccfs.store.errors import BadContentError, DamagedError, GoneError
from ccfs.store.event_log import Reader
from ccfs.store.open_files import OpenFile
from ccfs.store.scratch import COLLECTION
from tests.journal.test_journal import (
    MOUNT,
    UID,
    OpenJournal,
    again_after,
    kept,
    mark,
    no_room,
    seen,
)
from tests.support.direct import Outside
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
    serials,
    start,
    whole,
)

LATE = record(b"late@R", ticket=b"<late>" * 20)
MORE = record(b"more@R")


def opened(store: Store, ccache: Ccache, ident: int, *, append: bool = True) -> OpenFile:
    return store.open_files.open(current(ccache), USER, writes=True, append=append, ident=ident)


def reopened(store: Store, file: OpenFile) -> OpenFile:
    """The open file as the kernel still has it."""
    number = file.generation.number
    return store.open_files.reopen(number, file.ident, USER, writes=file.writes, append=file.append)


def default(made: OpenJournal) -> Ccache:
    return made.store.collection.default


# Open files


@pytest.mark.parametrize("append", [True, False])
@pytest.mark.parametrize("ident", [7, (1 << 64) - 1])
def test_a_record_is_completed_by_the_next_daemon(ident: int, append: bool) -> None:
    """At the end that the kernel knows."""
    with kept() as made:
        ccache = fill(made.store, whole(record(TGT)))
        file = opened(made.store, ccache, ident, append=append)
        end = len(data_of(ccache))
        put(made.store, file, LATE[:50], end)
        made.settle()
        back = made.killed()
        assert data_of(default(back)) == whole(record(TGT))
        assert current(default(back)).number == file.generation.number
        again = reopened(back.store, file)
        check(back.store, [again])
        assert again.pending == LATE[:50]
        put(back.store, again, LATE[50:], end + 50)
        check(back.store, [again])
        assert data_of(default(back)) == whole(record(TGT), LATE)
        back.settle()
        assert again_after(back) == seen(back.store)
        assert not back.store.open_files.tails()
        back.close()


def test_two_that_wait_each_complete_their_own() -> None:
    with kept() as made:
        ccache = fill(made.store, whole(record(TGT)))
        files = [opened(made.store, ccache, ident) for ident in (7, 8)]
        put(made.store, files[0], LATE[:40])
        put(made.store, files[1], MORE[:30])
        made.settle()
        back = made.killed()
        one, two = (reopened(back.store, file) for file in files)
        put(back.store, one, LATE[40:60])
        put(back.store, two, MORE[30:])
        put(back.store, one, LATE[60:])
        assert data_of(default(back)) == whole(record(TGT), MORE, LATE)
        check(back.store, [one, two])
        back.close()


def test_a_record_whose_file_is_not_opened_again_is_dropped() -> None:
    with kept() as made:
        ccache = fill(made.store, whole(record(TGT)))
        put(made.store, opened(made.store, ccache, 7), LATE[:140])
        made.settle()
        back = made.killed()
        assert LATE[20:140] in back.bytes()
        back.store.open_files.drop_waiting(at(100))
        back.settle()
        check(back.store)
        assert LATE[20:140] not in back.bytes()
        assert again_after(back) == seen(back.store)
        back.close()


def test_what_waits_for_one_ccache_goes_into_no_other() -> None:
    with kept() as made:
        ccache = fill(made.store, whole(record(TGT)))
        work = fill(made.store, whole(), b"work")
        put(made.store, opened(made.store, ccache, 7), LATE[:50])
        made.settle()
        back = made.killed()
        number = current(work).number
        other = back.store.open_files.reopen(number, 7, USER, writes=True, append=True)
        assert other.pending == b""
        check(back.store, [other])
        back.close()


def test_a_file_with_a_beginning_of_a_header_goes_on() -> None:
    with kept() as made:
        ccache = default(made)
        start(made.store, ccache)
        made.settle()
        empty = made.killed()
        assert data_of(default(empty)) == b""
        empty.close()
        file, data = opened(made.store, ccache, 7, append=False), whole(record(TGT))
        put(made.store, file, data[:11])
        made.settle()
        back = made.killed()
        again = reopened(back.store, file)
        put(back.store, again, data[11:], 11)
        assert data_of(default(back)) == data
        check(back.store, [again])
        back.close()


def test_a_scratch_file_goes_on_under_its_number() -> None:
    with kept() as made:
        generation = made.store.create_scratch(COLLECTION, b"tktAbC", at())
        file = made.store.open_files.open(generation, USER, writes=True, append=False, ident=3)
        data = whole(record(TGT))
        put(made.store, file, data[:30])
        made.settle()
        back = made.killed()
        again = reopened(back.store, file)
        assert contents(back.store, again) == data[:30]
        put(back.store, again, data[30:])
        back.store.close(again, NOW)
        assert data_of(back.store.collection.get(b"tktAbC")) == data
        check(back.store)
        back.close()


def test_an_appended_piece_is_logged_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    append = Log.append

    def counted(log: Log, meta: bytes, data: list[bytes]) -> int:
        sizes.append(len(meta) + sum(map(len, data)))
        return append(log, meta, data)

    with kept() as made:
        generation = made.store.create_scratch(COLLECTION, b"big", at())
        file = made.store.open_files.open(generation, USER, writes=True, append=False)
        put(made.store, file, bytes(100_000))
        made.settle()
        monkeypatch.setattr(Log, "append", counted)
        put(made.store, file, b"more")
        made.settle()
        assert sizes[0] < 300


def test_a_superseded_number_is_followed_and_read_as_it_was() -> None:
    with kept() as made:
        ccache = fill(made.store, whole(record(TGT), record(b"gone@R")))
        file = opened(made.store, ccache, 7)
        before = data_of(ccache)
        made.store.edits.remove(ccache, serial(ccache, "gone@R"), at())
        made.store.edits.store(ccache, MORE, at())
        made.settle()
        assert not file.generation.current
        back = made.killed()
        again = reopened(back.store, file)
        assert back.store.open_files.read(again, 0, 1 << 20) == before
        put(back.store, again, LATE)
        assert [s.name for s in default(back).credentials.values()] == [
            "krbtgt%2FR@R",
            "more@R",
            "late@R",
        ]
        blind = back.store.open_files.reopen(again.number, 8, USER, writes=True, append=False)
        with pytest.raises(BadContentError):
            back.store.open_files.write(blind, 0, LATE, NOW)
        for one in (again, blind):
            back.store.close(one, NOW)
        check(back.store)
        back.close()


def test_what_is_written_by_another_number_is_news() -> None:
    """To the kernel, which has cached the bytes of the current one."""
    with kept() as made:
        ccache = fill(made.store, whole(record(TGT)))
        old = current(ccache)
        made.store.edits.store(ccache, MORE, at())
        number = current(ccache).number
        made.store.open_files.open(
            current(ccache), USER, writes=True, append=True, found=old, ident=7
        )
        made.settle()
        back = made.killed()
        again = back.store.open_files.reopen(
            number, 7, USER, writes=True, append=True, known_by=old.number
        )
        assert contents(back.store, again) == data_of(ccache)
        put(back.store, again, LATE)
        assert current(default(back)).number != number
        back.store.close(again, NOW)
        check(back.store)
        back.close()


def test_a_number_of_a_content_that_was_replaced_is_gone() -> None:
    with kept() as made:
        ccache = fill(made.store, whole(record(TGT)))
        numbers = [current(ccache).number]
        made.store.edits.store(ccache, MORE, at())
        numbers.append(current(ccache).number)
        made.settle()
        made.store.reset(ccache, ALICE, at())
        made.settle()
        back = made.killed()
        for number in (*numbers, 12345):
            with pytest.raises(GoneError):
                back.store.open_files.reopen(number, 1, USER, writes=False, append=False)
        back.close()


def test_a_number_of_an_earlier_version_of_the_format_is_gone() -> None:
    """Its writer would append records that are written in another way."""
    with kept() as made:
        old = Dialect(3)
        ccache = fill(made.store, whole(record(TGT, dialect=old), dialect=old))
        number = current(ccache).number
        made.store.edits.store(ccache, MORE, at())
        made.settle()
        back = made.killed()
        with pytest.raises(GoneError):
            back.store.open_files.reopen(number, 1, USER, writes=True, append=True)
        back.close()


def test_numbers_by_which_files_are_open_are_in_a_log_that_is_written_anew() -> None:
    with kept() as made:
        ccache = fill(made.store, whole(record(TGT)))
        file = opened(made.store, ccache, 7)
        name = made.journal.mark[0]
        made.journal._most = 0
        made.store.edits.store(ccache, MORE, at())
        made.settle()
        assert made.journal.mark[0] != name
        back = made.killed()
        put(back.store, reopened(back.store, file), LATE)
        assert data_of(default(back)) == whole(record(TGT), MORE, LATE)
        back.close()


def test_removed_records_stay_in_their_places() -> None:
    """The kernel has cached the bytes of a number: they are the same afterwards."""
    with kept() as made:
        gone = record(b"gone@R", ticket=b"<gone>" * 9)
        other = removed(record(b"other@R"))
        ccache = fill(made.store, whole(record(TGT), other, gone, MORE, LATE))
        made.settle()
        made.store.edits.remove(ccache, serial(ccache, "gone@R"), at())
        made.settle()
        assert b"<gone>" not in made.bytes()
        assert ccache.image
        assert ccache.image.dead
        back = made.killed()
        assert data_of(default(back)) == data_of(ccache)
        assert current(default(back)).number == current(ccache).number
        check(back.store)
        back.close()


# The log of changes


def test_a_reader_of_the_events_goes_on_where_it_was() -> None:
    with kept() as made:
        made.store.log_refusal(at(), "one")
        made.settle()
        edition = made.store.events.edition
        first = Reader(made.store.events, edition).read(0, 1000)
        made.store.log_refusal(at(5), "two")
        assert made.store.effects.durable
        made.settle()
        back = made.killed()
        again = back.store.events.find(edition.number)
        assert again == edition
        text = Reader(back.store.events, edition).read(len(first), 1000)
        assert text.split(b"\t")[:3] == [b"3", b"2023-11-14T22:13:25Z", b"refused"]
        back.store.log_refusal(at(9), "three")
        assert back.store.events.sequence == 4
        back.close()


def test_a_reader_that_has_missed_some_goes_on_too() -> None:
    with kept(Limits(events=4)) as made:
        reader = Reader(made.store.events, made.store.events.edition)
        edition = made.store.events.edition.number
        for number in range(9):
            made.store.log_refusal(at(number), "why")
            made.settle()
        first = reader.read(0, 1000)
        text = first + reader.read(len(first), 60)
        assert reader.skipped
        back = made.killed()
        found = back.store.events.find(edition)
        assert found
        again = Reader(back.store.events, found, reader.skipped)
        assert again.read(len(text), 1000) == reader.read(len(text), 1000) != b""
        assert again.behind == reader.behind
        back.close()


def test_an_end_is_announced_once() -> None:
    with kept() as made:
        fill(made.store, whole(record(TGT, endtime=int(NOW) + 50)))
        made.store.announce_expiry(NOW, USER)
        made.settle()
        back = made.killed()
        end = back.store.events.end
        back.store.announce_expiry(NOW + 1, USER)
        assert back.store.events.end == end
        back.store.announce_expiry(NOW + 50, USER)
        assert back.store.events.end > end
        back.close()


# Steps


def test_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    with kept() as made:
        ccache = fill(made.store, whole(record(TGT)))
        first = made.journal.mark
        assert first[0] > 0
        made.settle()
        second = made.journal.mark
        made.store.edits.store(ccache, MORE, at())
        with monkeypatch.context() as patched:
            patched.setattr(Log, "append", no_room)
            with pytest.raises(DamagedError):
                made.settle()
        assert made.journal.mark == second
        back = made.killed()
        assert [back.journal.has_made(one) for one in (first, second)] == [True, False]
        assert back.journal.mark == second
        back.close()
        made.server.tend()
        made.journal._most = 0
        third = made.journal.mark
        made.store.edits.store(ccache, LATE, at())
        made.settle()
        assert made.journal.mark[0] != third[0]
        back = made.killed()
        assert all(back.journal.has_made(one) for one in (first, second, third))
        assert not back.journal.has_made(back.journal.mark)
        assert back.journal.has_made((0, 0))
        back.close()


def test_the_mark_of_a_journal_that_is_not_made_yet(tmp_path: Path) -> None:
    """An idle mount has none; the first event makes it, but for those at the start."""
    path = tmp_path / "journal"
    options = MountOptions(MOUNT, journal=str(path), control=3)
    late = LazyJournal(options)
    store = late.store(options, at())
    server = Server(store, Owner(UID, UID), MOUNT, "id", 1, Outside(), journal=late)
    server.tend()
    assert (late.mark, late.has_made((0, 0)), path.exists()) == ((0, 0), False, False)
    store.log_refusal(at(), "why")
    server.settle()
    assert late.has_made((0, 0))
    name, number = late.mark
    assert (name > 0, number, late.has_made((name, number))) == (True, 2, False)
    late.close(wipe=False)
    again = Open.open(options)
    again.store(options, at(9))
    assert again.journal.has_made((0, 0))
    assert again.journal.mark == (name, number)
    again.close(wipe=True)


def told(effects: Effects) -> list[object]:
    """What of the effects the kernel is told."""
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
def test_the_effects_of_the_last_step(anew: bool) -> None:
    with kept() as made:
        assert not made.journal.last
        ccache = fill(made.store, whole(record(TGT), record(b"gone@R")))
        work = fill(made.store, whole(MORE), b"work")
        made.settle()
        if anew:
            made.journal._most = 0
        made.store.edits.remove(ccache, serial(ccache, "gone@R"), at())
        made.store.destroy(work, at())
        effects = made.store.take_effects()
        assert effects
        made.journal.commit(made.store, effects)
        back = made.killed()
        assert told(back.journal.last) == told(effects)
        assert len(back.journal.last.removed_serials) == 2
        back.close()


def test_a_note_makes_nothing_stale() -> None:
    with kept() as made:
        made.settle()
        made.store.set_note(b"key", b"value")
        made.settle()
        back = made.killed()
        assert not back.journal.last
        assert back.store.notes == {b"key": b"value"}
        back.close()


def test_where_the_last_step_is_not_known_all_has_changed() -> None:
    with kept() as made:
        back = made.killed()
        serials = {default(made).serial}
        assert back.journal.last.changed == serials
        assert back.journal.last.listings == {Listing.COLLECTION, *serials}
        back.close()


# What is gone


def test_notes_scratch_files_and_tails_are_overwritten_with_the_step() -> None:
    with kept() as made:
        ccache = fill(made.store, whole(record(TGT)))
        store, files = made.store, made.store.open_files
        generation = made.store.create_scratch(COLLECTION, b"file", at())
        file = files.open(generation, USER, writes=True, append=False)
        tail = opened(made.store, ccache, 7)
        secret = record(b"s@R", ticket=mark(3))

        def left() -> set[int]:
            made.settle()
            return {number for number in range(9) if mark(number) in made.bytes()}

        store.set_note(b"key", mark(0))
        put(made.store, file, mark(1))
        put(made.store, tail, secret[:-2])
        assert left() == {0, 1, 3}
        store.set_note(b"key", mark(4))
        put(made.store, file, mark(2))
        assert left() == {1, 2, 3, 4}
        files.truncate(generation, len(mark(1)), at())
        made.store.close(tail, NOW)
        assert left() == {1, 4}
        put(made.store, file, mark(5), 0)
        store.set_note(b"key", b"")
        assert left() == {5}
        made.store.unlink_scratch(COLLECTION, b"file")
        assert left() == {5}
        made.store.close(file, NOW)
        assert left() == set()
        assert made.store.notes == {}
        assert again_after(made) == seen(made.store)


def test_a_new_log_has_the_notes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A note that is changed meanwhile is the new one."""
    monkeypatch.setattr(journals, "NOTES", 2)
    monkeypatch.setattr(journals, "SLICE", 1)
    with kept() as made:
        for number in range(9):
            made.store.set_note(b"%d" % number, b"value")
        made.settle()
        made.journal._most = 0
        name = made.journal.mark[0]
        for number in range(9):
            made.store.set_note(b"%d" % number, b"new" if number % 3 else b"")
            made.settle()
        assert made.journal.mark[0] != name
        assert again_after(made) == seen(made.store)


def test_an_incomplete_record_is_refused_at_fsync() -> None:
    with kept() as made:
        file = opened(made.store, fill(made.store, whole()), 7)
        put(made.store, file, LATE[:9])
        with pytest.raises(BadContentError):
            made.store.sync(file)


@pytest.mark.parametrize("seed", range(12))
def test_what_is_gone_is_nowhere_in_random_histories(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of records, incomplete ones, files and notes; nothing is there more often than it is seen."""
    chance = random.Random(seed)
    monkeypatch.setattr(journals, "SPARE", chance.choice([0, 4000, journals.SPARE]))
    monkeypatch.setattr(journals, "SLICE", chance.choice([1, journals.SLICE]))
    with kept() as made:
        history = History(made.store, chance)
        for number in range(150):
            history.step(number)
            made.settle()
            held, live = made.bytes(), history.live()
            beside = made.path.with_name("journal.new")
            new = beside.read_bytes() if beside.exists() else b""
            for one in map(mark, range(number + 1)):
                assert held.count(one) == live.count(one)
                assert new.count(one) <= live.count(one)
        assert again_after(made) == seen(made.store)


class History:
    """Random steps, each with a secret of its own."""

    def __init__(self, store: Store, chance: random.Random) -> None:
        self.store, self.chance = store, chance
        self.ccaches = [fill(store, whole(record(TGT)), name) for name in (b"tkt", b"work")]
        self.open: list[OpenFile] = []

    def live(self) -> bytes:
        """All bytes that are there."""
        files = [
            bytes(file.data) for file in (*self.store.scratch.all(), *self.store.generations.left())
        ]
        tails = [tail for _, tail in self.store.open_files.tails().values()]
        images = [c.image.data[: c.image.complete] for c in self.ccaches if c.image]
        return b"|".join((*files, *tails, *images, *self.store.notes.values()))

    def step(self, number: int) -> None:
        steps = (
            self.add,
            self.append,
            self.go_on,
            self.remove,
            self.note,
            self.scratch,
            self.clear,
        )
        self.chance.choice(steps)(self.chance.choice(self.ccaches), number)

    def add(self, ccache: Ccache, number: int) -> None:
        self.store.edits.store(ccache, secret_record(number), at(number))

    def append(self, ccache: Ccache, number: int) -> None:
        """A record of which the last bytes are missing."""
        file = opened(self.store, ccache, number + 1)
        put(self.store, file, secret_record(number)[:-2])
        self.open.append(file)

    def go_on(self, ccache: Ccache, number: int) -> None:
        """Complete a record, or leave it."""
        if self.open:
            file = self.open.pop(self.chance.randrange(len(self.open)))
            if self.chance.random() < 0.5:
                put(self.store, file, b"\0\0")
            self.store.close(file, NOW + number)

    def remove(self, ccache: Ccache, number: int) -> None:
        found = list(serials(ccache))
        if found:
            self.store.edits.remove(ccache, self.chance.choice(found), at(number))

    def note(self, ccache: Ccache, number: int) -> None:
        value = mark(number) if self.chance.random() < 0.8 else b""
        self.store.set_note(b"%d" % self.chance.randrange(4), value)

    def scratch(self, ccache: Ccache, number: int) -> None:
        """Write anywhere to a file, which is made where there is none."""
        place = (ccache.serial, b"%d" % self.chance.randrange(3))
        found = self.store.scratch.find(*place) or self.store.create_scratch(*place, at(number))
        file = self.store.open_files.open(found, USER, writes=True, append=False)
        end = len(found.data)
        put(self.store, file, mark(number), self.chance.choice([end, end, end // 2, 0]))
        self.store.close(file, NOW)

    def clear(self, ccache: Ccache, number: int) -> None:
        """Remove or cut scratch files, or begin a ccache anew."""
        for file in self.store.scratch.all():
            if self.chance.random() < 0.3 and file.place:
                self.store.unlink_scratch(*file.place)
            elif self.chance.random() < 0.3:
                self.store.open_files.truncate(file, len(file.data) // 2, at(number))
        if self.chance.random() < 0.2:
            self.store.reset(ccache, ALICE, at(number))


def secret_record(number: int) -> bytes:
    """A record with a secret of its own."""
    return record(b"h/%d@R" % number, ticket=mark(number))
