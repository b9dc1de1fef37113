# SPDX-License-Identifier: MIT
"""What tests of the CCAPI share: refusals, records, threads and waiters.

This file knows the client's interface, and of a mount no more than how it is started and asked.
"""

import contextlib
import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ccfs import ccapi as cc
from tests.support.mounting import Mounted, ccfs_command, first_line, tear_down

V5 = cc.cc_credentials_v5
ALICE = "alice@EXAMPLE.COM"
BOB = "bob@EXAMPLE.COM"
WAIT_SECONDS = 20.0


def refuses(code: int, call: Callable[..., object], *arguments: object) -> None:
    """Assert that a call fails with a code, under the header's name for it."""
    with pytest.raises(cc.CCAPIError) as caught:
        call(*arguments)
    assert (caught.value.code, caught.value.name) == (code, cc.CCAPIError(code).name)


def credential(server: str = "http/www.example.com@EXAMPLE.COM", **fields: Any) -> Any:
    """A credential that a caller may store; `fields` replace those of the record."""
    chance = random.Random(server)
    record = {
        "client": ALICE,
        "server": server,
        "keyblock": cc.cc_data(18, chance.randbytes(32)),
        "authtime": 1_700_000_000,
        "starttime": 1_700_000_001,
        "endtime": 4_000_000_000,
        "renew_till": 4_000_000_001,
        "is_skey": 0,
        "ticket_flags": 0x40E10000,
        "addresses": [cc.cc_data(2, b"\x7f\0\0\1")],
        "ticket": cc.cc_data(0, chance.randbytes(300)),
        "second_ticket": cc.cc_data(0, b""),
        "authdata": [cc.cc_data(1, b"authdata")],
    }
    return cc.cc_credentials_union(V5, cc.cc_credentials_v5_t(**(record | fields)))  # type: ignore[arg-type]


def servers(ccache: cc.CCache) -> list[str | None]:
    """The server principals of a ccache's credentials in stored order."""
    found = (c.data.credentials_v5 for c in ccache.new_credentials_iterator())
    return [record.server for record in found if record]


class Running:
    """A call in a thread of its own: what it returned or raised, within a bound."""

    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self.result: object = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(call, arguments), daemon=True)
        self._thread.start()

    def _run(self, call: Callable[..., object], arguments: tuple[object, ...]) -> None:
        try:
            self.result = call(*arguments)
        except BaseException as error:
            self.error = error

    @property
    def done(self) -> bool:
        """Whether it has come back."""
        return not self._thread.is_alive()

    def wait(self) -> object:
        """The thread's result; raises its exception."""
        self._thread.join(WAIT_SECONDS)
        assert self.done, "the call has not come back"
        if self.error is not None:
            raise self.error
        return self.result


def eventually(true: Callable[[], bool]) -> None:
    """Wait until something is so, within a bound."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not true():
        assert time.monotonic() < deadline, "it has not come to be"
        time.sleep(0.001)


def polls(mounted: Mounted) -> int:
    """How often the kernel has asked this mount's daemon to tell of news."""
    requests = json.loads((mounted.path / "stats").read_bytes())["requests"]
    assert isinstance(requests["poll"], int)
    return requests["poll"]


@contextlib.contextmanager
def parked(mounted: Mounted, waiters: int) -> Iterator[None]:
    """Leave the body only when so many waiters more wait for news of a mount."""
    wanted = polls(mounted) + waiters
    yield
    eventually(lambda: polls(mounted) >= wanted)


def lock_waiters(file: Path) -> int:
    """How many wait for a lock on a file, by the kernel's table (proc(5), /proc/locks)."""
    status = os.stat(file)
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    lines = Path("/proc/locks").read_text().splitlines()
    return sum("->" in line and place in line.split() for line in lines)


def restart(mounted: Mounted, *options: str) -> None:
    """Take the mount away, however its daemon is, and mount anew on the same path."""
    tear_down(mounted.path, mounted.process)
    command = [*ccfs_command(), "mount", "--foreground", *options, str(mounted.path)]
    with mounted.log.open("a") as stderr:
        mounted.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
    assert mounted.process.stdout is not None
    assert first_line(mounted.process.stdout, WAIT_SECONDS).startswith("export")
