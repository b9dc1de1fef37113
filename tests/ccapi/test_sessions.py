# SPDX-License-Identifier: MIT
"""One user in several sessions, and different users: who shares a server, and what a death leaves.

The test plan of the 2008 design for Windows: threads and whole sessions are killed while they hold
locks and wait; afterwards locks are free, waiters are answered, and the next call works.
"""

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from ccfs import ccapi as cc
from tests.support import isolation
from tests.support.ccapi import ALICE, V5, Running, credential, eventually, refuses, servers
from tests.support.isolation import OTHERS, OWNED, IsolatedMounts
from tests.support.mounting import Mounted
from tests.support.require import missing, require

WRITE, NOW, WAIT = cc.cc_lock_write, cc.cc_lock_noblock, cc.cc_lock_block
TOO_LONG = 30

SESSION = """
import sys, threading
from ccfs import ccapi as cc
mount, name = sys.argv[1:3]
def client(number):
    context = cc.initialize(mount=mount)
    mine = context.create_ccache(f"{name}-{number}", cc.cc_credentials_v5, "alice@EXAMPLE.COM")
    mine.lock(cc.cc_lock_write, cc.cc_lock_noblock)
    shared = context.open_ccache("shared")
    shared.lock(cc.cc_lock_read, cc.cc_lock_noblock)
    shared.wait_for_change()
    ready.release()
    while True:
        shared.wait_for_change()
        told.release()
ready, told = threading.Semaphore(0), threading.Semaphore(0)
for number in range(3):
    threading.Thread(target=client, args=(number,), daemon=True).start()
for number in range(3):
    ready.acquire()
print("ready", flush=True)
while True:
    for number in range(3):
        told.acquire()
    print("told", flush=True)
"""

VISITOR = """
import sys
from ccfs import ccapi as cc
try:
    context = cc.initialize(mount=sys.argv[1])
    print(context.get_default_ccache_name(), context.open_ccache("tkt").get_principal(2))
except cc.CCAPIError as error:
    print(error.name)
"""


def session(mount: Mounted, name: str) -> subprocess.Popen[str]:
    """A session of its own with three clients in three threads, waiting for a change."""
    command = [sys.executable, "-c", SESSION, str(mount.path), name]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    """Kill a whole session."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(TOO_LONG)
    assert process.stdout is not None
    process.stdout.close()


def handles(mount: Mounted) -> int:
    """How many files are open in the server."""
    lines = (mount.path / "stats").read_text().splitlines()
    return int(next(line for line in lines if "open_handles" in line).strip(' ,"').split()[-1])


def test_killed_session_does_not_disturb_another(mount: Mounted) -> None:
    context = cc.initialize(mount=mount.path)
    shared = context.create_ccache("shared", V5, ALICE)
    one, other = session(mount, "one"), session(mount, "other")
    try:
        refuses(cc.ccErrCCacheLocked, shared.lock, WRITE, NOW)
        refuses(cc.ccErrCCacheLocked, context.open_ccache("one-2").lock, WRITE, NOW)
        waiter = Running(context.open_ccache("one-1").lock, WRITE, WAIT)
        before = handles(mount)
        end(one)
        waiter.wait()
        eventually(lambda: handles(mount) < before)
        for number in range(3):
            assert context.open_ccache(f"one-{number}").get_principal(V5) == ALICE
        refuses(cc.ccErrCCacheLocked, context.open_ccache("other-0").lock, WRITE, NOW)
        shared.store_credentials(credential())
        assert other.stdout is not None
        assert other.stdout.readline() == "told\n"
    finally:
        end(one)
        end(other)
    shared.lock(WRITE, NOW)
    assert len(servers(shared)) == 1


def test_ended_thread_releases_locks(mount: Mounted) -> None:
    """Its context has no owner any more; the context's locks are released."""
    context = cc.initialize(mount=mount.path)
    work = context.create_ccache("work", V5, ALICE)

    def die() -> None:
        mine = cc.initialize(mount=mount.path)
        mine.lock(WRITE, NOW)
        mine.open_ccache("work").lock(WRITE, NOW)
        raise RuntimeError("dies")

    thread = Running(die)
    eventually(lambda: thread.done)
    thread.error = None
    gc.collect()
    context.lock(WRITE, NOW)
    work.lock(WRITE, NOW)


@pytest.fixture(scope="module")
def isolated() -> Iterator[IsolatedMounts]:
    if os.geteuid() != 0:
        missing("root", "run the tests as root", "only root can become another user")
    require("util-linux", "apt install util-linux", ["setpriv", "unshare", "nsenter"])
    with isolation.isolated() as made:
        made.run([*OWNED, "sh", "-c", f"echo {ALICE} > {made.top('plain')}/caches/tkt/principal"])
        yield made


def test_client_of_another_user_is_refused(isolated: IsolatedMounts) -> None:
    """The owner's sessions share a server; another user's client does not trust it."""
    visit = ["/usr/bin/python3", "-c", VISITOR, str(isolated.top("plain"))]
    assert isolated.run([*OWNED, *visit]) == f"tkt {ALICE}\n"
    assert isolated.run([*OWNED, "setsid", "--wait", *visit]) == f"tkt {ALICE}\n"
    assert isolated.run([*OTHERS, *visit]) == "ccErrServerInsecure\n"
    assert isolated.run(visit) == "ccErrServerInsecure\n"
