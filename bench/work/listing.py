# SPDX-License-Identifier: MIT
"""Looking around: `ls -l` of many ccaches and of many credentials, and `cat` of one credential.

Cold is what the kernel has to ask the file system for: its entries and attributes are dropped
before (by mounting the mount again as it is, which drops those of this mount alone).  On tmpfs,
where the same names and texts are laid out in directories, there is nothing to drop.
"""

import ctypes
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.measure import Bench, Case, Cell, reason
from bench.peers.base import MissingError, Server
from bench.work.client import Client
from bench.work.operations import Sample, Servers
from bench.work.spawn import spawn

PART = "looking around"
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 2, 4, 8, 32
QUIET = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
FULL = "full"
PEERS = ("ccfs", "plain-fuse", "file")
"""In this order: the texts of ccfs are what is laid out on tmpfs."""


@dataclass(frozen=True, slots=True)
class Sight:
    """Something to look at: a command, and the mount it is in (None: no mount)."""

    work: str
    size: int
    command: list[str]
    mount: Path | None


def run(bench: Bench, servers: Servers, count: int) -> None:
    """All sights, cold and warm, on tmpfs and in the mounts."""
    found = []
    twin: Path | None = None
    for peer in PEERS:
        if peer in servers:
            server = servers[peer]
            try:
                with bench.guard.watching(120, server.pids, server.connection):
                    sights = [*ready(server, count, twin)]
            except Exception as error:
                bench.results.failures[Cell(PART, "ls -l", count, peer)] = reason(error)
                continue
            if peer == "ccfs" and server.root is not None:
                twin = server.root / "caches" / FULL / "credentials"
            for sight in sights:
                cell = Cell(PART, sight.work, sight.size, peer)
                found.append(Case(cell, server, sampler(sight)))
    bench.run(found, PART)


def ready(server: Server, count: int, texts: Path | None) -> Iterator[Sight]:
    """Fill a server; `texts` is where texts of credentials are, to be laid out beside."""
    client, mount = Client(server), server.root
    assert server.file is not None
    for number in range(count - 1):
        client.fill(f"listed-{number}", 1)
    client.fill(FULL, count)
    ccaches = server.file(FULL).parent.parent
    yield Sight("ls -l of ccaches", count, ["/bin/ls", "-l", str(ccaches)], mount)
    credentials = ccaches / FULL / "credentials"
    if not credentials.exists():
        if texts is None or mount is not None:
            return
        shutil.copytree(texts, credentials, copy_function=shutil.copyfile)
    yield Sight("ls -l of credentials", count, ["/bin/ls", "-l", str(credentials)], mount)
    one = credentials / sorted(os.listdir(credentials))[count // 2]
    yield Sight("cat of a credential", count, ["/bin/cat", str(one)], mount)


def sampler(sight: Sight) -> Sample:
    """The seconds of a process, cold and then warm."""

    def look() -> float:
        return spawn(sight.command, QUIET)

    def sample() -> dict[str, float]:
        if sight.mount is None:
            look()
            return {"warm": look()}
        forget(sight.mount)
        return {"cold": look(), "warm": look()}

    return sample


def forget(mount: Path) -> None:
    """Have the kernel drop what it knows of a mount's names, by mounting it again as it is."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = MS_REMOUNT | MS_NOSUID | MS_NODEV | MS_NOEXEC
    if libc.mount(None, os.fsencode(mount), None, flags, None) != 0:
        raise MissingError(f"can't drop what is cached: {os.strerror(ctypes.get_errno())}")
