"""A run: the peers that start, the parts in their order, and what is written.

This file knows names of parts and peers, never how anything is measured.
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.guard import Guard
from bench.measure import Bench, Results, reason
from bench.options import PARTS, WORKS
from bench.peers import BY_KEY, PEERS
from bench.peers.base import Peer, Server, Site
from bench.report import tables
from bench.work import operations, requests


def carry_out(given: argparse.Namespace) -> int:
    """Run what was asked for; the exit status."""
    wrong = _unknown(given)
    if wrong:
        print(f"bench: {wrong}", file=sys.stderr)
        return 2
    chosen = [BY_KEY[key] for key in given.peers] if given.peers else [*PEERS]
    repetitions = given.repetitions or (2 if given.short else 60)
    guard = Guard()
    bench = Bench(Results(), guard, repetitions, given.seconds, given.short)
    try:
        with tempfile.TemporaryDirectory(prefix="b", dir="/dev/shm") as directory:
            tempfile.tempdir = directory
            _parts(bench, given, chosen, Site(Path(directory)))
    finally:
        guard.close()
    print(tables(bench.results))
    return 0


def _unknown(given: argparse.Namespace) -> str:
    """What was asked for and isn't there; empty where all is well."""
    for words, known in ((given.only, PARTS), (given.peers, BY_KEY), (given.works, WORKS)):
        for word in words or ():
            if word not in known:
                return f"no {word!r}; there are {', '.join(known)}"
    return ""


def _parts(bench: Bench, given: argparse.Namespace, chosen: Sequence[Peer], site: Site) -> None:
    only = given.only or PARTS
    works = given.works or WORKS
    sizes = given.sizes or ((1, 5) if given.short else operations.SIZES)
    with started(bench, chosen, site) as servers:
        if "requests" in only:
            requests.run(bench, servers, sizes, works)
        if "operations" in only:
            operations.run(bench, servers, sizes, works)


@contextlib.contextmanager
def started(bench: Bench, chosen: Sequence[Peer], site: Site) -> Iterator[dict[str, Server]]:
    """The peers that start; of the others, why they don't."""
    servers: dict[str, Server] = {}
    with contextlib.ExitStack() as stack:
        for peer in chosen:
            try:
                servers[peer.key] = stack.enter_context(peer.start(site.below(peer.key)))
            except Exception as error:
                bench.results.missing[peer.key] = reason(error)
                bench.say(f"{peer.title}: left out: {reason(error)}")
        yield servers
