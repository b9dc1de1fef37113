# SPDX-License-Identifier: MIT
"""The store against a plain model: whatever is done in whatever order, both hold the same.

The model has, for each ccache, its principal, offset and live records, and for each open file the
ccache that its writes reach.  It knows nothing of generations, spans or names.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from ccfs.format.config import ConfigKey, make_config
from ccfs.format.credential import encode_credential
from ccfs.format.dialect import DIALECT_V4
from ccfs.format.principal import Principal
from ccfs.format.removed_record import is_removed
from ccfs.store import Limits, Store
from ccfs.store.ccache import Ccache
from ccfs.store.errors import BadContentError, CcacheLimitError, StoreError, TotalLimitError
from ccfs.store.generation import OpenFile
from ccfs.store.scratch import DIR
from tests.support.storing import (
    ALICE,
    BOB,
    NOW,
    TGT,
    at,
    check,
    contents,
    current,
    data_of,
    decoded,
    new_store,
    owned,
    record,
    removed,
    said,
    serials,
    start,
    whole,
)

LIMITS = Limits(ccaches=4, ccache_bytes=1_600, total_bytes=4_500)
FILES = 6
NUMBERS = st.integers(0, FILES - 1)
NAMES = st.sampled_from([b"tkt", b"work", b"tktAbC", b"a/b"])
PLACES = st.integers(0, LIMITS.ccaches - 1)
SERVERS = st.sampled_from([TGT, b"host/www@R", b"imap/x@R"])
PRINCIPALS = st.sampled_from([ALICE, BOB])
CUTS = st.sampled_from([0, 0, 1, 40, 60])
JUNK = st.sampled_from([b"\xff" * 30, b"\0" * 4 + b"\xff" * 4, b"\x05\x04"])
FULL = (CcacheLimitError, TotalLimitError)


@dataclass
class Model:
    """One ccache.  `principal` is None where it is uninitialised."""

    name: bytes
    file: bool = False
    principal: Principal | None = None
    offset: int | None = None
    records: list[bytes] = field(default_factory=list)

    def clear(self, *, file: bool) -> None:
        """Nothing but perhaps an empty file."""
        self.file, self.principal, self.offset, self.records = file, None, None, []

    def set(self, principal: Principal, records: list[bytes]) -> None:
        """A ccache that was written as a whole."""
        self.file, self.principal, self.offset = True, principal, None
        self.records = list(records)


@dataclass(eq=False)
class Handle:
    """One open file: what its writes reach, and the record it is in the middle of."""

    file: OpenFile
    model: Model | None
    rest: bytes = b""
    record: bytes = b""


class Ccaches(RuleBasedStateMachine):
    """All that can be done to a store by files and by edits."""

    @initialize()
    def begin(self) -> None:
        self.store: Store = new_store(LIMITS)
        self.order: list[Model] = [Model(b"tkt"), Model(b"work")]
        self.store.collection.create(b"work", at())
        self.open: list[Handle] = []
        self.count = 0
        self.keys: dict[bytes, bytes] = {}
        self.records: dict[int, bytes] = {}
        self.gone: set[int] = set()
        self.times: dict[int, int] = {}
        self.seen: dict[Handle, tuple[bool, bytes]] = {}
        for model in self.order:
            records = [self.new(server) for server in (TGT, b"host/www@R")]
            self.by_scratch(self.ccache(model), whole(*records))
            model.set(ALICE, records)
            for mode in "aw":
                self.open_one(model, mode, stale=False)

    # What happens to a ccache as a whole

    @rule(name=NAMES)
    def create(self, name: bytes) -> None:
        if self.step(lambda: self.store.collection.create(name, at())):
            self.order.append(Model(name))

    @rule(place=PLACES)
    def set_default(self, place: int) -> None:
        model = self.at(place)
        assert self.step(lambda: self.store.collection.set_default(self.ccache(model), at()))
        self.order.remove(model)
        self.order.insert(0, model)

    @rule(place=PLACES, how=st.sampled_from(["destroy", "unlink", "truncate"]))
    def empty(self, place: int, how: str) -> None:
        """rmdir, rm, or what O_TRUNC does."""
        model = self.at(place)
        ccache = self.ccache(model)
        if how == "destroy":
            assert self.step(lambda: self.store.destroy(ccache, at()))
            self.let_go(model)
            self.remove(model)
        elif how == "unlink":
            assert model.file == self.step(lambda: self.store.uninitialise(ccache, at()))
            self.let_go(model)
            model.clear(file=False)
        elif model.file and not self.busy(model):
            assert self.step(lambda: self.store.open_files.truncate(current(ccache), 0, at()))
            model.clear(file=True)

    @rule(place=PLACES, over=NAMES)
    def move(self, place: int, over: bytes) -> None:
        old, new = self.at(place), self.find(over)
        if not self.step(lambda: self.store.move_to_name(self.ccache(old), over, at())):
            return
        if new is None:
            old.name = over
        elif new is not old:
            self.let_go(new)
            new.file, new.principal = old.file, old.principal
            new.offset, new.records = old.offset, old.records
            for handle in self.open:
                handle.model = new if handle.model is old else handle.model
            self.remove(old)

    @rule(
        place=PLACES,
        principal=PRINCIPALS,
        servers=st.lists(SERVERS, max_size=4),
        junk=st.sampled_from([b"", b"", b"\0", b"\xff" * 40]),
    )
    def replace(self, place: int, principal: Principal, servers: list[bytes], junk: bytes) -> None:
        """By a rename of a scratch file, which may be no ccache."""
        model, records = self.at(place), [self.new(server) for server in servers]
        data = whole(*records, principal=principal) + junk
        if self.step(lambda: self.by_scratch(self.ccache(model), data)):
            assert not junk
            self.let_go(model)
            model.set(principal, records)

    def by_scratch(self, ccache: Ccache, data: bytes) -> None:
        store, key = self.store, (DIR, b"XyZ123")
        file = store.open_files.open(
            store.scratch.create(*key, at()), at().client, writes=True, append=False
        )
        try:
            store.open_files.write(file, 0, data, NOW)
            store.replace(key, ccache, at())
        except StoreError:
            store.scratch.unlink(*key)
            raise
        finally:
            store.close(file, NOW)

    # Open files

    @rule(place=PLACES, mode=st.sampled_from("aaawwr"), stale=st.booleans())
    @precondition(lambda self: len(self.open) < FILES)
    def opened(self, place: int, mode: str, stale: bool) -> None:
        self.open_one(self.at(place), mode, stale=stale)

    def open_one(self, model: Model, mode: str, *, stale: bool) -> None:
        ccache = self.ccache(model)
        if not model.file:
            start(self.store, ccache)
            model.clear(file=True)
        numbers = self.store.generations
        opened = (h.file.generation for h in self.open if h.model is model)
        rewritten = (g for g in opened if numbers.is_rewritten(g))
        superseded = next(rewritten, None) if stale else None
        file = self.store.open_files.open(
            current(ccache),
            at().client,
            writes=mode != "r",
            append=mode == "a",
            opened_by=superseded,
        )
        self.open.append(Handle(file, model))
        self.look()

    @rule(number=NUMBERS)
    @precondition(lambda self: self.open)
    def close(self, number: int) -> None:
        handle = self.handle(number)
        log = len(said(self.store))
        self.open.remove(handle)
        self.step(lambda: self.store.close(handle.file, NOW))
        dropped = [line for line in said(self.store)[log:] if line.startswith("dropped")]
        assert bool(dropped) == bool(handle.rest and handle.model)

    @rule(
        number=NUMBERS,
        principal=PRINCIPALS,
        servers=st.lists(SERVERS, max_size=4),
        cut=st.integers(0, 600),
    )
    @precondition(lambda self: self.open)
    def write_all(self, number: int, principal: Principal, servers: list[bytes], cut: int) -> None:
        """A whole ccache into an empty file, in two writes."""
        handle = self.handle(number)
        model = handle.model
        if not handle.file.writes or not model or model.principal or self.busy(model):
            return
        if not handle.file.generation.current:
            return
        records = [self.new(server) for server in servers]
        data = whole(*records, principal=principal)
        first, rest = data[: cut % len(data)], data[cut % len(data) :]
        if self.step(lambda: self.write(handle, first, 0)):
            if self.step(lambda: self.write(handle, rest, len(first))):
                model.set(principal, records)
            else:
                self.step(lambda: self.store.open_files.truncate(handle.file.generation, 0, at()))

    @rule(number=NUMBERS, server=SERVERS, cut=CUTS)
    @precondition(lambda self: self.open)
    def write_record(self, number: int, server: bytes, cut: int) -> None:
        """The beginning of a record, if not all of it, or the rest of one begun before."""
        handle = self.handle(number)
        if not handle.file.writes or handle.model is None or not handle.model.principal:
            return
        begun = bool(handle.rest)
        if not begun:
            handle.record = handle.rest = self.new(server)
        piece = handle.rest[: cut or len(handle.rest)]
        if self.step(lambda: self.write(handle, piece)):
            handle.rest = handle.rest[len(piece) :]
            if not handle.rest:
                handle.model.records.append(handle.record)
        elif not begun:
            handle.rest = b""

    @rule(number=NUMBERS, junk=JUNK)
    @precondition(lambda self: self.open)
    def write_junk(self, number: int, junk: bytes) -> None:
        handle = self.handle(number)
        model = handle.model
        if handle.file.writes and model and model.principal and not handle.rest:
            self.refused(lambda: self.write(handle, junk + b"\xff" * 30))

    @rule(number=NUMBERS, which=st.integers(0, 20))
    @precondition(lambda self: self.open)
    def remove_in_place(self, number: int, which: int) -> None:
        """As libkrb5 does it, wherever the file has the record."""
        handle = self.handle(number)
        model = handle.model
        if not handle.file.writes or handle.file.append or not model or not model.records:
            return
        marked = model.records[which % len(model.records)]
        place = contents(self.store, handle.file).find(marked)
        if place >= 0 and self.step(lambda: self.write(handle, removed(marked), place)):
            model.records.remove(marked)

    @rule(number=NUMBERS)
    @precondition(lambda self: self.open)
    def write_to_what_is_gone(self, number: int) -> None:
        """kdestroy's zeros: they reach nothing."""
        handle = self.handle(number)
        if handle.file.writes and handle.model is None:
            self.step(lambda: self.write(handle, bytes(20), 0))

    # Edits

    @rule(place=PLACES, server=SERVERS)
    def store_one(self, place: int, server: bytes) -> None:
        model, new = self.at(place), self.new(server)
        if self.step(lambda: self.store.edits.store(self.ccache(model), new, at())):
            model.records.append(new)

    @rule(place=PLACES, which=st.integers(0, 20))
    def remove_one(self, place: int, which: int) -> None:
        model = self.at(place)
        if not model.records:
            return
        gone = model.records[which % len(model.records)]
        serial = next(s for s in serials(self.ccache(model)) if self.records[s] == gone)
        assert self.step(lambda: self.store.edits.remove(self.ccache(model), serial, at()))
        model.records.remove(gone)

    @rule(place=PLACES, key=st.sampled_from([b"pa_type", b"fast_avail"]))
    def set_config(self, place: int, key: bytes) -> None:
        model, name = self.at(place), ConfigKey(key)
        self.count += 1
        value = b"%d" % self.count
        if self.step(lambda: self.store.edits.set_config(self.ccache(model), name, value, at())):
            assert model.principal
            new = encode_credential(make_config(model.principal, name, value), DIALECT_V4)
            model.records = [r for r in model.records if self.keys.get(r) != key] + [new]
            self.keys[new] = key

    @rule(place=PLACES, principal=st.none() | PRINCIPALS, seconds=st.none() | st.integers(-5, 5))
    def set_prefix(self, place: int, principal: Principal | None, seconds: int | None) -> None:
        """The principal, or the offset."""
        model, edits = self.at(place), self.store.edits
        ccache = self.ccache(model)
        if principal is None:
            if self.step(lambda: edits.set_kdc_offset(ccache, seconds, at())):
                model.offset = seconds
        elif self.step(lambda: edits.set_principal(ccache, principal, at())):
            if not model.principal:
                self.let_go(model)
            model.file, model.principal, model.offset = True, principal, None

    @rule()
    @precondition(lambda self: self.store.used_bytes > 3_000)
    def make_room(self) -> None:
        """So that a run does not stay at the limit."""
        for model in self.order:
            if model.file:
                self.step(lambda m=model: self.store.uninitialise(self.ccache(m), at()))
                self.let_go(model)
                model.clear(file=False)

    # What must hold after each of them

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "store"):
            return
        check(self.store, [handle.file for handle in self.open])
        ccaches = self.store.collection.all()
        assert [c.name for c in ccaches] == [model.name for model in self.order]
        for ccache, model in zip(ccaches, self.order, strict=True):
            self.same_ccache(ccache, model)
            assert ccache.change_time >= self.times.get(ccache.serial, 0)
            self.times[ccache.serial] = ccache.change_time
        live = owned(self.store)
        assert not live & self.gone
        self.gone |= self.records.keys() - live

    def same_ccache(self, ccache: Ccache, model: Model) -> None:
        assert (ccache.current is not None) == model.file
        assert ccache.initialised == (model.principal is not None)
        if model.principal is None:
            return
        cc = decoded(ccache)
        offset = cc.header.kdc_offset
        assert (cc.principal, offset and offset[0]) == (model.principal, model.offset)
        live = [c for c in cc.credentials if not is_removed(c)]
        assert [encode_credential(c, DIALECT_V4) for c in live] == model.records
        assert ccache.image is not None
        if not any(handle.model is model for handle in self.open):
            assert not (ccache.image.removed_bytes and ccache.image.mostly_removed)
        for serial in serials(ccache):
            held = ccache.image.record(serial)
            assert held is not None
            assert self.records.setdefault(serial, held) == held

    def step(self, action: Callable[[], object]) -> bool:
        """Do it; a refusal changes nothing.  Readers of what is superseded keep their bytes."""
        before = self.state()
        done = False
        with suppress(StoreError):
            action()
            done = True
        assert done or self.state() == before
        self.look()
        return done

    def refused(self, action: Callable[[], object]) -> None:
        before = self.state()
        with pytest.raises((BadContentError, *FULL)):
            action()
        assert self.state() == before

    def state(self) -> list[object]:
        found: list[object] = [self.store.used_bytes, self.store.scratch.count]
        for ccache in self.store.collection.all():
            data = data_of(ccache) if ccache.current else None
            number = ccache.current.number if ccache.current else 0
            found.append((ccache.name, ccache.serial, number, data, list(serials(ccache))))
        return found + [contents(self.store, handle.file) for handle in self.open]

    def look(self) -> None:
        """A superseded generation reads as before, but for bytes appended to it."""
        now = {}
        for handle in self.open:
            generation = handle.file.generation
            was_current, had = self.seen.get(handle, (True, None))
            has = contents(self.store, handle.file)
            if had is not None and not generation.current and (was_current or handle.model):
                assert has.startswith(had)
            now[handle] = generation.current, has
        self.seen = now

    def at(self, place: int) -> Model:
        return self.order[place % len(self.order)]

    def handle(self, number: int) -> Handle:
        return self.open[number % len(self.open)]

    def find(self, name: bytes) -> Model | None:
        return next((model for model in self.order if model.name == name), None)

    def ccache(self, model: Model) -> Ccache:
        return self.store.collection.get(model.name)

    def new(self, server: bytes) -> bytes:
        """A record that is like no other."""
        self.count += 1
        return record(server, ticket=b"ticket %d" % self.count)

    def let_go(self, model: Model) -> None:
        """The file of a ccache is no longer the one that is open."""
        for handle in self.open:
            if handle.model is model:
                handle.model, handle.rest = None, b""

    def remove(self, model: Model) -> None:
        """Take a ccache off the list, and choose a default if it was that."""
        default = model is self.order[0]
        self.order.remove(model)
        if default:
            tkt = self.find(b"tkt")
            following = next((m for m in self.order if m.principal), tkt) or Model(b"tkt")
            self.order = [following, *(m for m in self.order if m is not following)]

    def busy(self, model: Model) -> bool:
        """Whether an open file has written an incomplete record."""
        return any(handle.rest and handle.model is model for handle in self.open)

    def write(self, handle: Handle, data: bytes, offset: int | None = None) -> None:
        """As the kernel does: at the end that it knows of, where no place is given."""
        if offset is None:
            offset = len(handle.file.generation.data)
        assert self.store.open_files.write(handle.file, offset, data, NOW) == len(data)

    def teardown(self) -> None:
        """When all is gone, nothing is left."""
        if not hasattr(self, "store"):
            return
        for handle in self.open:
            self.store.close(handle.file, NOW)
        for ccache in self.store.collection.all():
            self.store.destroy(ccache, at())
        check(self.store)
        assert self.store.used_bytes == 0
        assert not owned(self.store)


TestCcaches = Ccaches.TestCase
TestCcaches.settings = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=80,
    stateful_step_count=50,
    report_multiple_bugs=False,
)
