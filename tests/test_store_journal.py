"""The journal: what it gives back is what was kept, or an error, whatever happens to its files."""

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ccfs.format.config import ConfigKey
from ccfs.format.dialect import Dialect
from ccfs.journals import Step
from ccfs.ops.server import Owner, Server
from ccfs.store import Limits, Store
from ccfs.store.ccache import Ccache
from ccfs.store.errors import DamagedError, ForeignError, StoreError
from ccfs.store.journal import Journal
from ccfs.store.scratch import COLLECTION
from reliability import damage
from tests.direct import FileSystem, Outside
from tests.require import missing
from tests.storing import (
    ALICE,
    BOB,
    TGT,
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
PARTS = ("", "-wal", "-step")


class Kept:
    """A store with its journal, as a daemon has them."""

    def __init__(self, path: Path, limits: Limits | None = None) -> None:
        self.path = path
        self.limits = limits or Limits()
        fresh = not path.exists()
        self.step = Step(str(path))
        self.journal = Journal(str(path), self.step.write)
        if fresh:
            self.store = Store(self.limits, at())
            self.journal.create(MOUNT, UID, self.store)
        else:
            saved = self.journal.load(MOUNT, UID, self.step.read())
            self.store = Store(self.limits, at(100), saved)
        self.server = Server(
            self.store, Owner(UID, UID), MOUNT, "id", 1, Outside(), journal=self.journal
        )

    def settle(self) -> None:
        """Have the last steps in the journal, as every handler does."""
        self.server.settle()

    def killed(self) -> "Kept":
        """What comes back after the end of a process that had no time to close anything."""
        again = self.path.with_name("again")
        for part in PARTS:
            if Path(f"{self.path}{part}").exists():
                shutil.copy(f"{self.path}{part}", f"{again}{part}")
        return Kept(again, self.limits)

    def close(self) -> None:
        """Let the files go."""
        self.journal.close()
        self.step.close()

    def bytes(self) -> bytes:
        """All that is in the journal's files."""
        return b"".join(Path(f"{self.path}{part}").read_bytes() for part in PARTS)


@contextlib.contextmanager
def kept(limits: Limits | None = None) -> Iterator[Kept]:
    """A journal in memory, and nothing left of it."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="ccfs-journal-test-") as directory:
        made = Kept(Path(directory) / "journal", limits)
        try:
            yield made
        finally:
            made.close()


def seen(store: Store) -> list[object]:
    """All that must survive."""
    return [seen_ccache(ccache) for ccache in store.collection.all()]


def seen_ccache(ccache: Ccache) -> list[object]:
    """One ccache: identity, times, header and principal, live records in their order."""
    image = ccache.image
    prefix = bytes(image.data[: image.body]) if image and image.prefix else None
    live = [(data, stored) for data, stored in image.records() if stored] if prefix else []  # type: ignore[union-attr]
    times = (ccache.change_time, ccache.last_default_time)
    return [ccache.name, ccache.serial, ccache.rank, times, prefix, live]


def same_after(made: Kept) -> None:
    """A daemon that is killed now comes back with all of it."""
    back = made.killed()
    try:
        assert seen(back.store) == seen(made.store)
        check(back.store)
        assert back.store.ledger.change_time >= made.store.ledger.change_time
        assert back.store.ledger.register.number() > made.store.ledger.register.last
    finally:
        back.close()


# Any sequence of steps

NAMES = st.sampled_from([b"tkt", b"work", b"a/b", b"\xff\n"])
SERVERS = st.sampled_from([TGT, b"host/www@R", b"imap/\xc3\xa9@R", b"x" * 300 + b"@R"])
LIMITS = Limits(ccaches=4, ccache_bytes=4_000, total_bytes=9_000)
DIALECTS = st.sampled_from([Dialect(1, "little"), Dialect(2, "little"), Dialect(3), Dialect(4)])


class Survives(RuleBasedStateMachine):
    """Steps of all kinds; after each of them a killed daemon comes back the same."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = contextlib.ExitStack()
        self.made = self.stack.enter_context(kept(LIMITS))
        self.count = 0

    @property
    def store(self) -> Store:
        return self.made.store

    def attempt(self, action: Callable[[], object]) -> None:
        with contextlib.suppress(StoreError):
            action()
        self.made.settle()

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
                self.store.files.write(file, 0, data, 0.0)
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
        file = appender(self.store, current(ccache))
        for piece in (data[:cut], data[cut : 2 * cut]):
            self.attempt(lambda p=piece: self.store.files.write(file, 0, p, 0.0))  # type: ignore[misc]
            same_after(self.made)
        self.attempt(lambda: self.store.close(file, 0.0))

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
        self.attempt(lambda: self.store.files.write(file, span.start, data, 0.0))
        self.attempt(lambda: self.store.close(file, 0.0))

    @rule(name=NAMES, size=st.integers(0, 900))
    def truncate(self, name: bytes, size: int) -> None:
        ccache = self.find(name)
        if ccache.current:
            generation = current(ccache)
            self.attempt(lambda: self.store.files.truncate(generation, size, at(self.count)))
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
    max_examples=25, stateful_step_count=20, deadline=None, derandomize=True
)


def test_life_goes_on_after_each_return() -> None:
    """What came back is a store like any other: changed, killed and brought back again."""
    with kept() as made:
        fill(made.store, whole(record(TGT), record(b"host/0@R")))
        made.settle()
        for number in range(1, 6):
            path = made.path.with_name(f"turn{number}")
            for part in PARTS:
                shutil.copy(f"{made.path}{part}", f"{path}{part}")
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
        made.store.files.write(file, 0, record(b"host/www@R")[:50], 0.0)
        made.settle()
        back = made.killed()
        [same] = back.store.collection.all()
        assert contents(back.store, reader(back.store, current(same))) == before
        back.close()


# What a step costs


def statements(made: Kept, step: Callable[[], object]) -> list[str]:
    """The words of the statements that a step runs in the database."""
    made.settle()
    said: list[str] = []
    made.journal._db.set_trace_callback(said.append)
    step()
    made.settle()
    made.journal._db.set_trace_callback(None)
    return [" ".join(text.split()[:2]) for text in said]


def test_a_step_touches_as_many_rows_in_any_ccache() -> None:
    counted, new = [], record(b"new/one@R")
    for number in (10, 10_000):
        with kept() as made:
            records = (record(b"host/%d@R" % n) for n in range(number))
            ccache = fill(made.store, whole(*records))
            file = appender(made.store, current(ccache))
            steps: tuple[Callable[[], object], ...] = (
                lambda m=made, c=ccache: m.store.edits.store(c, new, at()),  # type: ignore[misc]
                lambda m=made, f=file: m.store.files.write(f, 0, new, 0.0),  # type: ignore[misc]
                lambda m=made, c=ccache: m.store.edits.remove(c, serial(c, "host%2F5@R"), at()),  # type: ignore[misc]
                lambda m=made, c=ccache: m.store.edits.set_kdc_offset(c, 3, at()),  # type: ignore[misc]
            )
            counted.append([statements(made, step) for step in steps])
            same_after(made)
    few, many = counted
    assert few == many
    assert few[:2] == [["INSERT INTO"], ["INSERT INTO"]]
    assert few[3] == ["BEGIN IMMEDIATE", "INSERT OR", "UPDATE whole", "COMMIT"]
    assert max(map(len, few)) <= 5


def test_the_log_of_the_database_stays_short() -> None:
    """It is memory, and a daemon that comes back reads all of it."""
    with kept() as made:
        ccache = fill(made.store, whole())
        for number in range(400):
            made.store.edits.store(ccache, record(b"h/%d@R" % number, ticket=bytes(2000)), at())
            made.settle()
        assert Path(f"{made.path}-wal").stat().st_size < 600 * 4200
        same_after(made)


# No room


def test_a_step_without_room_is_refused_and_the_next_one_mends_it() -> None:
    files = FileSystem()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        path = f"{directory}/journal"
        journal = Journal(path, lambda _: None)
        journal.create(MOUNT, UID, files.server.store)
        files.server.journal = journal
        ccache = fill(files.server.store, whole(record(TGT)))
        files.server.settle()
        (pages,) = journal._db.execute("PRAGMA page_count").fetchone()
        journal._db.execute(f"PRAGMA max_page_count = {pages}")
        big = record(b"big/one@R", ticket=bytes(100_000))
        files.server.store.edits.store(ccache, big, at())
        with pytest.raises(DamagedError, match="full"):
            files.server.settle()
        small = record(b"small/one@R")
        files.server.store.edits.store(ccache, small, at())
        with pytest.raises(DamagedError, match="full"):  # all of it is written anew, and is too big
            files.server.settle()
        journal._db.execute("PRAGMA max_page_count = 100000")
        files.server.store.edits.remove(ccache, serial(ccache, "small%2Fone@R"), at())
        files.server.settle()
        journal.close()
        again = Journal(path, lambda _: None)
        back = Store(Limits(), at(), again.load(MOUNT, UID, 0))
        again.close()
        assert seen(back) == seen(files.server.store)


class Failing:
    """A database in which the statement of a number fails, counted from 0; ROLLBACK never does.

    Unless nothing `takes_back`: then all that follow fail, too.
    """

    def __init__(
        self, database: sqlite3.Connection, number: int, *, takes_back: bool = True
    ) -> None:
        self._database = database
        self.left = number
        self.takes_back = takes_back

    def __getattr__(self, name: str) -> object:
        return getattr(self._database, name)

    def execute(self, statement: str, *values: object) -> object:
        self._count(statement)
        return self._database.execute(statement, *values)  # type: ignore[arg-type]

    def executemany(self, statement: str, rows: object) -> object:
        self._count(statement)
        return self._database.executemany(statement, rows)  # type: ignore[arg-type]

    def _count(self, statement: str) -> None:
        if statement == "ROLLBACK" and self.takes_back:
            return
        self.left -= 1
        if self.left == -1 or (self.left < 0 and not self.takes_back):
            raise sqlite3.OperationalError("no more")


def use(made: Kept, database: object) -> None:
    """Have the journal use another connection."""
    made.journal._db = made.journal._rows._db = database  # type: ignore[assignment]


STEPS: dict[str, tuple[Callable[[Store, Ccache, Ccache], object], int]] = {
    "store": (lambda s, a, _: s.edits.store(a, record(b"new/one@R"), at(50)), 1),
    "remove": (lambda s, a, _: s.edits.remove(a, max(serials(a)), at(50)), 6),
    "empty": (lambda s, a, _: s.uninitialise(a, at(50)), 6),
    "replace": (lambda s, a, _: s.put(a.name, whole(record(b"new/one@R")), at(50)), 7),
    "move": (lambda s, a, b: s.move(a, b, at(50)), 8),
    "default": (lambda s, _, b: s.collection.set_default(b, at(50)), 5),
}
"""Steps over two ccaches, each with a record that is late, and what they ask of the database."""


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_fails_anywhere(step: str) -> None:
    """It has not been; those before it have, whose rows it was to write; and the next one mends."""
    make, count = STEPS[step]
    for number in range(count + 1):
        with kept() as made:
            first, second = (fill(made.store, whole(record(TGT)), n) for n in (b"tkt", b"work"))
            made.settle()
            for ccache in (first, second):
                made.store.edits.store(ccache, record(b"late@R"), at(9))
                made.settle()
            before, database = seen(made.store), made.journal._db
            use(made, Failing(database, number))
            make(made.store, first, second)
            if number == count:
                made.settle()
                same_after(made)
                continue
            with pytest.raises(DamagedError, match="no more"):
                made.settle()
            back = made.killed()
            assert seen(back.store) == before
            back.close()
            use(made, database)
            made.store.edits.set_principal(second, BOB, at(60))
            made.settle()
            same_after(made)


def test_a_step_that_cannot_be_taken_back() -> None:
    """COMMIT fails, and ROLLBACK, too: the next step begins with that."""
    with kept() as made:
        ccache = fill(made.store, whole(record(TGT)))
        made.settle()
        database = made.journal._db
        use(made, Failing(database, 3, takes_back=False))
        made.store.edits.set_kdc_offset(ccache, 5, at())
        for _ in range(2):
            with pytest.raises(DamagedError, match="no more"):
                made.settle()
        use(made, database)
        made.settle()
        same_after(made)


def test_what_could_not_be_kept_is_kept_with_the_next_look() -> None:
    """Also where that has nothing of its own to keep."""
    with kept() as made:
        ccache = fill(made.store, whole(record(TGT)))
        made.settle()
        database = made.journal._db
        use(made, Failing(database, 0, takes_back=False))
        made.store.edits.set_kdc_offset(ccache, 5, at())
        with pytest.raises(DamagedError):
            made.settle()
        made.server.tend()
        assert made.server.unkept
        use(made, database)
        made.server.tend()
        assert not made.server.unkept
        same_after(made)


@pytest.mark.usefixtures("root")
def test_a_full_file_system(tmp_path: Path) -> None:
    """EIO for the client while there is no room, and all of it kept once there is."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(place)]
    subprocess.run(mount, check=True, timeout=10)
    try:
        made = Kept(place / "journal")
        ccache = fill(made.store, whole(record(TGT)))
        made.settle()
        ballast = place / "ballast"
        with ballast.open("wb") as file, contextlib.suppress(OSError):
            file.write(bytes(1 << 20))
        big = record(b"big/one@R", ticket=bytes(50_000))
        made.store.edits.store(ccache, big, at())
        with pytest.raises(DamagedError):
            made.settle()
        made.server.tend()
        ballast.unlink()
        made.store.edits.store(ccache, record(b"host/www@R"), at())
        made.settle()
        made.server.tend()
        made.close()
        back = Kept(place / "journal")
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


def rewritten(made: Kept, statement: str) -> None:
    """Change the database by hand."""
    made.journal.scrub()
    db = sqlite3.connect(made.path.with_name("by-hand"))
    made.journal._db.backup(db)
    db.execute(statement)
    db.commit()
    db.close()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("PRAGMA user_version = 3", "version 3"),
        ("PRAGMA application_id = 1", "no journal of ccfs"),
        ("DELETE FROM record WHERE serial IN (SELECT max(serial) FROM record)", "damaged"),
        ("UPDATE record SET place = 7 - place", "damaged"),
        ("UPDATE ccache SET name = x'41'", "damaged"),
        ("UPDATE whole SET step = step + 1", "damaged"),
        ("UPDATE whole SET uid = 0", "damaged"),
        ("DELETE FROM ccache", "damaged"),
        ("DROP TABLE record", "no such table"),
    ],
)
def test_what_was_changed_by_hand_is_refused(statement: str, said: str) -> None:
    with kept() as made:
        fill(made.store, whole(record(TGT), record(b"host/www@R")))
        made.settle()
        rewritten(made, statement)
        journal = Journal(str(made.path.with_name("by-hand")), lambda _: None)
        with pytest.raises(DamagedError, match=said):
            journal.load(MOUNT, UID, 0)
        journal.close()


FIRST, LAST = "(SELECT min(step) FROM record WHERE step > 2)", "(SELECT max(step) FROM record)"


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (f"DELETE FROM record WHERE step = {FIRST}", "damaged"),
        (f"DELETE FROM record WHERE step = {FIRST} + 1", "damaged"),
        (f"DELETE FROM record WHERE step = {LAST}", "damaged|lost its last changes"),
        ("UPDATE record SET ccache_change_time = 1", "damaged"),
        (f"UPDATE record SET step = step + 1 WHERE step = {LAST}", "damaged"),
        ("UPDATE record SET name = x'00ff'", "damaged"),
        ("UPDATE record SET place = place + 0.5", "damaged"),
        ("DELETE FROM ccache WHERE name = x'776f726b'", "damaged"),
    ],
)
def test_records_that_are_all_there_is_of_their_steps(
    statement: str, said: str, later: bool
) -> None:
    """None is missed, neither before nor after their ccaches' rows count them."""
    with kept() as made:
        ccaches = [fill(made.store, whole(record(TGT)), name) for name in (b"tkt", b"work")]
        made.settle()
        for number in range(6):
            ccache = ccaches[number % 2]
            made.store.edits.store(ccache, record(b"host/%d@R" % number), at(number))
            made.settle()
        (late,) = made.journal._db.execute(
            "SELECT count(*) FROM record WHERE step > (SELECT step FROM whole)"
        )
        assert late == (6,)
        same_after(made)
        if later:
            made.store.edits.set_kdc_offset(ccaches[0], 3, at(9))
            made.settle()
            same_after(made)
        rewritten(made, statement)
        journal = Journal(str(made.path.with_name("by-hand")), lambda _: None)
        with pytest.raises(DamagedError, match=said):
            journal.load(MOUNT, UID, made.step.read())
        journal.close()


def test_one_of_another_mountpoint_or_owner_or_in_use() -> None:
    with kept() as made:
        made.journal.close()
        made.journal = Journal(str(made.path), lambda _: None)
        with pytest.raises(ForeignError):
            made.journal.load(MOUNT + "2", UID, 0)
        with pytest.raises(DamagedError, match="another user"):
            made.journal.load(MOUNT, UID + 1, 0)
        made.journal.load(MOUNT, UID, made.step.read())
        with pytest.raises(DamagedError, match="lost its last changes"):
            made.journal.load(MOUNT, UID, made.step.read() + 1)


def test_one_that_another_process_has() -> None:
    with kept() as made:
        program = (
            "import sys; from ccfs.store.errors import *; from ccfs.store.journal import *\n"
            "try: Journal(sys.argv[1], print)\n"
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


def test_what_is_gone_is_nowhere_in_the_files() -> None:
    """After a destroy at once, after a removal when the daemon has time."""
    generator = random.Random(5)
    with kept() as made:
        ccache = fill(made.store, whole())
        other = fill(made.store, whole(record(TGT, ticket=mark(999_999))), b"other")
        made.settle()
        live: dict[int, int] = {}
        for number in range(400):
            ticket = mark(number) + bytes(generator.choice([100, 600, 3000, 9000])) + mark(number)
            server = b"host/%d@R" % number
            stored = made.store.edits.store(ccache, record(server, ticket=ticket), at())
            assert stored is not None
            live[stored.serial] = number
            made.settle()
            if generator.random() < 0.7:
                gone = generator.choice(list(live))
                del live[gone]
                made.store.edits.remove(ccache, gone, at())
                made.settle()
        made.server.tend()
        data = made.bytes()
        assert {n for n in range(400) if mark(n) in data} == set(live.values())
        assert 0 < len(live) < 300
        made.store.destroy(ccache, at())
        made.settle()
        data = made.bytes()
        assert not any(mark(n) in data for n in range(400))
        assert mark(999_999) in data
        made.store.uninitialise(other, at())
        made.settle()
        assert mark(999_999) not in made.bytes()
        same_after(made)


SIZES = [[0, 100], [100, 600, 3000], [1000, 1200, 1500], [3000, 3900, 9000], [0, 600, 30_000]]


@pytest.mark.parametrize("seed", range(40))
def test_nothing_is_left_of_rows_that_have_moved(seed: int) -> None:
    """Among several ccaches, in the order of chance: SQLite moves rows and leaves copies behind."""
    chance = random.Random(seed)
    sizes = SIZES[seed % len(SIZES)]
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
        made.server.tend()
        data = made.bytes()
        assert {n for n in range(120) if mark(n) in data} == set(live)
        same_after(made)


@pytest.mark.parametrize("size", [0, 100, 3000, 9000])
def test_nothing_is_left_of_the_only_ccache(size: int) -> None:
    """Whose records go all at once, whatever pages they were on."""
    with kept() as made:
        ccache = fill(made.store, whole())
        for number in range(60):
            ticket = mark(number) + bytes(size) + mark(number)
            made.store.edits.store(ccache, record(b"h/%d@R" % number, ticket=ticket), at())
            made.settle()
            if number == 30:
                made.server.tend()
        assert all(mark(number) in made.bytes() for number in range(60))
        made.store.uninitialise(ccache, at())
        made.settle()
        assert not any(mark(number) in made.bytes() for number in range(60))
        same_after(made)


def test_configuration_and_removed_records_in_between() -> None:
    """A record marked as removed is not kept, and those around it stay in order."""
    with kept(Limits()) as made:
        first, last = record(b"a/1@R"), record(b"a/2@R")
        fill(made.store, whole(first, removed(record(b"gone@R")), config(b"pa_type"), last))
        made.settle()
        same_after(made)
        assert new_store().ledger.used == 0
