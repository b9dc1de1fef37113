# SPDX-License-Identifier: MIT
"""The peers that speak KCM: sssd's daemon, Heimdal's, one in the plainest Python, and ccfs.

This file knows how these servers are started and where their sockets are.  sssd_kcm and Heimdal's
kcm come unpacked (`bench/unpack`) and run in a mount namespace each, in which their files lie over
/usr and a directory of ours is /run.
"""

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.peers.base import MissingError, Server, Workspace, process, wait_for
from bench.peers.ccfs import mounted
from tests.support.paths import PROJECT

UNPACKED = PROJECT / ".venv/peers"
SOCKET = ".heim_org.h5l.kcm-socket"
"""What libkrb5 has as the name of the socket in /run, and Heimdal's kcm knows no other."""

LAID_OVER = """set -e
mount -t overlay -o lowerdir={unpacked}/usr:/usr overlay /usr
mount -t overlay -o lowerdir={unpacked}/var:/var overlay /var
mount --bind {run} /run
"""
SSSD = """mount --bind {state} /var/lib/sss
mount -t tmpfs none /var/log/sssd
exec /usr/libexec/sssd/sssd_kcm --uid 0 --gid 0 --logger=stderr
"""
HEIMDAL = "exec /usr/sbin/kcm\n"


def kcm_server(workspace: Workspace, socket: Path, pid: int, started: float) -> Server:
    """What a server at `socket` is to a client; names are of root."""
    return Server(
        config=workspace.configuration(f"kcm_socket = {socket}"),
        residual=lambda name: f"KCM:0:{name}",
        pids=[pid],
        socket=socket,
        started=started,
    )


@contextlib.contextmanager
def sssd(workspace: Workspace) -> Iterator[Server]:
    """sssd_kcm with its defaults: the database is what it stores in, here in memory as all else."""
    state = workspace.directory / "sss"
    for name in ("db", "secrets", "pipes/private"):
        (state / name).mkdir(parents=True)
    with _laid_over(workspace, UNPACKED / "usr/libexec/sssd/sssd_kcm", SSSD) as server:
        yield server


@contextlib.contextmanager
def heimdal(workspace: Workspace) -> Iterator[Server]:
    """Heimdal's kcm with its defaults: in memory."""
    with _laid_over(workspace, UNPACKED / "usr/sbin/kcm", HEIMDAL) as server:
        yield server


@contextlib.contextmanager
def _laid_over(workspace: Workspace, program: Path, start: str) -> Iterator[Server]:
    if not program.exists():
        raise MissingError(f"no {program.name}: bench/unpack gets it")
    run, log = workspace.directory / "run", workspace.directory / "log"
    run.mkdir()
    names = {"unpacked": UNPACKED, "run": run, "state": workspace.directory / "sss"}
    script = (LAID_OVER + start).format(**names)
    command = ["unshare", "--mount", "--propagation=private", "sh", "-c", script]
    socket = run / SOCKET
    began = time.perf_counter()
    with process(command, log) as child:
        wait_for(child, log, socket.exists, program.name)
        yield kcm_server(workspace, socket, child.pid, time.perf_counter() - began)


@contextlib.contextmanager
def plain(workspace: Workspace) -> Iterator[Server]:
    """`bench/plain_kcm.py`."""
    socket, log = workspace.directory / "socket", workspace.directory / "log"
    command = [sys.executable, "-m", "bench.plain_kcm", str(socket)]
    began = time.perf_counter()
    with process(command, log) as child:
        wait_for(child, log, lambda: b"ready" in log.read_bytes(), "plain_kcm")
        yield kcm_server(workspace, socket, child.pid, time.perf_counter() - began)


@contextlib.contextmanager
def ccfs(workspace: Workspace) -> Iterator[Server]:
    """The KCM socket of a mount."""
    socket = workspace.directory / "socket"
    with mounted(workspace, "--kcm-socket", socket) as (root, pid, started):
        server = kcm_server(workspace, socket, pid, started)
        server.root = root
        yield server
