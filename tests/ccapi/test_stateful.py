# SPDX-License-Identifier: MIT
"""The whole of the CCAPI against a model in memory; several clients, each in its own thread."""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ccfs import ccapi as cc
from tests.support.ccapi import V5, WAIT_SECONDS, credential
from tests.support.mounting import Mounted

pytest_plugins = ["tests.support.ccapi_fixtures"]

CLIENTS = 3
NAMES = ["tkt", "work", "0", "1", "a b/c", ""]
PRINCIPALS = ["alice@R", "bob/x y@R", r"c\/d@E"]
SERVERS = ["http/a@R", "http/b@R", "krb5_ccache_conf_data/proxy_impersonator@X-CACHECONF:"]

clients = st.integers(0, CLIENTS - 1)
names, principals, servers = map(st.sampled_from, (NAMES, PRINCIPALS, SERVERS))


@dataclass(eq=False)
class Item:
    """A stored credential of the model."""

    data: cc.cc_credentials_union


@dataclass(eq=False)
class Model:
    """A ccache of the model.  `principal` is None where it isn't initialised."""

    name: str
    principal: str | None = None
    items: list[Item] = field(default_factory=list)
    offset: int | None = None
    default_ever: bool = False
    gone: bool = False
    begun: int = 0
    changes: int = 0
    locks: dict[int, str] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Whether it counts for anyone."""
        return not self.gone and self.principal is not None

    def reset(self, principal: str | None) -> None:
        """Begin anew."""
        self.principal, self.items, self.offset = principal, [], None
        self.begun += 1


@dataclass(eq=False)
class Handle:
    """A handle of one client on a ccache, and what it has seen."""

    client: int
    real: Any
    model: Model
    seen: int | None = None
    released: bool = False


@dataclass(eq=False)
class Cursor:
    """An iterator of one client, and what the model expects of it."""

    client: int
    real: Any
    left: list[Any]
    model: Model | None = None
    begun: int = 0


class Client:
    """A context that lives in a thread of its own."""

    def __init__(self, mounted: Mounted) -> None:
        self._thread = ThreadPoolExecutor(1)
        self.context: Any = self.call(cc.initialize, 3, mounted.path)

    def call(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Make a call in the client's thread."""
        future: Future[Any] = self._thread.submit(function, *arguments)
        return future.result(WAIT_SECONDS)

    def close(self) -> None:
        """Release the context, and with it its locks."""
        self.call(self.context.release)
        self._thread.shutdown()


class CollectionModel:
    """The ccaches of the model in list order; the first is the default."""

    def __init__(self) -> None:
        self.order = [Model("tkt", default_ever=True)]
        self.chosen = False
        self.changes = 0
        self.locks: dict[int, str] = {}

    def find(self, name: str) -> Model | None:
        return next((m for m in self.order if m.name == name), None)

    def live(self) -> list[Model]:
        return [m for m in self.order if m.usable]

    def changed(self, *models: Model) -> None:
        self.changes += 1
        for model in models:
            model.changes += 1

    def named(self, name: str) -> Model:
        found = self.find(name)
        if found is None:
            found = Model(name)
            self.order.append(found)
        return found

    def first(self, model: Model) -> Model:
        """Where none is initialised and none was chosen, the first that is made is the default."""
        before = self.order[0]
        if model is not before and not self.chosen and not self.live():
            self.changed(before)
            self.lead(model)
            if before.name == "tkt":
                self.drop(before)
        return model

    def lead(self, model: Model) -> None:
        self.order.remove(model)
        self.order.insert(0, model)
        model.default_ever = True
        self.changed(model)

    def drop(self, model: Model) -> None:
        """A ccache is gone; the default has a successor."""
        was_default = model is self.order[0]
        self.order.remove(model)
        model.gone = True
        self.changed()
        if was_default:
            self.chosen = self.chosen and bool(self.live())
            self.lead(next(iter(self.live()), None) or self.named("tkt"))


class CCAPI(RuleBasedStateMachine):
    """Every call, with what the model says that it does."""

    mounted: Mounted
    handles = Bundle("handles")
    items = Bundle("items")
    item_cursors = Bundle("item_cursors")
    ccache_cursors = Bundle("ccache_cursors")

    @initialize()
    def begin(self) -> None:
        links = self.mounted.path / "by-id"
        for ident in os.listdir(links):
            (links / ident).unlink()
        self.model = CollectionModel()
        self.clients = [Client(self.mounted) for _ in range(CLIENTS)]
        self.seen: list[int | None] = [None] * CLIENTS
        self.opened: list[Handle] = []
        self.time = self.clients[0].call(self.clients[0].context.get_change_time)
        self.time_of = self.model.changes

    def teardown(self) -> None:
        for client in getattr(self, "clients", ()):
            client.close()

    def asks(self, client: int, code: int, name: str, *arguments: object, of: Any = None) -> Any:
        """Make a call and assert how it ends; returns its result."""
        target = self.clients[client].context if of is None else of
        got, result = self.clients[client].call(outcome, getattr(target, name), *arguments)
        assert got == code, (name, got, code)
        return result

    def on(self, handle: Handle, name: str, *arguments: object, wants: int | None = None) -> Any:
        """The same on a ccache, which must be usable."""
        usable = handle.model.usable and not handle.released
        code = (wants or cc.ccNoError) if usable else cc.ccErrInvalidCCache
        return self.asks(handle.client, code, name, *arguments, of=handle.real)

    def on_directory(self, handle: Handle, name: str, *arguments: object, wants: int = 0) -> Any:
        """The same for calls that work on a ccache without a principal, too."""
        there = not handle.model.gone and not handle.released
        code = wants if there else cc.ccErrInvalidCCache
        return self.asks(handle.client, code, name, *arguments, of=handle.real)

    def opens(self, client: int, real: Any, model: Model) -> Handle:
        handle = Handle(client, real, model)
        self.opened.append(handle)
        return handle

    # the context's calls

    @rule(target=handles, client=clients, name=names, principal=principals)
    def create_ccache(self, client: int, name: str, principal: str) -> Handle:
        real = self.asks(client, 0, "create_ccache", name, V5, principal)
        model = self.model.first(self.model.named(name))
        return self.made(client, real, model, principal)

    @rule(target=handles, client=clients, principal=principals)
    def create_default_ccache(self, client: int, principal: str) -> Handle:
        real = self.asks(client, 0, "create_default_ccache", V5, principal)
        return self.made(client, real, self.model.order[0], principal)

    @rule(target=handles, client=clients, principal=principals)
    def create_new_ccache(self, client: int, principal: str) -> Handle:
        real = self.asks(client, 0, "create_new_ccache", V5, principal)
        name = self.clients[client].call(real.get_name)
        if self.model.live():
            assert name.isdecimal()
            assert self.model.find(name) is None
        else:
            assert name == "tkt"
        return self.made(client, real, self.model.first(self.model.named(name)), principal)

    def made(self, client: int, real: Any, model: Model, principal: str) -> Handle:
        model.reset(principal)
        self.model.changed(model)
        return self.opens(client, real, model)

    @rule(target=handles, client=clients, name=names)
    def open_ccache(self, client: int, name: str) -> Any:
        model = self.model.find(name)
        found = model is not None and model.usable
        real = self.asks(client, 0 if found else cc.ccErrCCacheNotFound, "open_ccache", name)
        return self.opens(client, real, model) if found and model else multiple()

    @rule(target=handles, client=clients)
    def open_default_ccache(self, client: int) -> Any:
        model = self.model.order[0]
        code = 0 if model.usable else cc.ccErrCCacheNotFound
        real = self.asks(client, code, "open_default_ccache")
        return self.opens(client, real, model) if model.usable else multiple()

    @rule(client=clients)
    def get_default_ccache_name(self, client: int) -> None:
        assert self.asks(client, 0, "get_default_ccache_name") == self.model.order[0].name

    @rule(client=clients)
    def look_at_all(self, client: int) -> None:
        found = self.clients[client].call(
            lambda: [
                (c.get_name(), c.get_principal(V5))
                for c in self.clients[client].context.new_ccache_iterator()
            ]
        )
        assert found == [(m.name, m.principal) for m in self.model.live()]

    @rule(client=clients)
    def wait_for_change(self, client: int) -> None:
        if self.seen[client] != self.model.changes:
            self.asks(client, 0, "wait_for_change")
            self.seen[client] = self.model.changes

    @rule(client=clients)
    def begin_again(self, client: int) -> None:
        self.clients[client].close()
        self.clients[client] = Client(self.mounted)
        self.seen[client] = None
        for locks in [self.model.locks, *(h.model.locks for h in self.opened)]:
            locks.pop(client, None)
        for handle in self.opened:
            if handle.client == client:
                self.clients[client].call(outcome, handle.real.release)
                handle.released = True

    # iterators

    @rule(target=ccache_cursors, client=clients)
    def new_ccache_iterator(self, client: int) -> Cursor:
        real = self.asks(client, 0, "new_ccache_iterator")
        return Cursor(client, real, list(self.model.order))

    @rule(target=handles, cursor=ccache_cursors)
    def next_ccache(self, cursor: Cursor) -> Any:
        while cursor.left and not cursor.left[0].usable:
            cursor.left.pop(0)
        code = 0 if cursor.left else cc.ccIteratorEnd
        real = self.asks(cursor.client, code, "next", of=cursor.real)
        return self.opens(cursor.client, real, cursor.left.pop(0)) if real else multiple()

    @rule(target=ccache_cursors, cursor=ccache_cursors)
    def clone_ccache_iterator(self, cursor: Cursor) -> Cursor:
        real = self.asks(cursor.client, 0, "clone", of=cursor.real)
        return Cursor(cursor.client, real, list(cursor.left))

    @rule(target=item_cursors, handle=handles)
    def new_credentials_iterator(self, handle: Handle) -> Any:
        real = self.on(handle, "new_credentials_iterator")
        if real is None:
            return multiple()
        model = handle.model
        return Cursor(handle.client, real, list(model.items), model, model.begun)

    @rule(target=items, cursor=item_cursors)
    def next_credentials(self, cursor: Cursor) -> Any:
        model = cursor.model
        assert model is not None
        dead = not model.usable or cursor.begun != model.begun
        while cursor.left and cursor.left[0] not in model.items:
            cursor.left.pop(0)
        end = 0 if cursor.left else cc.ccIteratorEnd
        code = cc.ccErrInvalidCredentialsIterator if dead else end
        real = self.asks(cursor.client, code, "next", of=cursor.real)
        if real is None:
            return multiple()
        item = cursor.left.pop(0)
        assert real.data == item.data
        return real, item

    @rule(target=item_cursors, cursor=item_cursors)
    def clone_credentials_iterator(self, cursor: Cursor) -> Cursor:
        real = self.asks(cursor.client, 0, "clone", of=cursor.real)
        return Cursor(cursor.client, real, list(cursor.left), cursor.model, cursor.begun)

    # the ccache's calls

    @rule(handle=consumes(handles))
    def release(self, handle: Handle) -> None:
        code = cc.ccErrInvalidCCache if handle.released else 0
        self.asks(handle.client, code, "release", of=handle.real)
        handle.released = True

    @rule(handle=handles)
    def destroy(self, handle: Handle) -> None:
        if handle.model.gone or handle.released:
            self.on_directory(handle, "destroy")
            return
        self.on_directory(handle, "destroy")
        handle.released = True
        self.model.drop(handle.model)

    @rule(handle=handles)
    def uninitialise(self, handle: Handle) -> None:
        """Another program removes the file."""
        if handle.model.usable:
            (self.mounted.path / handle.real._ccache.link / "ccache").unlink()
            handle.model.reset(None)
            self.model.changed(handle.model)

    @rule(handle=handles)
    def set_default(self, handle: Handle) -> None:
        self.on_directory(handle, "set_default")
        if handle.released or handle.model.gone:
            return
        self.model.chosen = True
        if handle.model is self.model.order[0]:
            return
        self.model.changed(self.model.order[0])
        self.model.lead(handle.model)

    @rule(handle=handles)
    def get(self, handle: Handle) -> None:
        model = handle.model
        assert self.on_directory(handle, "get_name") in (model.name, None)
        assert self.on(handle, "get_principal", V5) in (model.principal, None)
        assert self.on(handle, "get_credentials_version") in (V5, None)
        unset = cc.ccErrTimeOffsetNotSet if model.offset is None else None
        assert self.on(handle, "get_kdc_time_offset", V5, wants=unset) in (model.offset, None)
        never = 0 if model.default_ever else cc.ccErrNeverDefault
        last = self.on_directory(handle, "get_last_default_time", wants=never)
        changed = self.on_directory(handle, "get_change_time")
        assert last is None or last <= changed

    @rule(handle=handles, principal=principals)
    def set_principal(self, handle: Handle, principal: str) -> None:
        self.on_directory(handle, "set_principal", V5, principal)
        if not handle.model.gone and not handle.released:
            handle.model.principal, handle.model.offset = principal, None
            self.model.changed(handle.model)

    @rule(handle=handles, server=servers)
    def store_credentials(self, handle: Handle, server: str) -> None:
        data = credential(server)
        self.on(handle, "store_credentials", data)
        if handle.model.usable and not handle.released:
            handle.model.items.append(Item(data))
            self.model.changed(handle.model)

    @rule(handle=handles, stored=items)
    def remove_credentials(self, handle: Handle, stored: tuple[Any, Item]) -> None:
        real, item = stored
        model, there = handle.model, item in handle.model.items
        code = 0 if there else cc.ccErrInvalidCredentials
        self.on_directory(handle, "remove_credentials", real, wants=code)
        if there and not handle.released and not model.gone:
            model.items.remove(item)
            self.model.changed(model)

    @rule(one=items, other=items)
    def compare_credentials(self, one: tuple[Any, Item], other: tuple[Any, Item]) -> None:
        assert one[0].compare(other[0]) == (one[1] is other[1])

    @rule(one=handles, other=handles)
    def compare_ccaches(self, one: Handle, other: Handle) -> None:
        code = cc.ccErrInvalidCCache if one.released or other.released else 0
        same = self.asks(one.client, code, "compare", other.real, of=one.real)
        assert same in (one.model is other.model, None)

    @rule(source=handles, other=handles)
    def move(self, source: Handle, other: Handle) -> None:
        reachable = not (other.released or other.model.gone)
        self.on(source, "move", other.real, wants=None if reachable else cc.ccErrInvalidCCache)
        old, new = source.model, other.model
        if not reachable or source.released or not old.usable or old is new:
            return
        new.principal, new.items, new.offset = old.principal, old.items, old.offset
        new.begun += 1
        old.items = []
        self.model.changed(new)
        self.model.drop(old)

    @rule(handle=handles, offset=st.sampled_from([0, 1, 2**31, 2**32 - 1]))
    def set_kdc_time_offset(self, handle: Handle, offset: int) -> None:
        self.on(handle, "set_kdc_time_offset", V5, offset)
        self.offset_is(handle, offset)

    @rule(handle=handles)
    def clear_kdc_time_offset(self, handle: Handle) -> None:
        self.on(handle, "clear_kdc_time_offset", V5)
        self.offset_is(handle, None)

    def offset_is(self, handle: Handle, offset: int | None) -> None:
        if handle.model.usable and not handle.released:
            handle.model.offset = offset
            self.model.changed(handle.model)

    @rule(handle=handles)
    def wait_for_change_of_ccache(self, handle: Handle) -> None:
        if not handle.model.usable or handle.released or handle.seen != handle.model.changes:
            self.on(handle, "wait_for_change")
            handle.seen = handle.model.changes

    # locks

    @rule(client=clients, lock_type=st.integers(0, 3))
    def lock(self, client: int, lock_type: int) -> None:
        code = locking(self.model.locks, client, lock_type, cc.ccErrContextLocked)
        self.asks(client, code, "lock", lock_type, cc.cc_lock_noblock)

    @rule(client=clients)
    def unlock(self, client: int) -> None:
        held = self.model.locks.pop(client, None)
        self.asks(client, 0 if held else cc.ccErrContextUnlocked, "unlock")

    @rule(handle=handles, lock_type=st.integers(0, 3))
    def lock_ccache(self, handle: Handle, lock_type: int) -> None:
        code, model = 0, handle.model
        if not handle.released and not model.gone:
            code = locking(model.locks, handle.client, lock_type, cc.ccErrCCacheLocked)
        self.on_directory(handle, "lock", lock_type, cc.cc_lock_noblock, wants=code)

    @rule(handle=handles)
    def unlock_ccache(self, handle: Handle) -> None:
        held = None
        if not handle.released and not handle.model.gone:
            held = handle.model.locks.pop(handle.client, None)
        self.on_directory(handle, "unlock", wants=0 if held else cc.ccErrCCacheUnlocked)

    @precondition(lambda self: hasattr(self, "model"))
    @invariant()
    def the_change_time_tells_of_changes(self) -> None:
        now = self.asks(0, 0, "get_change_time")
        changed = self.model.changes != self.time_of
        assert (now > self.time) if changed else (now == self.time)
        self.time, self.time_of = now, self.model.changes


def locking(locks: dict[int, str], client: int, lock_type: int, busy: int) -> int:
    """What the model says of a request; the lock is held afterwards where it is granted."""
    held = locks.get(client)
    wanted = {None: {0: "read", 1: "write"}, "read": {2: "write"}, "write": {3: "read"}}
    mode = wanted[held].get(lock_type)
    if mode is None:
        return cc.ccErrBadLockType
    others = [other for owner, other in locks.items() if owner != client]
    if (mode == "write" and others) or "write" in others:
        return busy
    locks[client] = mode
    return cc.ccNoError


def outcome(call: Callable[..., Any], *arguments: object) -> tuple[int, Any]:
    """The code that a call ends with, and its result."""
    try:
        return cc.ccNoError, call(*arguments)
    except cc.CCAPIError as error:
        return error.code, None


@pytest.fixture(autouse=True)
def machine(served: Mounted) -> None:
    """Have the machine find the mount."""
    CCAPI.mounted = served


def test_ccapi_agrees_with_model() -> None:
    run_state_machine_as_test(
        CCAPI,
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            database=None,
        ),
    )
