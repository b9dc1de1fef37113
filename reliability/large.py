# SPDX-License-Identifier: MIT
"""A mount with as much in it as a large one has, killed: `python -m reliability.large [--kills N]`.

1,024 ccaches and 60,000 credentials.  After each kill: seconds until the mount answers again, and
every byte of every ccache.
"""

import argparse
import hashlib
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from ccfs.linux import forked_call
from tests.support.background_mount import BackgroundMount, background_mount
from tests.support.clients.python import records
from tests.support.processes import resident

CCACHES, CREDENTIALS = 1024, 60_000
GOAL = 2.0
"""Seconds that a client may wait at most."""
CHECK_SECONDS = 300.0


@dataclass
class Figures:
    """Seconds until another daemon answered, and whether the content was the same, by kill."""

    fill: float = 0.0
    memory: int = 0
    back: list[float] = field(default_factory=list)
    same: list[bool] = field(default_factory=list)

    def good(self) -> bool:
        """Whether nothing changed, and no client waited longer than the goal."""
        return all(self.same) and max(self.back, default=0.0) < GOAL


def large(kills: int, ccaches: int = CCACHES, credentials: int = CREDENTIALS) -> Figures:
    """Fill a mount, kill its daemon so often, and compare; OSError where it does not answer."""
    found = Figures()
    with background_mount() as here:
        here.mount()
        began = time.monotonic()
        fill(here.path, ccaches, credentials)
        found.fill = time.monotonic() - began
        found.memory = resident(here.pid())
        before = forked_call.call(lambda: digest(here.path), CHECK_SECONDS)
        for _ in range(kills):
            found.back.append(kill(here))
            found.same.append(forked_call.call(lambda: digest(here.path), CHECK_SECONDS) == before)
        here.unmount()
    return found


def fill(mount: Path, ccaches: int, credentials: int) -> None:
    """Make the ccaches (the one that is there from the start counts), and spread credentials."""
    names = ["tkt", *(f"large-{number}" for number in range(ccaches - 1))]
    each, more = divmod(credentials, ccaches)
    for number, name in enumerate(names):
        directory = mount / "caches" / name
        directory.mkdir(exist_ok=True)
        servers = (f"host/{name}-{n}" for n in range(each + (number < more)))
        (directory / "ccache").write_bytes(records.ccache(servers))


def digest(mount: Path) -> bytes:
    """What stands for all names and bytes of all ccaches, and for all identifiers."""
    found = hashlib.sha256()
    for name in sorted(os.listdir(mount / "caches")):
        directory = mount / "caches" / name
        for part in ((directory / "ccache").read_bytes(), (directory / "ids").read_bytes()):
            found.update(f"{name} {len(part)} ".encode() + part)
    return found.digest()


def kill(here: BackgroundMount) -> float:
    """Kill the daemon; returns the seconds until a client that asks all the time has an answer.

    A client of a mount that is taken over waits in its first request; one of a mount that is made
    anew gets errors until then.
    """
    old = here.pid()
    began = time.monotonic()
    os.kill(old, signal.SIGKILL)
    forked_call.call(lambda: _wait(here, old), CHECK_SECONDS)
    return time.monotonic() - began


def _wait(here: BackgroundMount, old: int) -> bytes:
    while True:
        try:
            if here.pid() != old:
                return b""
        except OSError:
            time.sleep(0.001)


def main() -> int:
    """Run, and print the figures; 0 only where all is right and in time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--ccaches", type=int, default=CCACHES)
    parser.add_argument("--credentials", type=int, default=CREDENTIALS)
    given = parser.parse_args()
    found = large(given.kills, given.ccaches, given.credentials)
    print(f"ccaches {given.ccaches}, credentials {given.credentials}, filled in {found.fill:.1f} s")
    print(f"memory of the daemon: {found.memory / (1 << 20):.0f} MiB")
    for number, (back, same) in enumerate(zip(found.back, found.same, strict=True), 1):
        print(f"kill {number}: answers after {back:.2f} s, content {'same' if same else 'CHANGED'}")
    print("good" if found.good() else f"NOT GOOD: the goal is under {GOAL:.0f} s, and all the same")
    return 0 if found.good() else 1


if __name__ == "__main__":
    sys.exit(main())
