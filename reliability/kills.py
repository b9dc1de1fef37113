# SPDX-License-Identifier: MIT
"""Kill the daemon over and over while four writers work: `python -m reliability.kills --count N`.

Each writer knows what was acknowledged and looks for it whenever the mount comes back.  One kill in
ten hits the replacement too, while it starts.  Every now and then, and at the end, the writers
stand still and the journal, read from a copy, must hold what the mount shows.
"""

import argparse
import math
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from ccfs.format.names import encode_name
from ccfs.journal.journal import Journal
from ccfs.store.snapshot import Saved, SavedCcache
from reliability import writers
from tests.support.background_mount import BackgroundMount, background_mount
from tests.support.clients.python import records
from tests.support.processes import children, parent

AGAIN = 0.1
"""How many of the kills are followed by one of the daemon that is about to replace it."""
WITNESS = [f"host/witness-{number}" for number in range(5)]


@dataclass
class Run:
    """One run: the place, the writers (process and pipe), and the times until an answer."""

    here: BackgroundMount
    random: random.Random
    gate: Path
    writers: list[tuple[int, int]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    again: int = 0
    checked: int = 0


def main() -> int:
    """Run, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="how often the daemon is killed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--check-every", type=int, default=50, help="kills between two checks")
    given = parser.parse_args()
    for line in kills(given.count, given.seed, given.check_every):
        print(line, flush=True)
    return 0


def kills(count: int, seed: int, every: int) -> list[str]:
    """Kill `count` times; returns the figures.  AssertionError, LostError where all is not well."""
    with background_mount("ccfs") as here:
        here.mount()
        chance = random.Random(seed)
        run = Run(here, chance, here.directory / "gate")
        run.gate.touch()
        witness = _begin(run)
        try:
            for number in range(1, count + 1):
                _kill(run)
                _check_witness(run, witness)
                if number % every == 0 or number == count:
                    _check_journal(run)
        finally:
            reports = _end(run)
        here.unmount()
        left = sorted(p.name for p in here.directory.iterdir())
        assert left == ["ccfs", "gate"], left
    return _figures(run, reports)


def _begin(run: Run) -> tuple[object, ...]:
    """Make the ccaches and start the writers; returns what must never change."""
    caches = run.here.path / "caches"
    (caches / "witness").mkdir()
    (caches / "witness" / "ccache").write_bytes(records.ccache(WITNESS))
    (run.here.path / "default").readlink()
    for seed, (name, step) in enumerate(writers.WAYS.items()):
        (caches / name).mkdir()
        generator = random.Random(run.random.random() + seed)
        writer = writers.Writer(run.here.path, name, step, run.gate, generator)
        run.writers.append(_start(writer))
    return _witness(run)


def _start(writer: writers.Writer) -> tuple[int, int]:
    reader, report = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        writers.run(writer, report)
    os.close(report)
    return pid, reader


def _witness(run: Run) -> tuple[object, ...]:
    """The identities and bytes of a ccache that no writer changes, and the list of all."""
    directory = run.here.path / "caches" / "witness"
    ident = [s for s in (directory / "info").read_text().splitlines() if s.startswith("id:")]
    ids, image = (directory / "ids").read_bytes(), (directory / "ccache").read_bytes()
    assert ident
    assert records.servers_in(image) == WITNESS
    listed = sorted(os.listdir(run.here.path / "by-id"))
    return ident, ids, image, listed, os.readlink(run.here.path / "default")


def _check_witness(run: Run, before: tuple[object, ...]) -> None:
    after = _witness(run)
    assert after == before, (after, before)


def _kill(run: Run) -> None:
    """Kill the daemon at a random moment and wait until another one answers."""
    time.sleep(run.random.random() * 0.3)
    old = run.here.info()
    supervisor_pid = parent(int(old["pid"]))
    began = time.monotonic()
    os.kill(int(old["pid"]), signal.SIGKILL)
    if run.random.random() < AGAIN:
        began = _kill_replacement(run, supervisor_pid, int(old["pid"])) or began
    _, new = run.here.come_back(old["server_id"])
    run.times.append(time.monotonic() - began)
    assert float(new["start_time"]) >= float(old["start_time"])
    assert new["pid"] != old["pid"]


def _kill_replacement(run: Run, supervisor_pid: int, dead: int) -> float | None:
    """Kill the daemon that is just starting; returns when, None where it was not seen."""
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline:
        for pid in children(supervisor_pid):
            if pid != dead:
                time.sleep(run.random.random() * 0.25)
                os.kill(pid, signal.SIGKILL)
                run.again += 1
                return time.monotonic()
    return None


def _check_journal(run: Run) -> None:
    """With the writers standing still, the journal has what the mount has."""
    with writers.standing_still(run.gate):
        saved = _saved(run.here)
        shown = {name: _shown(run.here.path / "caches" / name) for name in _names(run.here)}
    kept = {encode_name(c.name): _live(bytes(c.data)) for c in saved}
    assert kept == shown, {n for n in kept.keys() | shown.keys() if kept.get(n) != shown.get(n)}
    run.checked += 1


def _names(here: BackgroundMount) -> list[str]:
    return os.listdir(here.path / "caches")


def _shown(directory: Path) -> list[str]:
    file = directory / "ccache"
    return _live(file.read_bytes()) if "ccache" in os.listdir(directory) else []


def _live(image: bytes) -> list[str]:
    return records.servers_in(image, removed=True) if image else []


def _saved(here: BackgroundMount) -> tuple[SavedCcache, ...]:
    """Load the journal as the next daemon would, from a copy."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        path = shutil.copy(here.journal, directory)
        journal = Journal(path, fresh=False)
        try:
            saved: Saved = journal.load(str(here.path), os.getuid())
            return saved.ccaches
        finally:
            journal.close()


def _end(run: Run) -> list[str]:
    """Have the writers end and say what they did."""
    reports = []
    for pid, _ in run.writers:
        os.kill(pid, signal.SIGTERM)
    for pid, reader in run.writers:
        with os.fdopen(reader, "rb") as pipe:
            reports.append(pipe.read().decode())
        os.waitpid(pid, 0)
    return reports


def _figures(run: Run, reports: list[str]) -> list[str]:
    lost = [report for report in reports if not report.startswith("ok ")]
    assert not lost, lost
    counts = [tuple(map(int, report.split()[1:])) for report in reports]
    acknowledged, done, undone = map(sum, zip(*counts, strict=True))
    by_way = ", ".join(f"{n} {c[0]}" for n, c in zip(writers.WAYS, counts, strict=True))
    return [
        f"kills: {len(run.times)}, and {run.again} of the replacement while it started",
        f"steps acknowledged: {acknowledged} ({by_way}), all there; lost: 0, torn: 0",
        f"steps that a kill cut off: {done + undone}, done {done}, not done {undone}",
        f"journal and mount compared: {run.checked} times, the same",
        f"until the path answers: median {statistics.median(run.times):.3f} s,"
        f" 99 of 100 within {_within(run.times):.3f} s, worst {max(run.times):.3f} s",
    ]


def _within(times: list[float]) -> float:
    """The time that 99 of 100 have not exceeded."""
    return sorted(times)[max(0, math.ceil(len(times) * 0.99) - 1)]


if __name__ == "__main__":
    sys.exit(main())
