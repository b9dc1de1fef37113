# SPDX-License-Identifier: MIT
"""ccfs, through each of its doors; a mount of its own for each.

This file knows the command `ccfs mount` and the names in a mount.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.peers.base import Server, Workspace, process, wait_for
from bench.peers.files import dir_server


def command(*arguments: str | Path) -> list[str]:
    """The `ccfs` that belongs to this Python."""
    script = Path(sys.executable).with_name("ccfs")
    start = [str(script)] if script.exists() else [sys.executable, "-m", "ccfs"]
    return [*start, *map(str, arguments)]


@contextlib.contextmanager
def mounted(workspace: Workspace, *options: str | Path) -> Iterator[tuple[Path, int, float]]:
    """A mount with its journal: its root, its daemon, and the seconds it took to answer."""
    root, log = workspace.directory / "ccfs", workspace.directory / "log"
    journal = workspace.directory / "journal"
    began = time.perf_counter()
    start = command("mount", "--foreground", "--journal", journal, *options, root)
    with process(start, log) as child:
        wait_for(child, log, lambda: b"export KRB5CCNAME" in log.read_bytes(), "no mount")
        yield root, child.pid, time.perf_counter() - began


@contextlib.contextmanager
def through_file(workspace: Workspace) -> Iterator[Server]:
    """By `caches/NAME/ccache`."""
    with mounted(workspace) as (root, pid, started):
        caches = root / "caches"
        yield Server(
            config=workspace.configuration(),
            residual=lambda name: f"FILE:{caches}/{name}/ccache",
            file=lambda name: caches / name / "ccache",
            make=lambda name: (caches / name).mkdir(exist_ok=True),
            pids=[pid],
            root=root,
            started=started,
        )


@contextlib.contextmanager
def through_default(workspace: Workspace) -> Iterator[Server]:
    """By `default/ccache`, where `default` is a symbolic link to the ccache's directory."""
    with through_file(workspace) as server:
        link = server.root / "default" if server.root else Path()
        server.residual = lambda name: f"FILE:{link}/ccache"
        server.choose = lambda name: _switch(link, name)
        yield server


def _switch(link: Path, name: str) -> None:
    """Make a ccache the default, as `ln -sfn` does, unless it is."""
    target = f"caches/{name}"
    if os.readlink(link) != target:
        beside = link.with_name("beside")
        beside.symlink_to(target)
        beside.rename(link)


@contextlib.contextmanager
def through_dir(workspace: Workspace) -> Iterator[Server]:
    """By `dir/`, as a collection of the DIR type."""
    with mounted(workspace) as (root, pid, started):
        server = dir_server(workspace, root / "dir")
        server.pids, server.root, server.started = [pid], root, started
        yield server


@contextlib.contextmanager
def plain_fuse(workspace: Workspace) -> Iterator[Server]:
    """`bench/plain_fuse.py`: not ccfs, but what it could be at best without its own work."""
    root, log = workspace.directory / "plain", workspace.directory / "log"
    root.mkdir()
    began = time.perf_counter()
    with process([sys.executable, "-m", "bench.plain_fuse", root], log) as child:
        wait_for(child, log, lambda: b"ready" in log.read_bytes(), "plain_fuse")
        yield Server(
            config=workspace.configuration(),
            residual=lambda name: f"FILE:{root}/{name}/ccache",
            file=lambda name: root / name / "ccache",
            make=lambda name: (root / name).mkdir(exist_ok=True),
            pids=[child.pid],
            root=root,
            started=time.perf_counter() - began,
        )
        subprocess.run(["umount", "-l", str(root)], check=False, timeout=10)
