# SPDX-License-Identifier: MIT
"""Locks of the CCAPI: which contexts get one, which wait, and what happens when a holder ends."""

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ccfs import ccapi as cc
from tests.support.ccapi import ALICE, V5, Running, credential, eventually, lock_waiters, refuses
from tests.support.mounting import Mounted

pytest_plugins = ["tests.support.ccapi_fixtures"]

READ, WRITE = cc.cc_lock_read, cc.cc_lock_write
UPGRADE, DOWNGRADE = cc.cc_lock_upgrade, cc.cc_lock_downgrade
NOW, WAIT = cc.cc_lock_noblock, cc.cc_lock_block

Lockable = cc.Context | cc.CCache
HELD: dict[str, tuple[int, ...]] = {
    "nothing": (),
    "read": (READ,),
    "write": (WRITE,),
    "upgraded": (READ, UPGRADE),
    "downgraded": (WRITE, DOWNGRADE),
}
READS, WRITES = ("read", "downgraded"), ("write", "upgraded")


class Clients:
    """Several contexts, and on each the same container: the collection, or a ccache."""

    def __init__(self, mounted: Mounted, kind: str) -> None:
        self.mounted, self.kind = mounted, kind
        self.contexts: list[cc.Context] = []
        self.file = mounted.path / ("lock" if kind == "context" else "caches/work/lock")
        self.busy = cc.ccErrContextLocked if kind == "context" else cc.ccErrCCacheLocked
        self.unlocked = cc.ccErrContextUnlocked if kind == "context" else cc.ccErrCCacheUnlocked

    def make(self) -> Lockable:
        """One more client's handle on the container."""
        context = cc.initialize(mount=self.mounted.path)
        self.contexts.append(context)
        return context if self.kind == "context" else context.open_ccache("work")

    def waiting(self, count: int) -> None:
        """Return once so many wait in the kernel."""
        eventually(lambda: lock_waiters(self.file) == count)


@pytest.fixture(params=["context", "ccache"])
def clients(
    context: cc.Context, served: Mounted, request: pytest.FixtureRequest
) -> Iterator[Clients]:
    """Clients of the collection, or of a ccache."""
    context.create_ccache("work", V5, ALICE)
    made = Clients(served, request.param)
    yield made
    for one in made.contexts:
        one.release()


def hold(client: Lockable, held: str) -> None:
    """Hold a container in a way that HELD names."""
    for lock_type in HELD[held]:
        client.lock(lock_type, NOW)


@pytest.mark.parametrize("block", [NOW, WAIT])
@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("lock_type", [READ, WRITE, UPGRADE, DOWNGRADE, -1, 4])
def test_lock_requests_of_one_owner(
    clients: Clients, held: str, lock_type: int, block: int
) -> None:
    client = clients.make()
    hold(client, held)
    granted = (
        (held == "nothing" and lock_type in (READ, WRITE))
        or (held in READS and lock_type == UPGRADE)
        or (held in WRITES and lock_type == DOWNGRADE)
    )
    if granted:
        client.lock(lock_type, block)
    else:
        refuses(cc.ccErrBadLockType, client.lock, lock_type, block)
    if granted or held != "nothing":
        client.unlock()
    refuses(clients.unlocked, client.unlock)


@pytest.mark.parametrize("others", HELD)
@pytest.mark.parametrize("lock_type", [READ, WRITE, UPGRADE])
def test_lock_requests_against_another_owner(clients: Clients, others: str, lock_type: int) -> None:
    client, other = clients.make(), clients.make()
    hold(other, others)
    if lock_type == UPGRADE:
        if others in WRITES:
            refuses(clients.busy, client.lock, READ, NOW)
            return
        client.lock(READ, NOW)
    if others == "nothing" or (others in READS and lock_type == READ):
        client.lock(lock_type, NOW)
    else:
        refuses(clients.busy, client.lock, lock_type, NOW)
        if lock_type == UPGRADE:
            other.unlock()
            client.lock(UPGRADE, NOW)
            refuses(clients.busy, other.lock, READ, NOW)


def test_downgrade_grants_waiting_readers(clients: Clients) -> None:
    writer, reader = clients.make(), clients.make()
    writer.lock(WRITE, NOW)
    refuses(clients.busy, reader.lock, READ, NOW)
    writer.lock(DOWNGRADE, NOW)
    reader.lock(READ, NOW)
    refuses(clients.busy, writer.lock, UPGRADE, NOW)


@pytest.mark.parametrize(("held", "wanted"), [(WRITE, READ), (WRITE, WRITE), (READ, WRITE)])
def test_unlock_grants_waiter(clients: Clients, held: int, wanted: int) -> None:
    holder, client = clients.make(), clients.make()
    holder.lock(held, NOW)
    waiter = Running(client.lock, wanted, WAIT)
    clients.waiting(1)
    assert not waiter.done
    holder.unlock()
    waiter.wait()
    refuses(clients.busy, holder.lock, WRITE, NOW)
    client.unlock()
    holder.lock(WRITE, NOW)


def test_waiting_upgrade_keeps_its_read_lock(clients: Clients) -> None:
    holder, client, third = clients.make(), clients.make(), clients.make()
    holder.lock(READ, NOW)
    client.lock(READ, NOW)
    waiter = Running(client.lock, UPGRADE, WAIT)
    clients.waiting(1)
    refuses(clients.busy, third.lock, WRITE, NOW)
    third.lock(READ, NOW)
    third.unlock()
    holder.unlock()
    waiter.wait()
    refuses(clients.busy, third.lock, READ, NOW)


def test_unlock_grants_all_waiting_readers(clients: Clients) -> None:
    writer = clients.make()
    writer.lock(WRITE, NOW)
    readers = [Running(clients.make().lock, READ, WAIT) for _ in range(4)]
    clients.waiting(4)
    writer.unlock()
    for reader in readers:
        reader.wait()


def test_waiter_keeps_waiting_after_unrelated_change(clients: Clients, context: cc.Context) -> None:
    holder, client = clients.make(), clients.make()
    holder.lock(WRITE, NOW)
    waiter = Running(client.lock, WRITE, WAIT)
    clients.waiting(1)
    other = context.create_ccache("other", V5, ALICE)
    for _ in range(20):
        other.store_credentials(credential())
    other.destroy()
    clients.waiting(1)
    assert not waiter.done
    holder.unlock()
    waiter.wait()


def test_context_lock_does_not_lock_ccaches(context: cc.Context, served: Mounted) -> None:
    work = context.create_ccache("work", V5, ALICE)
    context.lock(WRITE, NOW)
    with cc.initialize(mount=served.path) as other:
        other.open_ccache("work").lock(WRITE, NOW)
        refuses(cc.ccErrContextLocked, other.lock, READ, NOW)
        refuses(cc.ccErrCCacheLocked, work.lock, READ, NOW)
        context.create_new_ccache(V5, ALICE)


def test_locks_do_not_stop_other_calls(context: cc.Context, served: Mounted) -> None:
    work = context.create_ccache("work", V5, ALICE)
    context.lock(WRITE, NOW)
    work.lock(WRITE, NOW)
    with cc.initialize(mount=served.path) as other:
        other.open_ccache("work").store_credentials(credential())
        other.create_ccache("new", V5, ALICE).set_default()
        other.open_ccache("work").destroy()


def test_handles_of_one_context_are_one_lock_owner(context: cc.Context, served: Mounted) -> None:
    one, two = context.create_ccache("work", V5, ALICE), context.open_ccache("work")
    one.lock(READ, NOW)
    refuses(cc.ccErrBadLockType, two.lock, READ, NOW)
    two.lock(UPGRADE, NOW)
    one.release()
    with cc.initialize(mount=served.path) as other:
        refuses(cc.ccErrCCacheLocked, other.open_ccache("work").lock, READ, NOW)
    context.open_ccache("work").unlock()
    refuses(cc.ccErrCCacheUnlocked, two.unlock)


def test_released_context_unlocks(context: cc.Context, served: Mounted) -> None:
    work = context.create_ccache("work", V5, ALICE)
    with cc.initialize(mount=served.path) as other:
        theirs = other.open_ccache("work")
        other.lock(WRITE, NOW)
        theirs.lock(WRITE, NOW)
        refuses(cc.ccErrContextLocked, context.lock, READ, NOW)
        refuses(cc.ccErrCCacheLocked, work.lock, READ, NOW)
    context.lock(WRITE, NOW)
    work.lock(WRITE, NOW)
    refuses(cc.ccErrInvalidContext, theirs.lock, READ, NOW)
    refuses(cc.ccErrInvalidContext, theirs.unlock)


def test_lock_survives_reset_and_move(context: cc.Context, served: Mounted) -> None:
    work = context.create_ccache("work", V5, ALICE)
    work.lock(WRITE, NOW)
    with cc.initialize(mount=served.path) as other:
        other.create_ccache("work", V5, ALICE)
        other.create_ccache("source", V5, ALICE).move(other.open_ccache("work"))
        refuses(cc.ccErrCCacheLocked, other.open_ccache("work").lock, READ, NOW)
        work.unlock()
        other.open_ccache("work").lock(WRITE, NOW)


def ways_to_go() -> list[Callable[[cc.Context], None]]:
    """How a ccache can cease to be."""
    return [
        lambda context: context.open_ccache("work").destroy(),
        lambda context: context.open_ccache("work").move(context.create_ccache("x", V5, ALICE)),
    ]


@pytest.mark.parametrize("way", ways_to_go())
@pytest.mark.parametrize("held", [READ, WRITE])
def test_destroyed_ccache_answers_lock_waiters(
    context: cc.Context, served: Mounted, way: Callable[[cc.Context], None], held: int
) -> None:
    context.create_ccache("work", V5, ALICE)
    clients = Clients(served, "ccache")
    holder, waiting = clients.make(), [clients.make() for _ in range(3)]
    holder.lock(held, NOW)
    waiters = [Running(client.lock, WRITE, WAIT) for client in waiting]
    clients.waiting(3)
    way(context)
    for waiter in waiters:
        refuses(cc.ccErrInvalidCCache, waiter.wait)
    refuses(cc.ccErrInvalidCCache, holder.unlock)
    recreated = context.create_ccache("work", V5, ALICE)
    recreated.lock(WRITE, NOW)
    for one in clients.contexts:
        one.release()


def test_destroyed_ccache_answers_waiting_upgrade(context: cc.Context, served: Mounted) -> None:
    context.create_ccache("work", V5, ALICE)
    clients = Clients(served, "ccache")
    holder, client = clients.make(), clients.make()
    holder.lock(READ, NOW)
    client.lock(READ, NOW)
    waiter = Running(client.lock, UPGRADE, WAIT)
    clients.waiting(1)
    context.open_ccache("work").destroy()
    refuses(cc.ccErrInvalidCCache, waiter.wait)
    for one in clients.contexts:
        one.release()


def test_interrupted_lock_wait_leaves_nothing(context: cc.Context, served: Mounted) -> None:
    work = context.create_ccache("work", V5, ALICE)
    work.lock(WRITE, NOW)
    clients = Clients(served, "ccache")
    before = len(os.listdir("/proc/self/fd"))
    waiters = [Running(clients.make().lock, WRITE, WAIT) for _ in range(5)]
    clients.waiting(5)
    work.destroy()
    for waiter in waiters:
        refuses(cc.ccErrInvalidCCache, waiter.wait)
    for one in clients.contexts:
        one.release()
    clients.contexts.clear()
    waiters.clear()
    del waiter, one
    gc.collect()
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)


def test_lock_waiter_does_not_block_holder_or_others(context: cc.Context, served: Mounted) -> None:
    """A holds the lock, B waits for it: A's unlock and a third client's calls go through."""
    with (
        cc.initialize(mount=served.path) as a,
        cc.initialize(mount=served.path) as b,
        cc.initialize(mount=served.path) as third,
    ):
        work = context.create_ccache("work", V5, ALICE)
        a.lock(WRITE, NOW)
        waiter = Running(b.lock, WRITE, WAIT)
        eventually(lambda: lock_waiters(served.path / "lock") == 1)
        ccache = third.open_ccache("work")
        ccache.store_credentials(credential())
        assert [c.get_name() for c in third.new_ccache_iterator()] == ["work"]
        refuses(cc.ccErrContextLocked, third.lock, READ, NOW)
        work.set_default()
        a.unlock()
        waiter.wait()
        b.unlock()
        third.lock(WRITE, NOW)


HOLDER = """
import sys
from ccfs import ccapi as cc
context = cc.initialize(mount=sys.argv[1])
ccache = context.open_ccache("work")
context.lock(cc.cc_lock_write, cc.cc_lock_noblock)
ccache.lock(cc.cc_lock_write, cc.cc_lock_noblock)
print("locked", flush=True)
sys.stdin.read()
"""


def start(script: str, mount: Path) -> subprocess.Popen[str]:
    """A client process."""
    return subprocess.Popen(
        [sys.executable, "-c", script, str(mount)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("kind", ["context", "ccache"])
def test_killed_client_releases_locks(context: cc.Context, served: Mounted, kind: str) -> None:
    work = context.create_ccache("work", V5, ALICE)
    clients = Clients(served, kind)
    with start(HOLDER, served.path) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "locked\n"
            refuses(cc.ccErrContextLocked, context.lock, READ, NOW)
            refuses(cc.ccErrCCacheLocked, work.lock, READ, NOW)
            waiter = Running(clients.make().lock, WRITE, WAIT)
            clients.waiting(1)
        finally:
            process.send_signal(signal.SIGKILL)
    waiter.wait()
    clients.contexts[0].release()
    context.lock(WRITE, NOW)
    work.lock(WRITE, NOW)


FORKER = r"""
import os, sys
from ccfs import ccapi as cc
context = cc.initialize(mount=sys.argv[1])
ccache = context.open_ccache("work")
ccache.lock(cc.cc_lock_write, cc.cc_lock_noblock)
if os.fork() == 0:
    try:
        ccache.unlock()
    except cc.CCAPIError as error:
        os.write(1, error.name.encode() + b"\n")
    sys.stdin.read()
    os._exit(0)
ccache.lock(cc.cc_lock_downgrade, cc.cc_lock_noblock)
os.write(1, b"still mine\n")
os.kill(os.getpid(), 9)
"""


def test_forked_child_holds_no_lock(context: cc.Context, served: Mounted) -> None:
    work = context.create_ccache("work", V5, ALICE)
    with start(FORKER, served.path) as process:
        assert process.stdout is not None
        said = {process.stdout.readline() for _ in range(2)}
        assert said == {"ccErrCCacheUnlocked\n", "still mine\n"}
        process.wait(20)
        work.lock(WRITE, NOW)
        process.stdin.close()  # type: ignore[union-attr]
