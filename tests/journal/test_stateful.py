# SPDX-License-Identifier: MIT
"""The journal: what it gives back is what was kept, or an error, whatever happens to its file."""

import contextlib
import shutil
from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ccfs.format.config import ConfigKey
from ccfs.format.dialect import Dialect
from ccfs.store import Limits, Store
from ccfs.store import generations as generations
from ccfs.store.ccache import Ccache
from ccfs.store.errors import StoreError
from ccfs.store.generation import Generation, OpenFile
from ccfs.store.scratch import DIR
from tests.support.journals import assert_survives_kill, journaled_store
from tests.support.storing import (
    ALICE,
    BOB,
    NOW,
    TGT,
    USER,
    appender,
    at,
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

NAMES = st.sampled_from([b"tkt", b"work", b"a/b", b"\xff\n"])
SERVERS = st.sampled_from([TGT, b"host/www@R", b"imap/\xc3\xa9@R", b"x" * 300 + b"@R"])
SCRATCH = st.sampled_from([b"one", b"two", b"ccache.bak"])
LIMITS = Limits(ccaches=4, ccache_bytes=4_000, total_bytes=9_000, events=10)
DIALECTS = st.sampled_from([Dialect(1, False), Dialect(2, False), Dialect(3), Dialect(4)])


class Survives(RuleBasedStateMachine):
    """Steps of all kinds; after each of them a killed daemon comes back the same."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = contextlib.ExitStack()
        self.made = self.stack.enter_context(journaled_store(LIMITS))
        self.count = 0
        self.open: dict[int, OpenFile] = {}
        for name in (b"tkt", b"work"):
            fill(self.store, whole(record(TGT), removed(record(b"gone@R")), record()), name)
        self.made.commit()

    @property
    def store(self) -> Store:
        return self.made.store

    def attempt(self, action: Callable[[], object]) -> None:
        with contextlib.suppress(StoreError):
            action()
        journal, lasting = self.made.journal, self.store.effects.durable
        mark = journal.mark
        assert not journal.has_made(mark)
        self.made.commit()
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
            key = (DIR, b"XyZ123")
            journaled = self.store.scratch.create(*key, at(self.count))
            file = writer(self.store, journaled)
            try:
                self.store.open_files.write(file, 0, data, 0.0)
                self.store.replace(key, self.find(name), at(self.count))
            except StoreError:
                self.store.scratch.unlink(*key)
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
            self.attempt(lambda p=piece: self.store.open_files.write(file, 0, p, 0.0))
            assert_survives_kill(self.made)
        if cut % 3:
            self.attempt(lambda: self.store.close(self.open.pop(file.handle), 0.0))  # type: ignore[arg-type]

    def opened(self, generation: Generation, *, append: bool) -> OpenFile:
        """An open file that has a handle."""
        number = self.count * 10 + len(self.open) + 1
        file = self.store.open_files.open(
            generation, USER, writes=True, append=append, handle=number
        )
        self.open[number] = file
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

        def journaled() -> None:
            file = self.opened(self.store.scratch.create(place, scratch, at()), append=False)
            self.store.open_files.write(file, 0, data, self.count)

        self.attempt(journaled)

    @rule(which=st.integers(0, 9), name=NAMES, scratch=SCRATCH)
    def rename_file(self, which: int, name: bytes, scratch: bytes) -> None:
        files = self.store.scratch.all()
        if files:
            old, new = files[which % len(files)].scratch_name, (self.find(name).serial, scratch)
            assert old is not None
            self.attempt(lambda: self.store.scratch.rename(old, new, at(self.count)))

    @rule(which=st.integers(0, 9), size=st.none() | st.integers(0, 25))
    def cut_file(self, which: int, size: int | None) -> None:
        """Cut it to a size, or remove it."""
        files = self.store.scratch.all()
        if files:
            file = files[which % len(files)]
            assert file.scratch_name is not None
            if size is None:
                self.attempt(lambda: self.store.scratch.unlink(*file.scratch_name))
            else:
                self.attempt(lambda: self.store.open_files.truncate(file, size, at(self.count)))

    @rule(name=NAMES, scratch=SCRATCH)
    def put_aside(self, name: bytes, scratch: bytes) -> None:
        ccache = self.find(name)
        self.attempt(lambda: self.store.rename_to_scratch(ccache, (ccache.serial, scratch), at()))

    @rule(minutes=st.integers(1, 30))
    def expire(self, minutes: int) -> None:
        self.attempt(lambda: self.store.scratch.expire(NOW + 60 * minutes))

    @rule(name=NAMES)
    def vacate(self, name: bytes) -> None:
        self.attempt(lambda: self.store.destroy_or_reserve(self.find(name), at(self.count)))

    @rule(name=NAMES)
    def name_default(self, name: bytes) -> None:
        self.attempt(lambda: self.store.set_default_name(name, at(self.count)))

    @rule(name=SCRATCH, new=st.none() | SCRATCH)
    def link(self, name: bytes, new: bytes | None) -> None:
        """Make a link, or rename or remove the one that is there."""
        if name not in self.store.scratch.links:
            self.attempt(lambda: self.store.scratch.create_link(name, b"caches/x", at(self.count)))
        elif new is not None:
            self.attempt(lambda: self.store.scratch.rename_link(name, new))
        else:
            self.attempt(lambda: self.store.scratch.remove_link(name))

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
        self.made.committer.commit_or_warn()

    @invariant()
    def comes_back(self) -> None:
        self.count += 1
        assert_survives_kill(self.made)

    def teardown(self) -> None:
        self.stack.close()


TestSurvives = Survives.TestCase
TestSurvives.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None, derandomize=True
)


def test_store_is_usable_after_each_restart() -> None:
    """A reloaded store behaves like a new one: changed, killed and reloaded again."""
    with journaled_store() as journaled:
        fill(journaled.store, whole(record(TGT), record(b"host/0@R")))
        journaled.commit()
        for number in range(1, 6):
            path = journaled.path.with_name(f"turn{number}")
            shutil.copy(journaled.path, path)
            journaled.close()
            journaled.__init__(path)
            ccache = journaled.store.collection.default
            journaled.store.edits.store(ccache, record(b"host/%d@R" % number), at(number))
            journaled.store.edits.remove(
                ccache, serial(ccache, f"host%2F{number - 1}@R"), at(number)
            )
            journaled.commit()
            assert_survives_kill(journaled)
        assert list(journaled.store.collection.default.credentials) == [
            "krbtgt%2FR@R",
            "host%2F5@R",
        ]


def test_incomplete_record_is_dropped_with_its_writer() -> None:
    with journaled_store() as journaled:
        ccache = fill(journaled.store, whole(record(TGT)))
        before = bytes(current(ccache).data)
        file = appender(journaled.store, current(ccache))
        journaled.store.open_files.write(file, 0, record(b"host/www@R")[:50], 0.0)
        journaled.commit()
        restarted = journaled.restart_after_kill()
        [same] = restarted.store.collection.all()
        assert contents(restarted.store, reader(restarted.store, current(same))) == before
        restarted.close()


def test_removed_record_is_not_kept_and_order_stays() -> None:
    """A record marked as removed is not kept, and those around it stay in order."""
    with journaled_store(Limits()) as journaled:
        first, last = record(b"a/1@R"), record(b"a/2@R")
        fill(journaled.store, whole(first, removed(record(b"gone@R")), config(b"pa_type"), last))
        journaled.commit()
        assert_survives_kill(journaled)
        assert new_store().used_bytes == 0
