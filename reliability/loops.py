# SPDX-License-Identifier: MIT
"""Loops of the real klist, through FILE: and DIR:, while daemons are killed: what their users see.

Run as `python -m reliability.loops --count 20`.  Each loop counts its calls and those that failed.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.background_mount import BackgroundMount, background_mount
from tests.support.clients.python import records

APART = 1.0
"""Seconds between two kills."""
PROGRAM = "ccfs"
"""A `ccfs mount` that doesn't give up, however often its daemon dies."""
LOOP = """
calls=0 failed=0
while [ ! -e "$2" ]; do
    calls=$((calls + 1))
    klist "$1" >/dev/null 2>>"$2.said" || failed=$((failed + 1))
done
echo "$calls $failed"
"""


def loops(count: int) -> list[str]:
    """Kill `count` daemons under two loops; returns lines that say what came of it."""
    with background_mount(PROGRAM) as here:
        here.mount()
        (here.path / "default/ccache").write_bytes(records.ccache(["host/one", "host/two"]))
        stop = here.directory / "stop"
        running = [_start(name, stop) for name in _names(here)]
        for _ in range(count):
            old = here.info()
            time.sleep(APART)  # the loops are to run meanwhile
            os.kill(int(old["pid"]), signal.SIGKILL)
            here.come_back(old["server_id"])
        stop.touch()
        said = [process.communicate(timeout=60)[0].split() for process in running]
        errors = sorted({line for line in Path(f"{stop}.said").read_text().splitlines() if line})
        here.unmount()
    lines = [
        f"{kind}: {calls} calls, {failed} failed"
        for kind, (calls, failed) in zip(("FILE", "DIR"), said, strict=True)
    ]
    return [f"kills: {count}", *lines, *errors]


def _names(here: BackgroundMount) -> tuple[str, str]:
    return f"FILE:{here.path}/default/ccache", f"DIR:{here.path}/dir"


def _start(name: str, stop: Path) -> subprocess.Popen[str]:
    command = ["sh", "-c", LOOP, "sh", name, str(stop)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def main() -> int:
    """Run the command line; prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20, metavar="KILLS")
    print(*loops(parser.parse_args().count), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
