# SPDX-License-Identifier: MIT
"""Clients of the CCAPI that are killed while they hold locks, iterators and files.

`python -m reliability.dying_clients MOUNTPOINT [--count N]` prints what the server holds before and
after; the two must be the same.  The mount must have an initialised ccache `work`.
"""

import argparse
import json
import os
import signal
from pathlib import Path

from ccfs import ccapi as cc


def held(mount: Path) -> tuple[int, int, int]:
    """Open handles, descriptors and resident memory (kB) of the server."""
    said = dict(line.split(": ", 1) for line in (mount / "info").read_text().splitlines())
    status = Path(f"/proc/{said['pid']}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    handles = json.loads((mount / "stats").read_text())["open_handles"]
    return handles, len(os.listdir(f"/proc/{said['pid']}/fd")), int(resident.split()[1])


def live_and_die(mount: Path) -> None:
    """One client: open, lock, iterate, and be killed."""
    context = cc.initialize(mount=str(mount))
    ccache = context.open_ccache("work")
    context.lock(cc.cc_lock_read, cc.cc_lock_noblock)
    ccache.lock(cc.cc_lock_read, cc.cc_lock_noblock)
    context.new_ccache_iterator().next()
    kept = [os.open(mount / name, os.O_RDWR) for name in ("new", "lock")]
    kept.append(os.open(mount / "events", os.O_RDONLY))
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Let so many clients die, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mountpoint", type=Path)
    parser.add_argument("--count", type=int, default=10_000)
    given = parser.parse_args()
    print("before: handles, descriptors, kB:", *held(given.mountpoint), flush=True)
    for _ in range(given.count):
        child = os.fork()
        if child == 0:
            live_and_die(given.mountpoint)
        os.waitpid(child, 0)
    print("after:  handles, descriptors, kB:", *held(given.mountpoint))


if __name__ == "__main__":
    main()
