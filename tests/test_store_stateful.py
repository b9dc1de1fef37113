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
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from ccfs.format.config import ConfigKey, make_config
from ccfs.format.credential import encode_credential, is_removed
from ccfs.format.dialect import DIALECT_V4
from ccfs.format.principal import Principal
from ccfs.store import Limits, Store
from ccfs.store.ccache import Ccache
from ccfs.store.errors import BadContentError, CcacheLimitError, StoreError, TotalLimitError
from ccfs.store.files import OpenFile
from ccfs.store.scratch import COLLECTION
from tests.storing import (
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
    record,
    removed,
    said,
    start,
    whole,
)

LIMITS = Limits(ccaches=4, ccache_bytes=1_600, total_bytes=4_500)
NAMES = st.sampled_from([b"tkt", b"work", b"tktAbC", b"a/b", b"x y"])
SERVERS = st.sampled_from([TGT, b"host/www@R", b"imap/x@R"])
PRINCIPALS = st.sampled_from([ALICE, BOB])
CUTS = st.integers(0, 130)
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

    handles = Bundle("handles")

    @initialize()
    def begin(self) -> None:
        self.store: Store = new_store(LIMITS)
        self.order: list[Model] = [Model(b"tkt")]
        self.open: list[Handle] = []
        self.count = 0
        self.keys: dict[bytes, bytes] = {}
        self.records: dict[int, bytes] = {}
        self.gone: set[int] = set()
        self.times: dict[int, int] = {}
        self.seen: dict[int, tuple[bool, bytes]] = {}

    # What happens to a ccache as a whole

    @rule(name=NAMES)
    def create(self, name: bytes) -> None:
        if self.step(lambda: self.store.collection.create(name, at())):
            self.order.append(Model(name))

    @rule(name=NAMES)
    def destroy(self, name: bytes) -> None:
        model = self.find(name)
        if model and self.step(lambda: self.store.destroy(self.ccache(model), at())):
            self.let_go(model)
            self.remove(model)

    @rule(name=NAMES)
    def set_default(self, name: bytes) -> None:
        model = self.find(name)
        if model and self.step(lambda: self.store.collection.set_default(self.ccache(model), at())):
            self.order.remove(model)
            self.order.insert(0, model)

    @rule(source=NAMES, over=NAMES)
    def move(self, source: bytes, over: bytes) -> None:
        old, new = self.find(source), self.find(over)
        if old is None or not self.step(
            lambda: self.store.move_to_name(self.ccache(old), over, at())
        ):
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

    @rule(name=NAMES)
    def unlink(self, name: bytes) -> None:
        model = self.find(name)
        if model and self.step(lambda: self.store.uninitialise(self.ccache(model), at())):
            self.let_go(model)
            model.clear(file=False)

    @rule(name=NAMES, principal=PRINCIPALS, servers=st.lists(SERVERS, max_size=4))
    def replace(self, name: bytes, principal: Principal, servers: list[bytes]) -> None:
        """By a rename of a scratch file."""
        model, records = self.find(name), [self.new(server) for server in servers]
        data = whole(*records, principal=principal)
        if model and self.step(lambda: self.by_scratch(self.ccache(model), data)):
            self.let_go(model)
            model.set(principal, records)

    @rule(name=NAMES, junk=JUNK)
    def replace_by_junk(self, name: bytes, junk: bytes) -> None:
        model = self.find(name)
        if model:
            assert not self.step(lambda: self.by_scratch(self.ccache(model), junk))

    def by_scratch(self, ccache: Ccache, data: bytes) -> None:
        store, key = self.store, (COLLECTION, b"XyZ123")
        file = store.files.open(
            store.create_scratch(*key, at()), at().who, writes=True, append=False
        )
        try:
            store.files.write(file, 0, data, NOW)
            store.replace(key, ccache, at())
        except StoreError:
            store.unlink_scratch(*key)
            raise
        finally:
            store.close(file, NOW)

    # Open files

    @rule(target=handles, name=NAMES, mode=st.sampled_from("rwa"), stale=st.booleans())
    def opened(self, name: bytes, mode: str, stale: bool) -> Handle:
        model = self.find(name) or self.order[0]
        ccache = self.ccache(model)
        if not model.file:
            start(self.store, ccache)
            model.clear(file=True)
        file = self.store.files.open(
            current(ccache), at().who, writes=mode != "r", append=mode == "a", number=int(stale)
        )
        self.open.append(Handle(file, model))
        self.look()
        return self.open[-1]

    @rule(handle=consumes(handles))
    def close(self, handle: Handle) -> None:
        log = len(said(self.store))
        self.open.remove(handle)
        self.step(lambda: self.store.close(handle.file, NOW))
        dropped = [line for line in said(self.store)[log:] if line.startswith("dropped")]
        assert bool(dropped) == bool(handle.rest and handle.model)

    @rule(
        handle=handles,
        principal=PRINCIPALS,
        servers=st.lists(SERVERS, max_size=4),
        cut=st.integers(0, 600),
    )
    def write_all(
        self, handle: Handle, principal: Principal, servers: list[bytes], cut: int
    ) -> None:
        """A whole ccache into an empty file, in two writes."""
        model = handle.model
        if not self.may_write(handle) or not model or model.principal or self.busy(model):
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
                self.step(lambda: self.store.files.truncate(handle.file.generation, 0, at()))

    @rule(handle=handles, server=SERVERS, cut=CUTS)
    def write_record(self, handle: Handle, server: bytes, cut: int) -> None:
        """The beginning of a record, or the rest of the one begun before."""
        if not self.may_write(handle) or handle.model is None or not handle.model.principal:
            return
        if not handle.rest:
            handle.record = handle.rest = self.new(server)
            piece = handle.rest[: max(cut, 1)]
        else:
            piece = handle.rest
        before = handle.rest
        if self.step(lambda: self.write(handle, piece)):
            handle.rest = handle.rest[len(piece) :]
            if not handle.rest:
                handle.model.records.append(handle.record)
        elif before == handle.record:
            handle.rest = b""

    @rule(handle=handles, junk=JUNK)
    def write_junk(self, handle: Handle, junk: bytes) -> None:
        model = handle.model
        if self.may_write(handle) and model and model.principal and not handle.rest:
            self.refused(lambda: self.write(handle, junk + b"\xff" * 30))

    @rule(handle=handles, which=st.integers(0, 20))
    def remove_in_place(self, handle: Handle, which: int) -> None:
        """As libkrb5 does it, wherever the file has the record."""
        model = handle.model
        if not handle.file.writes or handle.file.append or not model or not model.records:
            return
        marked = model.records[which % len(model.records)]
        place = contents(self.store, handle.file).find(marked)
        if place >= 0 and self.step(lambda: self.write(handle, removed(marked), place)):
            model.records.remove(marked)

    @rule(handle=handles)
    def write_to_what_is_gone(self, handle: Handle) -> None:
        """kdestroy's zeros: they reach nothing."""
        if handle.file.writes and handle.model is None:
            self.step(lambda: self.write(handle, bytes(20), 0))

    @rule(name=NAMES)
    def truncate(self, name: bytes) -> None:
        """What O_TRUNC does."""
        model = self.find(name)
        if not model or not model.file or self.busy(model):
            return
        generation = current(self.ccache(model))
        if self.step(lambda: self.store.files.truncate(generation, 0, at())):
            model.clear(file=True)

    # Edits

    @rule(name=NAMES, server=SERVERS)
    def store_one(self, name: bytes, server: bytes) -> None:
        model, new = self.find(name), self.new(server)
        if model and self.step(lambda: self.store.edits.store(self.ccache(model), new, at())):
            model.records.append(new)

    @rule(name=NAMES, which=st.integers(0, 20))
    def remove_one(self, name: bytes, which: int) -> None:
        model = self.find(name)
        if not model or not model.records:
            return
        gone = model.records[which % len(model.records)]
        serial = next(s for s in self.ccache(model).serials if self.records[s] == gone)
        assert self.step(lambda: self.store.edits.remove(self.ccache(model), serial, at()))
        model.records.remove(gone)

    @rule(name=NAMES, key=st.sampled_from([b"pa_type", b"fast_avail"]))
    def set_config(self, name: bytes, key: bytes) -> None:
        model = self.find(name)
        self.count += 1
        value = b"%d" % self.count
        if model and self.step(
            lambda: self.store.edits.set_config(self.ccache(model), ConfigKey(key), value, at())
        ):
            assert model.principal
            entry = make_config(model.principal, ConfigKey(key), value)
            new = encode_credential(entry, DIALECT_V4)
            model.records = [r for r in model.records if self.keys.get(r) != key] + [new]
            self.keys[new] = key

    @rule(name=NAMES, principal=PRINCIPALS)
    def set_principal(self, name: bytes, principal: Principal) -> None:
        model = self.find(name)
        if model and self.step(
            lambda: self.store.edits.set_principal(self.ccache(model), principal, at())
        ):
            if not model.principal:
                self.let_go(model)
            model.file, model.principal, model.offset = True, principal, None

    @rule(name=NAMES, seconds=st.none() | st.integers(-5, 5))
    def set_offset(self, name: bytes, seconds: int | None) -> None:
        model = self.find(name)
        if model and self.step(
            lambda: self.store.edits.set_kdc_offset(self.ccache(model), seconds, at())
        ):
            model.offset = seconds

    @rule()
    @precondition(lambda self: self.store.ledger.used > 3_000)
    def make_room(self) -> None:
        """So that a run does not stay at the limit."""
        for model in self.order:
            if model.file:
                self.step(lambda m=model: self.store.uninitialise(self.ccache(m), at()))  # type: ignore[misc]
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
        live = set(self.store.ledger.register.owners)
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
        for serial in ccache.serials:
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
        found: list[object] = [self.store.ledger.used, self.store.scratch.count]
        for ccache in self.store.collection.all():
            data = data_of(ccache) if ccache.current else None
            number = ccache.current.number if ccache.current else 0
            found.append((ccache.name, ccache.serial, number, data, list(ccache.serials)))
        return found + [contents(self.store, handle.file) for handle in self.open]

    def look(self) -> None:
        """Nobody's bytes change but by what is written to the number they are of."""
        now = {}
        for handle in self.open:
            generation = handle.file.generation
            was_current, had = self.seen.get(id(handle), (True, None))
            has = contents(self.store, handle.file)
            if had is not None and not generation.current and (was_current or handle.model):
                assert has == had
            now[id(handle)] = generation.current, has
        self.seen = now

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
        """Whether somebody is in the middle of a record."""
        return any(handle.rest and handle.model is model for handle in self.open)

    def may_write(self, handle: Handle) -> bool:
        return handle.file.writes

    def write(self, handle: Handle, data: bytes, offset: int | None = None) -> None:
        """As the kernel does: at the end that it knows of, where no place is given."""
        if offset is None:
            offset = len(handle.file.generation.data)
        assert self.store.files.write(handle.file, offset, data, NOW) == len(data)

    def teardown(self) -> None:
        """When all is gone, nothing is left."""
        if not hasattr(self, "store"):
            return
        for handle in self.open:
            self.store.close(handle.file, NOW)
        for ccache in self.store.collection.all():
            self.store.destroy(ccache, at())
        check(self.store)
        assert self.store.ledger.used == 0
        assert self.store.ledger.register.owners == {}


TestCcaches = Ccaches.TestCase
TestCcaches.settings = settings(
    derandomize=True, database=None, deadline=None, max_examples=100, stateful_step_count=40
)
