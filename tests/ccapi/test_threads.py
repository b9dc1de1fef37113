# SPDX-License-Identifier: MIT
"""Many clients at once, in threads and in processes: nothing is lost, nothing is torn."""

import contextlib
import subprocess
import sys
import threading
from collections import Counter

from ccfs import ccapi as cc
from tests.support.ccapi import ALICE, V5, Running, credential, servers
from tests.support.mounting import Mounted

pytest_plugins = ["tests.support.ccapi_fixtures"]

THREADS = 8
ROUNDS = 25
WRITE, NOW, WAIT = cc.cc_lock_write, cc.cc_lock_noblock, cc.cc_lock_block


def test_contexts_in_many_threads_are_independent(context: cc.Context, served: Mounted) -> None:
    shared = context.create_ccache("shared", V5, ALICE)
    started = threading.Barrier(THREADS)

    def client(number: int) -> None:
        started.wait(20)
        with cc.initialize(mount=served.path) as mine:
            own = mine.create_new_ccache(V5, ALICE)
            common = mine.open_ccache("shared")
            for n in range(ROUNDS):
                common.store_credentials(credential(f"{number}/{n}@R"))
                own.store_credentials(credential(f"own/{n}@R"))
            assert servers(own) == [f"own/{n}@R" for n in range(ROUNDS)]
            own.destroy()

    clients = [Running(client, number) for number in range(THREADS)]
    for one in clients:
        one.wait()
    found = servers(shared)
    assert Counter(found) == Counter(f"{t}/{n}@R" for t in range(THREADS) for n in range(ROUNDS))
    for number in range(THREADS):
        mine = [name for name in found if name and name.startswith(f"{number}/")]
        assert mine == [f"{number}/{n}@R" for n in range(ROUNDS)]
    assert [ccache.get_name() for ccache in context.new_ccache_iterator()] == ["shared"]


def test_new_ccache_names_are_unique_across_threads(context: cc.Context, served: Mounted) -> None:
    def client() -> list[str]:
        with cc.initialize(mount=served.path) as mine:
            return [mine.create_new_ccache(V5, ALICE).get_name() for _ in range(ROUNDS)]

    clients = [Running(client) for _ in range(THREADS)]
    found = [name for one in clients for name in one.wait()]  # type: ignore[attr-defined]
    assert len(set(found) - {"tkt"}) >= THREADS * ROUNDS - THREADS
    assert len({c.get_name() for c in context.new_ccache_iterator()}) == len(set(found))


def test_iterators_stay_consistent_under_changes(context: cc.Context, served: Mounted) -> None:
    ccache = context.create_ccache("work", V5, ALICE)
    kept = [f"kept/{n}@R" for n in range(30)]
    for name in kept:
        ccache.store_credentials(credential(name))
        context.create_ccache(name, V5, ALICE)
    done = threading.Event()

    def churn() -> None:
        with cc.initialize(mount=served.path) as mine:
            work = mine.open_ccache("work")
            while not done.is_set():
                work.store_credentials(credential("passing/x@R"))
                mine.create_ccache("passing", V5, ALICE).set_default()
                gone = next(
                    c
                    for c in work.new_credentials_iterator()
                    if c.data == credential("passing/x@R")
                )
                work.remove_credentials(gone)
                mine.open_ccache("passing").destroy()

    churner = Running(churn)
    try:
        for _ in range(15):
            found = [name for name in servers(ccache) if name != "passing/x@R"]
            assert found == kept
            names = Counter(names_of(context))
            assert all(names[name] == 1 for name in [*kept, "work"])
            assert names["passing"] <= 1
    finally:
        done.set()
    churner.wait()


def names_of(context: cc.Context) -> list[str]:
    """The names of the ccaches that are still there once they are listed."""
    found = []
    for ccache in context.new_ccache_iterator():
        with contextlib.suppress(cc.CCAPIError):
            found.append(ccache.get_name())
    return found


def test_handles_follow_ccaches_renamed_meanwhile(context: cc.Context, served: Mounted) -> None:
    made = [context.create_ccache(name, V5, f"{name}@R") for name in "ab"]
    for ccache in made:
        ccache.store_credentials(credential("kept/x@R"))
    caches, swaps = served.path / "caches", threading.Semaphore(0)

    def swap(times: int) -> None:
        for _ in range(times):
            assert swaps.acquire(timeout=20)
            (caches / "a").rename(caches / "c")
            (caches / "b").rename(caches / "a")
            (caches / "c").rename(caches / "b")

    swapper = Running(swap, ROUNDS * 2 * 4)
    for n in range(ROUNDS):
        for name, ccache in zip("ab", made, strict=True):
            swaps.release()
            assert ccache.get_principal(V5) == f"{name}@R"
            swaps.release()
            ccache.store_credentials(credential(f"{name}/{n}@R"))
            swaps.release()
            ccache.set_principal(V5, f"{name}@R")
            swaps.release()
            ccache.remove_credentials(ccache.new_credentials_iterator().next())
            assert servers(ccache) == [f"{name}/{n}@R"]
    swapper.wait()


COUNTER = """
import sys
from ccfs import ccapi as cc
from ccfs.ccapi import cc_credentials_v5 as V5
context = cc.initialize(mount=sys.argv[1])
ccache = context.open_ccache("counter")
for _ in range(int(sys.argv[2])):
    ccache.lock(cc.cc_lock_write, cc.cc_lock_block)
    ccache.set_kdc_time_offset(V5, ccache.get_kdc_time_offset(V5) + 1)
    ccache.unlock()
"""


def test_write_lock_excludes_other_processes(context: cc.Context, served: Mounted) -> None:
    """Read, add one, write: without the lock the processes lose each other's steps."""
    counter = context.create_ccache("counter", V5, ALICE)
    counter.set_kdc_time_offset(V5, 0)
    clients = [
        subprocess.Popen([sys.executable, "-c", COUNTER, str(served.path), str(ROUNDS)])
        for _ in range(4)
    ]
    try:
        assert [client.wait(60) for client in clients] == [0] * 4
    finally:
        for client in clients:
            client.kill()
            client.wait()
    assert counter.get_kdc_time_offset(V5) == 4 * ROUNDS


def test_upgrades_and_downgrades_of_many_clients_end(context: cc.Context, served: Mounted) -> None:
    context.create_ccache("counter", V5, ALICE).set_kdc_time_offset(V5, 0)

    def client() -> None:
        with cc.initialize(mount=served.path) as mine:
            counter = mine.open_ccache("counter")
            for _ in range(ROUNDS):
                counter.lock(WRITE, WAIT)
                counter.set_kdc_time_offset(V5, counter.get_kdc_time_offset(V5) + 1)
                counter.lock(cc.cc_lock_downgrade, NOW)
                seen = counter.get_kdc_time_offset(V5)
                assert counter.get_kdc_time_offset(V5) == seen
                counter.unlock()

    clients = [Running(client) for _ in range(4)]
    for one in clients:
        one.wait()
    assert context.open_ccache("counter").get_kdc_time_offset(V5) == 4 * ROUNDS
