# SPDX-License-Identifier: MIT
"""The daemon under more requests than it can answer: it ends, keeps time and wakes who waits.

Both loops, our own and trio's as it comes, must do all of it.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ccfs.linux import mountinfo
from tests.support.mounting import TMPFS, Mounted, fusectl, is_mounted, run_ccfs, tear_down
from tests.support.shell import wait_until, waiting
from tests.support.storing import prefix, record

SECONDS = 20
CLIENTS = 4
THREADS = 250
ROUNDS = 40
"""10,000 requests are withdrawn in all."""

FLOOD = """
import os, sys
os.write(1, b"x\\n")
try:
    while True:
        os.stat(sys.argv[1])
except OSError:
    pass
"""


@contextlib.contextmanager
def flood(mount: Mounted) -> Iterator[None]:
    """Processes that ask without end, each for the attributes of what the kernel may not keep."""
    command = [sys.executable, "-S", "-c", FLOOD, str(mount.path / "stats")]
    with contextlib.ExitStack() as stack:
        for _ in range(CLIENTS):
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == b"x\n"
        yield


def terminate(mount: Mounted) -> None:
    mount.process.send_signal(signal.SIGTERM)


def unmount(mount: Mounted) -> None:
    assert run_ccfs("unmount", mount.path).returncode == 0


def abort(mount: Mounted) -> None:
    found = mountinfo.topmost(str(mount.path))
    assert found is not None
    with fusectl() as directory:
        (directory / str(found.connection) / "abort").write_text("1")


@pytest.mark.parametrize(
    "end", [terminate, unmount, pytest.param(abort, marks=pytest.mark.expects_warnings)]
)
@pytest.mark.parametrize("busy", [True, False], ids=["busy", "idle"])
def test_mount_ends_under_load(mount: Mounted, end: Callable[[Mounted], None], busy: bool) -> None:
    with flood(mount) if busy else contextlib.nullcontext():
        end(mount)
        status = mount.process.wait(SECONDS)
    cut = end is abort
    assert (status != 0) is cut
    if cut:
        tear_down(mount.path, mount.process)
        mount.process.returncode = 0
    assert not is_mounted(mount.path)


def test_waiters_and_expiry_are_served_under_load(mount: Mounted) -> None:
    """The notifier's answers and the daemon's timer, while there is no end of requests."""
    soon = int(time.time()) + 2
    with waiting(mount.path, "changed") as [waiter], flood(mount):
        (mount.path / "dir/tkt").write_bytes(prefix() + record(endtime=soon))
        assert waiter.wait(SECONDS) == 0
        events = mount.path / "events"
        wait_until(lambda: b"\texpired\t" in events.read_bytes(), "nothing expires")
        with waiting(mount.path, "caches/tkt/changed") as [second]:
            (mount.path / "caches/tkt/ccache").unlink()
            assert second.wait(SECONDS) == 0


def test_withdrawn_requests_do_not_block_daemon() -> None:
    """Ten thousand requests that are there at the daemon's poll(2) and gone at its read(2).

    The read waits for nothing then; with no other request coming it must be given up.
    """
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=TMPFS)))
        command = [sys.executable, "-m", "tests.support.withdrawing", str(place)]
        daemon = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        )
        stack.callback(tear_down, place, daemon)  # type: ignore[arg-type]
        control = stack.enter_context(fusectl())
        held = Held(daemon)
        held.say_ready()
        found = mountinfo.topmost(str(place))
        assert found is not None
        pending = control / str(found.connection) / "waiting"
        held.serve(lambda: os.stat(place / "stats"))
        for _ in range(ROUNDS):
            die_asking(place / "stats", pending, held)
            held.let_go()
            held.expect(b"w")
        held.end()
        assert (place / "stats").stat().st_size
        daemon.terminate()
        assert daemon.wait(SECONDS) == 0


class Held:
    """The daemon's side of it: it goes on when it is told to."""

    def __init__(self, daemon: subprocess.Popen[bytes]) -> None:
        assert daemon.stdin is not None
        assert daemon.stdout is not None
        self._orders, self._says = daemon.stdin, daemon.stdout
        self._poll = select.poll()
        self._poll.register(self._says, select.POLLIN)

    def say_ready(self) -> None:
        assert self._says.readline() == b"ready\n"
        self.expect(b"w")

    def expect(self, word: bytes) -> None:
        assert self._poll.poll(SECONDS * 1000), f"the daemon never says {word!r}"
        assert self._says.read(1) == word

    def let_go(self) -> None:
        self._orders.write(b"x")

    def serve(self, ask: Callable[[], object]) -> None:
        """Have what `ask` asks answered."""
        asking = threading.Thread(target=ask)
        asking.start()
        while asking.is_alive() or self._poll.poll(0):
            if self._poll.poll(10) and self._says.read(1) == b"s":
                self.let_go()
        asking.join()

    def end(self) -> None:
        """Hold nothing any more."""
        self._orders.close()


def die_asking(path: Path, pending: Path, held: Held) -> None:
    """A process with many threads, each of them waiting for an answer, is killed."""
    child = os.fork()
    if child == 0:
        for _ in range(THREADS - 1):
            threading.Thread(target=os.stat, args=(path,), daemon=True).start()
        os.stat(path)
        os._exit(0)
    try:
        held.expect(b"s")
        wait_until(lambda: int(pending.read_text()) == THREADS, "they don't all ask")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert int(pending.read_text()) == 0
