# SPDX-License-Identifier: MIT
"""A run: the parts in their order, each with peers started anew, and what is written.

This file knows names of parts and peers, never how anything is measured.
"""

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.guard import Guard
from bench.keep import save
from bench.machine import Machine, describe
from bench.measure import Bench, Results, reason
from bench.options import scale
from bench.peers import BY_KEY, PEERS
from bench.peers.base import MissingError, Peer, Server, Workspace
from bench.report import goal_table, tables
from bench.scale import PARTS, WORKS, Scale
from bench.work import crowd, growth, listing, operations, processes, requests, servers, wire
from bench.work.operations import Servers
from tests.support.kdc import Kdc, running_kdc

TMPFS = Path("/dev/shm")
SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Run:
    """The parts and peers to measure, and the directory to work in."""

    bench: Bench
    scale: Scale
    works: Sequence[str]
    chosen: Sequence[Peer]
    directory: Path
    kdc: Kdc | None = None

    def workspace(self, part: str) -> Workspace:
        """A fresh directory for a part."""
        return Workspace(self.directory, self.kdc.port if self.kdc else None).below(part)

    def rounds(self) -> Bench:
        """The same for figures of which each is made of many operations."""
        return replace(self.bench, repetitions=self.scale.rounds)

    @contextlib.contextmanager
    def started(self, part: str, only: Sequence[str] = ()) -> Iterator[Servers]:
        """The peers that start; of the others, why they don't."""
        there: dict[str, Server] = {}
        workspace = self.workspace(part)
        with contextlib.ExitStack() as stack:
            for peer in self.chosen:
                if not only or peer.key in only:
                    try:
                        started = peer.start(workspace.below(peer.key))
                        there[peer.key] = stack.enter_context(started)
                    except Exception as error:
                        self.left_out(peer, error)
            yield there

    def left_out(self, peer: Peer, error: Exception) -> None:
        """A peer that can't be started."""
        why = str(error) if isinstance(error, MissingError) else reason(error)
        if peer.key not in self.bench.results.missing:
            self.bench.say(f"{peer.title}: left out: {why}")
        self.bench.results.missing[peer.key] = why


def _requests(run: Run) -> None:
    with run.started("requests") as there:
        requests.run(run.bench, there, run.scale.sizes, run.works)


def _operations(run: Run) -> None:
    with run.started("operations") as there:
        operations.run(run.bench, there, run.scale.sizes, run.works)


def _growth(run: Run) -> None:
    with run.started("growth") as there:
        bench = replace(run.bench, seconds=run.bench.seconds / 3)
        growth.credentials(bench, there, run.scale.growth)
    with run.started("growth-ccaches") as there:
        growth.ccaches(run.bench, there, run.scale.ccaches)


def _processes(run: Run) -> None:
    krb5kdc = processes.program("krb5kdc")
    with running_kdc(krb5kdc) as run.kdc, run.started("processes") as there:
        processes.run(run.bench, there, run.kdc, run.directory)
    run.kdc = None


def _wire(run: Run) -> None:
    speaking = [peer.key for peer in run.chosen if peer.title.endswith("KCM")]
    speaking += ["sssd", "heimdal", "plain-kcm"]
    with run.started("wire", speaking) as there:
        wire.run(run.bench, there, run.scale.wire)


def _crowd(run: Run) -> None:
    with run.started("crowd") as there:
        crowd.run(run.rounds(), there, run.scale.crowd_seconds)


def _listing(run: Run) -> None:
    with run.started("listing", listing.PEERS) as there:
        listing.run(run.bench, there, run.scale.listed)


def _servers(run: Run) -> None:
    with run.started("servers") as there:
        servers.run(run.rounds(), there, run.scale)


def _starts(run: Run) -> None:
    serving = [peer.key for peer in run.chosen if peer.key not in ("file", "dir", "keyring")]
    serving = [key for key in serving if key not in run.bench.results.missing]
    servers.starts(run.rounds(), serving, run.workspace("starts"))


DOES: dict[str, Callable[[Run], None]] = {
    "requests": _requests,
    "operations": _operations,
    "growth": _growth,
    "processes": _processes,
    "wire": _wire,
    "crowd": _crowd,
    "listing": _listing,
    "servers": _servers,
    "starts": _starts,
}


def carry_out(given: argparse.Namespace) -> int:
    """Run what was asked for; the exit status."""
    wrong = _unknown(given)
    if wrong:
        print(f"bench: {wrong}", file=sys.stderr)
        return 2
    os.environ["PATH"] = f"{SYSTEM}:{os.environ['PATH']}"
    size, results, guard = scale(given), Results(), Guard()
    machine = describe(size)
    bench = Bench(results, guard, size.repetitions, size.seconds)
    chosen = [BY_KEY[key] for key in given.peers] if given.peers else [*PEERS]
    try:
        with tempfile.TemporaryDirectory(prefix="b", dir=TMPFS) as directory:
            tempfile.tempdir = directory
            run = Run(bench, size, given.works or WORKS, chosen, Path(directory))
            for part in given.only or PARTS:
                _part(run, part)
                _write(given.output, results, machine)
    finally:
        tempfile.tempdir = None
        guard.close()
    _draw(None if given.short else given.output, results)
    reached = goal_table(results, measured=True)
    print(tables(results) + (f"\n\n## Goals\n\n{reached}" if reached else ""))
    return 0


def _part(run: Run, part: str) -> None:
    """One part; what goes wrong in it is said, and the others go on."""
    try:
        DOES[part](run)
    except Exception as error:
        run.bench.results.missing[f"part {part}"] = reason(error)
        run.bench.say(f"{part}: {reason(error)}")


def _write(output: Path | None, results: Results, machine: Machine) -> None:
    """What there is so far."""
    if output is not None:
        save(output, results, machine)


def _draw(output: Path | None, results: Results) -> None:
    """The plots, where matplotlib is installed."""
    if output is None:
        return
    try:
        from bench.plot import draw
    except ImportError:
        print("bench: no plots: no matplotlib (make bench installs it)", file=sys.stderr)
        return
    draw(results, output)


def _unknown(given: argparse.Namespace) -> str:
    """What was asked for and isn't there; empty where all is well."""
    for words, known in ((given.only, PARTS), (given.peers, BY_KEY), (given.works, WORKS)):
        for word in words or ():
            if word not in known:
                return f"no {word!r}; there are {', '.join(known)}"
    return ""
