"""The journal: what it gives back is what was kept, or an error, whatever happens to its file."""

import contextlib
import errno
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ccfs.format.config import ConfigKey
from ccfs.format.dialect import Dialect
from ccfs.journal import journal as journals
from ccfs.journal import log as logs
from ccfs.journal.journal import Journal
from ccfs.journal.log import Log
from ccfs.ops.file_system import Owner, Server
from ccfs.store import Limits, Store
from ccfs.store import generations as generations
from ccfs.store.ccache import Ccache
from ccfs.store.errors import DamagedError, ForeignError, StoreError
from ccfs.store.generation import Generation
from ccfs.store.open_files import OpenFile
from ccfs.store.scratch import COLLECTION
from reliability import damage
from tests.support.direct import Outside
from tests.support.require import missing
from tests.support.storing import (
    ALICE,
    BOB,
    NOW,
    TGT,
    USER,
    appender,
    at,
    check,
    config,
    contents,
    current,
    fill,
    new_store,
    reader,
    record,
    removed,
    serial,
    serials,
    whole,
    writer,
)

MOUNT = "/run/user/1000/ccfs"
UID = 1000


class OpenJournal:
    """A store with its journal, as a daemon has them."""

    def __init__(self, path: Path, limits: Limits | None = None) -> None:
        self.path = path
        self.limits = limits or Limits()
        fresh = not path.exists()
        self.journal = Journal(str(path), fresh=fresh)
        if fresh:
            self.store = Store(self.limits, at())
            self.journal.create(MOUNT, UID, self.store)
        else:
            self.store = Store(self.limits, at(100), self.journal.load(MOUNT, UID))
        self.server = Server(
            self.store, Owner(UID, UID), MOUNT, "id", 1, Outside(), journal=self.journal
        )

    def settle(self) -> None:
        """Have the last steps in the journal, as every handler does."""
        self.server.settle()

    def killed(self) -> "OpenJournal":
        """What comes back after the end of a process that had no time to close anything."""
        again = self.path.with_name("again")
        shutil.copy(self.path, again)
        return OpenJournal(again, self.limits)

    def close(self) -> None:
        """Let the file go."""
        self.journal.close()

    def bytes(self) -> bytes:
        """All that is in the journal's file."""
        return self.path.read_bytes()


@contextlib.contextmanager
def kept(limits: Limits | None = None) -> Iterator[OpenJournal]:
    """A journal in memory, and nothing left of it."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="ccfs-journal-test-") as directory:
        made = OpenJournal(Path(directory) / "journal", limits)
        try:
            yield made
        finally:
            made.close()


def seen(store: Store) -> list[object]:
    """All that must survive."""
    return [
        *[seen_ccache(ccache) for ccache in store.collection.all()],
        seen_beside(store),
        seen_whole(store),
    ]


def seen_ccache(ccache: Ccache) -> list[object]:
    """One ccache: identity, times, all bytes but an incomplete tail, and whose they are."""
    image, current = ccache.image, ccache.current
    body = bytes(image.data[: image.body]) if image else None
    file = (current.number, current.mtime) if current else None
    times = (ccache.change_time, ccache.last_default_time, ccache.mtime)
    marks = (ccache.rank, ccache.lineage, ccache.nominal)
    return [ccache.name, ccache.serial, times, marks, file, body, image and image.records()]


def seen_beside(store: Store) -> list[object]:
    """Scratch files and links, and what open files have left incomplete."""
    files = [(f.place, f.number, f.mtime, bytes(f.data)) for f in store.scratch.all()]
    links = [(n, k.number, k.target, k.made) for n, k in store.scratch.links.items()]
    return [sorted(files), sorted(links), dict(store.open_files.tails()), dict(store.notes)]  # type: ignore[type-var]


def seen_whole(store: Store) -> list[object]:
    """The events, and what there is once."""
    events, collection = store.events, store.collection
    text = events.read(events.edition, 0, 1 << 30)
    where = (events.sequence, events.end, events.start, events.mtime, events.editions)
    whole = (collection.chosen, collection.mtime, store.start_time, store.change_time)
    return [text, where, whole]


def same_after(made: OpenJournal) -> None:
    """A daemon that is killed now comes back with all of it."""
    back = made.killed()
    try:
        assert seen(back.store) == seen(made.store)
        check(back.store)
        assert again_after(back) == seen(made.store)
        assert back.store.new_serial() > made.store.last_serial
    finally:
        back.close()


def again_after(back: OpenJournal) -> list[object]:
    """The same once more, from the log that was read: nothing is to be written for that."""
    path = back.path.with_name("once-more")
    shutil.copy(back.path, path)
    once_more = OpenJournal(path, back.limits)
    try:
        return seen(once_more.store)
    finally:
        once_more.close()


# Any sequence of steps

NAMES = st.sampled_from([b"tkt", b"work", b"a/b", b"\xff\n"])
SERVERS = st.sampled_from([TGT, b"host/www@R", b"imap/\xc3\xa9@R", b"x" * 300 + b"@R"])
SCRATCH = st.sampled_from([b"one", b"two", b"ccache.bak"])
LIMITS = Limits(ccaches=4, ccache_bytes=4_000, total_bytes=9_000, events=10)
DIALECTS = st.sampled_from([Dialect(1, "little"), Dialect(2, "little"), Dialect(3), Dialect(4)])


class Survives(RuleBasedStateMachine):
    """Steps of all kinds; after each of them a killed daemon comes back the same."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = contextlib.ExitStack()
        self.made = self.stack.enter_context(kept(LIMITS))
        self.count = 0
        self.open: dict[int, OpenFile] = {}
        for name in (b"tkt", b"work"):
            fill(self.store, whole(record(TGT), removed(record(b"gone@R")), record()), name)
        self.made.settle()

    @property
    def store(self) -> Store:
        return self.made.store

    def attempt(self, action: Callable[[], object]) -> None:
        with contextlib.suppress(StoreError):
            action()
        journal, lasting = self.made.journal, self.store.effects.durable
        mark = journal.mark
        assert not journal.has_made(mark)
        self.made.settle()
        assert journal.has_made(mark) == lasting

    def find(self, name: bytes) -> Ccache:
        return self.store.collection.find(name) or self.store.collection.default

    @rule(name=NAMES)
    def create(self, name: bytes) -> None:
        self.attempt(lambda: self.store.collection.create(name, at(self.count)))

    @rule(name=NAMES)
    def destroy(self, name: bytes) -> None:
        self.attempt(lambda: self.store.destroy(self.find(name), at(self.count)))

    @rule(name=NAMES)
    def set_default(self, name: bytes) -> None:
        self.attempt(lambda: self.store.collection.set_default(self.find(name), at(self.count)))

    @rule(name=NAMES, over=NAMES)
    def move(self, name: bytes, over: bytes) -> None:
        self.attempt(lambda: self.store.move_to_name(self.find(name), over, at(self.count)))

    @rule(name=NAMES)
    def unlink(self, name: bytes) -> None:
        self.attempt(lambda: self.store.uninitialise(self.find(name), at(self.count)))

    @rule(name=NAMES, servers=st.lists(SERVERS, max_size=4), dialect=DIALECTS)
    def replace(self, name: bytes, servers: list[bytes], dialect: Dialect) -> None:
        data = whole(*(record(s, dialect=dialect) for s in servers), dialect=dialect)

        def replaced() -> None:
            key = (COLLECTION, b"XyZ123")
            made = self.store.create_scratch(*key, at(self.count))
            file = writer(self.store, made)
            try:
                self.store.open_files.write(file, 0, data, 0.0)
                self.store.replace(key, self.find(name), at(self.count))
            except StoreError:
                self.store.unlink_scratch(*key)
                raise
            finally:
                self.store.close(file, 0.0)

        self.attempt(replaced)

    @rule(name=NAMES, server=SERVERS, cut=st.integers(1, 400))
    def append(self, name: bytes, server: bytes, cut: int) -> None:
        """In two writes, with a look at the journal after each; the second may fall short."""
        ccache = self.find(name)
        if not ccache.initialised or ccache.image is None:
            return
        data = record(server, dialect=ccache.image.dialect, ticket=b"%d" % self.count)
        file = self.opened(current(ccache), append=True)
        for piece in (data[:cut], data[cut : 2 * cut]):
            self.attempt(lambda p=piece: self.store.open_files.write(file, 0, p, 0.0))  # type: ignore[misc]
            same_after(self.made)
        if cut % 3:
            self.attempt(lambda: self.store.close(self.open.pop(file.ident), 0.0))

    def opened(self, generation: Generation, *, append: bool) -> OpenFile:
        """An open file that has an ident."""
        ident = self.count * 10 + len(self.open) + 1
        file = self.store.open_files.open(generation, USER, writes=True, append=append, ident=ident)
        self.open[ident] = file
        return file

    @rule(which=st.integers(0, 20), data=st.binary(max_size=30), offset=st.integers(0, 99))
    def write_more(self, which: int, data: bytes, offset: int) -> None:
        if self.open:
            file = self.open[sorted(self.open)[which % len(self.open)]]
            self.attempt(lambda: self.store.open_files.write(file, offset, data, self.count))

    @rule(which=st.integers(0, 20))
    def close_one(self, which: int) -> None:
        if self.open:
            file = self.open.pop(sorted(self.open)[which % len(self.open)])
            self.attempt(lambda: self.store.close(file, self.count))

    @rule(name=NAMES, scratch=SCRATCH, data=st.binary(max_size=20))
    def make_file(self, name: bytes, scratch: bytes, data: bytes) -> None:
        place = self.find(name).serial

        def made() -> None:
            file = self.opened(self.store.create_scratch(place, scratch, at()), append=False)
            self.store.open_files.write(file, 0, data, self.count)

        self.attempt(made)

    @rule(which=st.integers(0, 9), name=NAMES, scratch=SCRATCH)
    def rename_file(self, which: int, name: bytes, scratch: bytes) -> None:
        files = self.store.scratch.all()
        if files:
            old, new = files[which % len(files)].place, (self.find(name).serial, scratch)
            assert old is not None
            self.attempt(lambda: self.store.rename_scratch(old, new, at(self.count)))

    @rule(which=st.integers(0, 9), size=st.none() | st.integers(0, 25))
    def cut_file(self, which: int, size: int | None) -> None:
        """Cut it to a size, or remove it."""
        files = self.store.scratch.all()
        if files:
            file = files[which % len(files)]
            assert file.place is not None
            if size is None:
                self.attempt(lambda: self.store.unlink_scratch(*file.place))  # type: ignore[misc]
            else:
                self.attempt(lambda: self.store.open_files.truncate(file, size, at(self.count)))

    @rule(name=NAMES, scratch=SCRATCH)
    def put_aside(self, name: bytes, scratch: bytes) -> None:
        ccache = self.find(name)
        self.attempt(lambda: self.store.put_aside(ccache, (ccache.serial, scratch), at()))

    @rule(minutes=st.integers(1, 30))
    def expire(self, minutes: int) -> None:
        self.attempt(lambda: self.store.expire(NOW + 60 * minutes))

    @rule(name=NAMES)
    def vacate(self, name: bytes) -> None:
        self.attempt(lambda: self.store.vacate(self.find(name), at(self.count)))

    @rule(name=NAMES)
    def name_default(self, name: bytes) -> None:
        self.attempt(lambda: self.store.name_default(name, at(self.count)))

    @rule(name=SCRATCH, new=st.none() | SCRATCH)
    def link(self, name: bytes, new: bytes | None) -> None:
        """Make a link, or rename or remove the one that is there."""
        if name not in self.store.scratch.links:
            self.attempt(lambda: self.store.create_link(name, b"caches/x", at(self.count)))
        elif new is not None:
            self.attempt(lambda: self.store.rename_link(name, new))
        else:
            self.attempt(lambda: self.store.drop_link(name))

    @rule(key=SCRATCH, value=st.binary(max_size=6))
    def note(self, key: bytes, value: bytes) -> None:
        self.attempt(lambda: self.store.set_note(key, value))

    @rule(name=NAMES, which=st.integers(0, 20), new=st.none() | SERVERS)
    def overwrite(self, name: bytes, which: int, new: bytes | None) -> None:
        """In place: a removal as libkrb5 makes it, or another record of the same length."""
        ccache = self.find(name)
        spans = ccache.image.spans if ccache.image and ccache.image.prefix else []
        if not spans or ccache.image is None or ccache.image.dialect != Dialect(4):
            return
        span = spans[which % len(spans)]
        old = bytes(ccache.image.data[span.start : span.end])
        fresh = record(new or TGT, ticket=b"t")
        room = span.end - span.start - len(fresh)
        data = record(new, ticket=b"t" * (room + 1)) if new and room >= 0 else removed(old)
        file = writer(self.store, current(ccache))
        self.attempt(lambda: self.store.open_files.write(file, span.start, data, 0.0))
        self.attempt(lambda: self.store.close(file, 0.0))

    @rule(name=NAMES, size=st.integers(0, 900))
    def truncate(self, name: bytes, size: int) -> None:
        ccache = self.find(name)
        if ccache.current:
            generation = current(ccache)
            self.attempt(lambda: self.store.open_files.truncate(generation, size, at(self.count)))
            file = writer(self.store, generation)
            self.attempt(lambda: self.store.close(file, 0.0))

    @rule(name=NAMES, server=SERVERS)
    def store_one(self, name: bytes, server: bytes) -> None:
        self.attempt(lambda: self.store.edits.store(self.find(name), record(server), at()))

    @rule(name=NAMES, which=st.integers(0, 20))
    def remove_one(self, name: bytes, which: int) -> None:
        ccache = self.find(name)
        if serials(ccache):
            gone = list(serials(ccache))[which % len(serials(ccache))]
            self.attempt(lambda: self.store.edits.remove(ccache, gone, at(self.count)))

    @rule(name=NAMES, value=st.binary(max_size=4))
    def set_config(self, name: bytes, value: bytes) -> None:
        key = ConfigKey(b"pa_type")
        self.attempt(lambda: self.store.edits.set_config(self.find(name), key, value, at()))

    @rule(name=NAMES, seconds=st.none() | st.integers(-5, 5))
    def set_offset(self, name: bytes, seconds: int | None) -> None:
        self.attempt(lambda: self.store.edits.set_kdc_offset(self.find(name), seconds, at()))

    @rule(name=NAMES, principal=st.sampled_from([ALICE, BOB]))
    def set_principal(self, name: bytes, principal: object) -> None:
        self.attempt(lambda: self.store.edits.set_principal(self.find(name), principal, at()))  # type: ignore[arg-type]

    @rule()
    def idle(self) -> None:
        self.made.server.tend()

    @invariant()
    def comes_back(self) -> None:
        self.count += 1
        same_after(self.made)

    def teardown(self) -> None:
        self.stack.close()


TestSurvives = Survives.TestCase
TestSurvives.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None, derandomize=True
)


def test_life_goes_on_after_each_return() -> None:
    """What came back is a store like any other: changed, killed and brought back again."""
    with kept() as made:
        fill(made.store, whole(record(TGT), record(b"host/0@R")))
        made.settle()
        for number in range(1, 6):
            path = made.path.with_name(f"turn{number}")
            shutil.copy(made.path, path)
            made.close()
            made.__init__(path)  # type: ignore[misc]
            ccache = made.store.collection.default
            made.store.edits.store(ccache, record(b"host/%d@R" % number), at(number))
            made.store.edits.remove(ccache, serial(ccache, f"host%2F{number - 1}@R"), at(number))
            made.settle()
            same_after(made)
        assert list(made.store.collection.default.credentials) == ["krbtgt%2FR@R", "host%2F5@R"]


def test_what_is_incomplete_dies_with_its_writer() -> None:
    with kept() as made:
        ccache = fill(made.store, whole(record(TGT)))
        before = bytes(current(ccache).data)
        file = appender(made.store, current(ccache))
        made.store.open_files.write(file, 0, record(b"host/www@R")[:50], 0.0)
        made.settle()
        back = made.killed()
        [same] = back.store.collection.all()
        assert contents(back.store, reader(back.store, current(same))) == before
        back.close()


# What a step costs


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


def test_a_step_writes_as_much_in_any_ccache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generations, "LEFT_MOST", 0)
    counted, new = [], record(b"new/one@R")
    for number in (10, 10_000):
        with kept() as made:
            records = (record(b"host/%d@R" % n) for n in range(number))
            ccache = fill(made.store, whole(*records))
            file = appender(made.store, current(ccache))
            steps: tuple[Callable[[], object], ...] = (
                lambda m=made, c=ccache: m.store.edits.store(c, new, at()),  # type: ignore[misc]
                lambda m=made, f=file: m.store.open_files.write(f, 0, new, 0.0),  # type: ignore[misc]
                lambda m=made, c=ccache: m.store.edits.remove(c, serial(c, "host%2F5@R"), at()),  # type: ignore[misc]
                lambda m=made, c=ccache: m.store.edits.set_kdc_offset(c, 3, at()),  # type: ignore[misc]
            )
            made.settle()
            for step in steps:
                with written(monkeypatch) as sizes:
                    step()
                    made.settle()
                sizes[0] -= len(str(made.store.events.sequence))
                counted.append(sizes)
            same_after(made)
    few, many = counted[:4], counted[4:]
    assert few == many
    assert list(map(len, few)) == [1, 1, 2, 1]  # a removal also overwrites
    assert sum(few[0]) < len(new) + 320


def test_a_log_that_is_mostly_dead_is_written_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is memory, and a daemon that comes back reads all of it."""
    monkeypatch.setattr(journals, "SPARE", 10_000)
    with kept() as made:
        ccache = fill(made.store, whole(record(TGT, ticket=bytes(5000))))
        made.settle()
        assert made.journal._next is None
        most, files = 0, set()
        for number in range(400):
            stored = made.store.edits.store(ccache, record(b"h@R", ticket=bytes(2000)), at(number))
            assert stored is not None
            made.settle()
            made.store.edits.remove(ccache, stored.serial, at(number))
            made.settle()
            most = max(most, made.path.stat().st_size)
            files.add(made.path.stat().st_ino)
            assert made.journal.is_at(str(made.path))
        assert most < 200_000
        assert len(files) > 20
        assert os.listdir(made.path.parent) == ["journal"]
        same_after(made)


def test_a_new_log_never_lacks_a_step_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    with kept() as made:
        ccaches = [fill(made.store, whole(record(TGT)), b"c%d" % n) for n in range(8)]
        made.settle()
        monkeypatch.setattr(journals, "SLICE", 1)
        made.journal._most = 0
        made.store.edits.set_kdc_offset(ccaches[0], 1, at())
        made.settle()
        assert made.journal._next is not None
        for ccache in ccaches:
            made.store.edits.set_kdc_offset(ccache, 7, at())
        with monkeypatch.context() as patched:
            patched.setattr(Log, "append", no_room)
            with pytest.raises(DamagedError):
                made.settle()
        made.journal._most = 0
        for number in range(20):
            made.store.edits.set_kdc_offset(ccaches[0], number + 10, at())
            made.settle()
        assert made.journal._next is None
        same_after(made)


def test_what_comes_back_is_written_anew_as_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much of the log was dead when it was read: kills don't make it grow."""
    monkeypatch.setattr(journals, "SPARE", 10_000)
    with kept(Limits(events=2)) as made:
        fill(made.store, whole(record(TGT)))
        made.settle()
        for turn in range(6):
            for number in range(60):
                ccache = made.store.collection.default
                made.store.edits.set_kdc_offset(ccache, number + 1, at(number))
                made.settle()
            assert made.journal._writer.log.end < 4096 + 12_000
            assert made.path.stat().st_size == 65_536
            path = made.path.with_name(f"turn{turn}")
            shutil.copy(made.path, path)
            made.close()
            made.__init__(path, made.limits)  # type: ignore[misc]


def test_without_room_to_write_it_anew_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "SPARE", 0)
    with kept() as made:
        ccache = fill(made.store, whole(record(TGT)))
        made.settle()
        monkeypatch.setattr(Log, "begin", no_room)
        for number in range(60):
            stored = made.store.edits.store(ccache, record(b"h@R", ticket=bytes(2000)), at(number))
            assert stored is not None
            made.settle()
            made.store.edits.remove(ccache, stored.serial, at(number))
            made.settle()
        assert os.listdir(made.path.parent) == ["journal"]
        same_after_load(made, monkeypatch)


def test_a_new_log_is_written_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps go into both meanwhile; a kill in between leaves the old one, nothing of the new."""
    with kept() as made:
        data = whole(*(record(b"h/%d@R" % n, ticket=bytes(900)) for n in range(20)))
        ccaches = [fill(made.store, data, b"c%d" % n) for n in range(8)]
        prepared(made)
        monkeypatch.setattr(journals, "SLICE", 1)
        made.journal._most = 0
        beside, seen_beside = made.path.with_name("journal.new"), 0
        for number in range(40):
            ccache = ccaches[number % 7]
            if number == 5:
                made.store.destroy(ccaches.pop(), at(number))
                made.store.reset_named(b"late", BOB, at(number))
            elif number % 3:
                made.store.edits.store(ccache, record(b"new/%d@R" % number), at(number))
            else:
                made.store.edits.remove(ccache, min(serials(ccache)), at(number))
            made.settle()
            seen_beside += beside.exists()
            same_after(made)
            if made.journal._next is None:
                break
        assert seen_beside >= 5
        assert not beside.exists()
        made.journal._most = 0
        made.store.edits.store(ccaches[0], record(b"again@R", ticket=b"<beside>"), at(60))
        made.settle()
        assert beside.exists()
        shutil.copy(beside, made.path.with_name("again.new"))
        same_after(made)
        assert not made.path.with_name("again.new").exists()


def same_after_load(made: OpenJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    same_after(made)


# No room


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


STEPS: dict[str, Callable[[Store, Ccache, Ccache], object]] = {
    "store": lambda s, a, _: s.edits.store(a, record(b"new/one@R"), at(50)),
    "remove": lambda s, a, _: s.edits.remove(a, max(serials(a)), at(50)),
    "empty": lambda s, a, _: s.uninitialise(a, at(50)),
    "replace": lambda s, a, _: s.put(a.name, whole(record(b"new/one@R")), at(50)),
    "move": lambda s, a, b: s.move(a, b, at(50)),
    "destroy": lambda s, _, b: s.destroy(b, at(50)),
    "default": lambda s, _, b: s.collection.set_default(b, at(50)),
    "aside": lambda s, a, _: s.put_aside(a, (COLLECTION, b"old"), at(50)),
    "back": lambda s, a, _: s.replace((COLLECTION, b"kept"), a, at(50)),
    "unlink": lambda s, _, __: s.unlink_scratch(COLLECTION, b"kept"),
    "rename": lambda s, _, b: s.rename_scratch((COLLECTION, b"kept"), (b.serial, b"x"), at(50)),
    "scratch": lambda s, a, _: s.create_scratch(a.serial, b"new", at(50)),
    "write": lambda s, _, __: s.open_files.write(file_of(s, b"half"), 4, b"more", 50),
    "overwrite": lambda s, _, __: s.open_files.write(file_of(s, b"half"), 1, b"else", 50),
    "cut": lambda s, _, __: s.open_files.truncate(s.scratch.get(COLLECTION, b"half"), 1, at(50)),
    "begin": lambda s, _, b: s.open_files.write(appender_as(s, b, 8), 0, LATE[:9], 50),
    "go on": lambda s, a, _: s.open_files.write(waiting(s), 0, LATE[50:60], 50),
    "complete": lambda s, a, _: s.open_files.write(waiting(s), 0, LATE[50:], 50),
    "drop": lambda s, a, _: s.close(waiting(s), 50),
    "in place": lambda s, a, _: remove_in_place(s, a),
    "link": lambda s, _, __: s.rename_link(b"default.tmp", b"default.new"),
    "note": lambda s, _, __: s.set_note(b"key", b"other"),
    "forget": lambda s, _, __: s.set_note(b"key", b""),
    "refuse": lambda s, _, __: s.log_refusal(at(50), "why"),
    "vacate": lambda s, a, _: s.vacate(a, at(50)),
}
LATE = record(b"late@R", ticket=b"<late>")


def appender_as(store: Store, ccache: Ccache, ident: int) -> OpenFile:
    """An open file that appends to a ccache, and has an ident."""
    return store.open_files.open(current(ccache), USER, writes=True, append=True, ident=ident)


def waiting(store: Store) -> OpenFile:
    """The open file that has left a record incomplete."""
    return store.open_files._incomplete[7]


def file_of(store: Store, name: bytes) -> OpenFile:
    """An open file that writes to a scratch file in `dir/`."""
    return writer(store, store.scratch.get(COLLECTION, name))


def remove_in_place(store: Store, ccache: Ccache) -> None:
    """As libkrb5 does."""
    assert ccache.image
    span = ccache.image.spans[0]
    old = bytes(ccache.image.data[span.start : span.end])
    store.open_files.write(writer(store, current(ccache)), span.start, removed(old), 50)


def prepared(made: OpenJournal) -> tuple[Ccache, Ccache]:
    """Two ccaches, scratch files, a link, a note, an incomplete record, all in the journal."""
    first, second = (fill(made.store, whole(record(TGT)), n) for n in (b"tkt", b"work"))
    for ccache in (first, second):
        made.store.edits.store(ccache, record(b"late@R"), at(9))
    file = writer(made.store, made.store.create_scratch(COLLECTION, b"kept", at(9)))
    made.store.open_files.write(file, 0, whole(record(b"kept@R")), 0.0)
    made.store.close(file, 0.0)
    file = writer(made.store, made.store.create_scratch(COLLECTION, b"half", at(9)))
    made.store.open_files.write(file, 0, b"half", 0.0)
    made.store.create_link(b"default.tmp", b"caches/work", at(9))
    made.store.set_note(b"key", b"value")
    made.store.open_files.write(appender_as(made.store, first, 7), 0, LATE[:50], 9)
    made.settle()
    return first, second


@pytest.mark.parametrize("step", STEPS)
def test_a_step_without_room_has_not_been_and_the_next_one_mends(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kept() as made:
        first, second = prepared(made)
        before = seen(made.store)
        STEPS[step](made.store, first, second)
        with monkeypatch.context() as patched:
            patched.setattr(Log, "append", no_room)
            for _ in range(2):
                with pytest.raises(DamagedError, match="no space left"):
                    made.settle()
                made.server.tend()
                assert made.server.unkept
        back = made.killed()
        assert seen(back.store) == before
        back.close()
        made.store.collection.create(b"other", at(60))
        made.settle()
        assert not made.server.unkept
        same_after(made)


def test_what_could_not_be_kept_is_kept_with_the_next_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where that has nothing of its own to keep."""
    with kept() as made:
        ccache = fill(made.store, whole(record(TGT)))
        made.settle()
        made.store.edits.set_kdc_offset(ccache, 5, at())
        with monkeypatch.context() as patched:
            patched.setattr(Log, "append", no_room)
            with pytest.raises(DamagedError):
                made.settle()
        made.server.tend()
        assert not made.server.unkept
        same_after(made)


# Killed in the middle of a step


class Moments:
    """The bytes of the file after each of its changes: what a killed process leaves."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.taken = path, list[bytes]()
        for name in ("posix_fallocate", "ftruncate", "rename"):
            monkeypatch.setattr(logs.os, name, self._around(getattr(os, name)))
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
def test_a_kill_at_any_moment_of_a_step(
    step: str, spare: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has been or it hasn't; with the smaller spare the log is written anew after it."""
    with kept() as made:
        first, second = prepared(made)
        before, mark = seen(made.store), made.journal.mark
        monkeypatch.setattr(journals, "SPARE", spare)
        made.journal._most = spare + made.journal._writer.log.end
        with monkeypatch.context() as patched:
            moments = Moments(made.path, patched)
            STEPS[step](made.store, first, second)
            made.settle()
        after = seen(made.store)
        found = []
        for data in moments.taken:
            path = made.path.with_name("moment")
            path.write_bytes(data)
            back = OpenJournal(path)
            found.append(seen(back.store))
            check(back.store)
            assert back.journal.has_made(mark) == (found[-1] == after)
            assert not [m for m in (b"<gone>",) if m in path.read_bytes()]
            back.close()
        assert found[0] == before
        assert found[-1] == after
        turn = found.index(after)
        assert found == [before] * turn + [after] * (len(found) - turn)
        assert len(found) > 2


@pytest.mark.usefixtures("root")
def test_a_full_file_system(tmp_path: Path) -> None:
    """EIO for the client while there is no room, and all of it kept once there is."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(place)]
    subprocess.run(mount, check=True, timeout=10)
    try:
        made = OpenJournal(place / "journal")
        ccache = fill(made.store, whole(record(TGT)))
        made.settle()
        ballast = place / "ballast"
        with ballast.open("wb") as file, contextlib.suppress(OSError):
            file.write(bytes(1 << 20))
        big = record(b"big/one@R", ticket=bytes(100_000))
        made.store.edits.store(ccache, big, at())
        with pytest.raises(DamagedError):
            made.settle()
        made.server.tend()
        ballast.unlink()
        made.store.edits.store(ccache, record(b"host/www@R"), at())
        made.settle()
        made.server.tend()
        made.close()
        back = OpenJournal(place / "journal")
        assert seen(back.store) == seen(made.store)
        back.close()
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True, timeout=10)


@pytest.fixture
def root() -> None:
    if os.geteuid() != 0:
        missing("root", "run the tests as root", "a small tmpfs is mounted")


# Damage


def test_damage_is_found_or_harmless() -> None:
    """Flipped bits, zeros, pieces cut off or mixed up, in each of the files."""
    result = damage.cases(60, seed=7)
    assert result.wrong == []
    assert result.refused > 10
    assert result.right > 0


HEAD = struct.Struct("<8sII32sQ")


def header(data: bytearray, **changed: object) -> None:
    """Change the header by hand, with a checksum that is right."""
    fields = ("magic", "version", "uid", "where", "name")
    values = dict(zip(fields, HEAD.unpack_from(data), strict=True))
    made = HEAD.pack(*{**values, **changed}.values())
    data[: len(made) + 4] = made + zlib.crc32(made).to_bytes(4, "little")


def last_frame(data: bytearray) -> tuple[int, int, int]:
    """Where the last frame begins, where its data does, and where it ends."""
    at = 4096
    while True:
        size, room, number, _ = struct.unpack_from("<IIQI", data, at)
        if number == int.from_bytes(data[64:69], "little"):
            return at, at + 20 + size, at + 20 + size + room
        at += 20 + size + room


def steps(data: bytearray, number: int) -> None:
    """Say that so many steps more are acknowledged."""
    now = int.from_bytes(data[64:69], "little")
    data[64:72] = logs._checked(now + number).to_bytes(8, "little")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: header(d, version=5), "version 5"),
        (lambda d: header(d, magic=b"SQLite f"), "no journal of ccfs"),
        (lambda d: header(d, uid=0), "another user"),
        (lambda d: d.__setitem__(20, d[20] ^ 1), "damaged"),
        (lambda d: d.__setitem__(64, d[64] ^ 1), "damaged"),
        (lambda d: d.__setitem__(71, d[71] ^ 1), "damaged"),
        (lambda d: steps(d, 1), "damaged"),
        (lambda d: d.__setitem__(last_frame(d)[0] + 8, 9), "damaged"),
        (lambda d: d.__setitem__(last_frame(d)[0] + 25, 9), "damaged"),
        (lambda d: d.__setitem__(last_frame(d)[1] + 3, 9), "damaged"),
        (lambda d: d.__delitem__(slice(last_frame(d)[0], None)), "damaged|lost its last changes"),
        (lambda d: d.__delitem__(slice(last_frame(d)[2] - 1, None)), "damaged"),
        (lambda d: d.__delitem__(slice(4096, None)), "damaged|lost its last changes"),
        (lambda d: d.__delitem__(slice(100, None)), "damaged"),
        (lambda d: d.clear(), "no journal of ccfs"),
    ],
)
def test_what_was_changed_by_hand_is_refused(
    change: Callable[[bytearray], object], said: str
) -> None:
    with kept() as made:
        ccache = fill(made.store, whole(record(TGT), record(b"host/www@R")))
        made.settle()
        made.store.edits.store(ccache, record(b"last@R"), at())
        made.settle()
        data = bytearray(made.bytes())
        change(data)
        path = made.path.with_name("by-hand")
        path.write_bytes(data)
        journal = Journal(str(path), fresh=False)
        with pytest.raises(DamagedError, match=said):
            journal.load(MOUNT, UID)
        journal.close()


def test_what_lies_behind_the_last_step_is_taken_away() -> None:
    """What a killed process has begun is no step, and perhaps a secret."""
    with kept() as made:
        fill(made.store, whole(record(TGT)))
        made.settle()
        made.journal._writer.log._write(b"<secret>" * 100, made.journal._writer.log.end)
        back = made.killed()
        assert b"<secret>" not in back.bytes()
        assert seen(back.store) == seen(made.store)
        back.close()


def test_one_of_another_mountpoint_or_owner() -> None:
    with kept() as made:
        made.journal.close()
        made.journal = Journal(str(made.path), fresh=False)
        with pytest.raises(ForeignError):
            made.journal.load(MOUNT + "2", UID)
        with pytest.raises(DamagedError, match="another user"):
            made.journal.load(MOUNT, UID + 1)
        made.journal.load(MOUNT, UID)


def test_one_that_another_process_has() -> None:
    with kept() as made:
        program = (
            "import sys; from ccfs.store.errors import *; from ccfs.journal.journal import *\n"
            "try: Journal(sys.argv[1], fresh=False)\n"
            "except InUseError: print('in use')"
        )
        command = [sys.executable, "-c", program, str(made.path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        assert done.stdout == "in use\n"
        same_after(made)


# Secrets


def mark(number: int) -> bytes:
    """Bytes that are in one credential only."""
    return b"<secret %06d secret>" % number


SIZES = [[0, 100], [100, 600, 3000], [1000, 1200, 1500], [3000, 3900, 9000], [0, 600, 30_000]]


@pytest.mark.parametrize("seed", range(24))
def test_what_is_gone_is_nowhere_in_the_file(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Right after the step that removed it, in random histories of several ccaches."""
    chance = random.Random(seed)
    sizes = SIZES[seed % len(SIZES)]
    monkeypatch.setattr(journals, "SPARE", chance.choice([1000, journals.SPARE]))
    with kept() as made:
        ccaches = [fill(made.store, whole(), name) for name in (b"tkt", b"a", b"b", b"c")]
        live: dict[int, tuple[Ccache, int]] = {}
        for number in range(120):
            ccache, said = chance.choice(ccaches), chance.random()
            if said < 0.65 or not live:
                ticket = mark(number) * (1 + (chance.choice(sizes) + chance.randrange(50)) // 23)
                new = record(b"h/%d@R" % number, ticket=ticket)
                stored = made.store.edits.store(ccache, new, at())
                assert stored is not None
                live[number] = (ccache, stored.serial)
            elif said < 0.95:
                made.store.edits.remove(*live.pop(chance.choice(list(live))), at())
            else:
                made.store.reset(ccache, ALICE, at())
                live = {n: where for n, where in live.items() if where[0] is not ccache}
            made.settle()
            data = made.bytes()
            assert {n for n in range(120) if mark(n) in data} == set(live)
        same_after(made)


def test_what_a_killed_process_had_no_time_to_overwrite(monkeypatch: pytest.MonkeyPatch) -> None:
    with kept() as made:
        ccache = fill(made.store, whole(record(TGT, ticket=mark(1)), record(TGT, ticket=mark(2))))
        made.settle()
        with monkeypatch.context() as patched:
            patched.setattr(Log, "erase", lambda *_: None)
            made.store.edits.remove(ccache, min(serials(ccache)), at())
            made.settle()
            assert mark(1) in made.bytes()
        back = made.killed()
        assert mark(1) not in back.bytes()
        assert mark(2) in back.bytes()
        back.close()


def test_configuration_and_removed_records_in_between() -> None:
    """A record marked as removed is not kept, and those around it stay in order."""
    with kept(Limits()) as made:
        first, last = record(b"a/1@R"), record(b"a/2@R")
        fill(made.store, whole(first, removed(record(b"gone@R")), config(b"pa_type"), last))
        made.settle()
        same_after(made)
        assert new_store().used_bytes == 0
