# SPDX-License-Identifier: MIT
"""A journal of many credentials: how long it takes to load, and how much memory.

    python -m reliability.full_journal [--records 100000] [--ticket 700] [--turns 5]

Each turn is a new process, as a daemon that replaces a killed one.
"""

import argparse
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ccfs.journal.journal import Journal
from ccfs.store import Limits, Store
from tests.support.storing import at, prefix, record

_LIMITS = Limits(ccache_bytes=1 << 30, total_bytes=1 << 31)
_MOUNTPOINT = "/mnt"


def make(path: str, records: int, ticket: int) -> int:
    """Write the journal; returns the bytes of one record."""
    store = Store(_LIMITS, at())
    parts = [
        record(b"host/%d@R" % n, endtime=2_000_000_000 + n, ticket=b"t" * ticket)
        for n in range(records)
    ]
    store.put(b"tkt", b"".join([prefix(), *parts]), at())
    journal = Journal(path, fresh=True)
    journal.create(_MOUNTPOINT, 0, store)
    journal.close()
    return len(parts[0])


def load(path: str) -> str:
    """Load it as a daemon does: seconds of CPU, and bytes of memory more than before."""
    gc.disable()
    before, began = _resident(), time.process_time()
    journal = Journal(path, fresh=False)
    store = Store(_LIMITS, at(), journal.load(_MOUNTPOINT, 0))
    text = f"{time.process_time() - began:.3f} {_resident() - before}"
    journal.close()
    assert store.record_count
    return text


def _resident() -> int:
    """Bytes of memory, without the journal's own, which is mapped (proc(5), /proc/PID/statm)."""
    _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
    return (resident - shared) * os.sysconf("SC_PAGESIZE")


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--ticket", type=int, default=6, help="bytes of each ticket")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--load", metavar="PATH", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        print(load(arguments.load))
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        path = os.path.join(directory, "journal")
        size = make(path, arguments.records, arguments.ticket)
        command = [sys.executable, "-m", "reliability.full_journal", "--load", path]
        turns = [
            subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            for _ in range(arguments.turns)
        ]
    seconds = [float(turn[0]) for turn in turns]
    memory = statistics.median(int(turn[1]) for turn in turns) / arguments.records
    print(
        f"{arguments.records} records of {size} bytes: {statistics.median(seconds):.2f} s of CPU"
        f" ({min(seconds):.2f} to {max(seconds):.2f}), {memory:.0f} bytes of memory each"
    )


if __name__ == "__main__":
    _main()
