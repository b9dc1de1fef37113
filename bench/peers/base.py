# SPDX-License-Identifier: MIT
"""What a peer is to the rest of the benchmark.

This file knows names of ccaches, processes and directories, never what is measured.
"""

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from bench import credentials
from bench.namespace import die_with_parent

START_SECONDS = 20.0
REALM = credentials.REALM.decode()


class MissingError(Exception):
    """A peer can't be started here; says why, in words for the table."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where peers may put their files, and the KDC of their clients (None: there is no KDC)."""

    directory: Path
    kdc_port: int | None = None

    def below(self, name: str) -> "Workspace":
        """A fresh directory of this name."""
        inner = self.directory / name
        inner.mkdir(mode=0o700)
        return Workspace(inner, self.kdc_port)

    def configuration(self, *libdefaults: str) -> Path:
        """A krb5.conf with these lines in [libdefaults]."""
        path = self.directory / "krb5.conf"
        path.write_text(krb5_conf(self.kdc_port, *libdefaults))
        return path


def krb5_conf(port: int | None, *libdefaults: str) -> str:
    """A client's configuration."""
    lines = [
        "[libdefaults]",
        f"default_realm = {REALM}",
        "dns_lookup_kdc = false",
        "dns_lookup_realm = false",
        "dns_canonicalize_hostname = false",
        "rdns = false",
        "forwardable = true",
        "ticket_lifetime = 8h",
        *libdefaults,
    ]
    if port is not None:
        lines += ["[realms]", f"{REALM} = {{", f"kdc = 127.0.0.1:{port}", "}"]
    return "\n".join([*lines, ""])


@dataclass
class Server:
    """A peer that runs.  What a peer has not, is empty: a file on tmpfs has no process.

    `residual` gives KRB5CCNAME for the name of a ccache ([a-z0-9-]+); `file` the path of its bytes
    where it has one.  `make` readies the place of a new ccache, `choose` makes one the default
    where the peer's names go by that.  `listing` is the directory that has an entry for each
    ccache.  `root` is a mount with a file `stats`.
    """

    config: Path
    residual: Callable[[str], str]
    file: Callable[[str], Path] | None = None
    make: Callable[[str], object] = field(default=lambda name: None)
    choose: Callable[[str], object] = field(default=lambda name: None)
    pids: list[int] = field(default_factory=list)
    root: Path | None = None
    socket: Path | None = None
    started: float = 0.0
    """Seconds from the start of the process until it answers."""

    @property
    def connection(self) -> int:
        """The number of its FUSE connection; 0 where there is none."""
        return 0 if self.root is None else os.minor(os.stat(self.root).st_dev)

    @property
    def stats(self) -> Path | None:
        """The file that counts requests."""
        path = None if self.root is None else self.root / "stats"
        return path if path is not None and path.exists() else None

    def environment(self, ccache: str) -> dict[str, str]:
        """The whole environment of a client that uses a ccache."""
        return {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C",
            "KRB5_CONFIG": str(self.config),
            "KRB5CCNAME": self.residual(ccache),
            "KRB5RCACHENAME": "none:",
        }


Start = Callable[[Workspace], AbstractContextManager[Server]]


@dataclass(frozen=True, slots=True)
class Peer:
    """One column: its key in results and options, its title, and what starts it."""

    key: str
    title: str
    start: Start


@contextlib.contextmanager
def process(
    command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A server that dies with us; its output is in `log`."""
    with log.open("wb") as output:
        child = subprocess.Popen(
            [*map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            preexec_fn=die_with_parent,
        )
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(10)


def wait_for(
    child: subprocess.Popen[bytes], log: Path, ready: Callable[[], bool], what: str
) -> None:
    """Wait until a server is ready; MissingError with its last line where it never is."""
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if child.poll() is not None or time.monotonic() > deadline:
            lines = log.read_text(errors="replace").split("\n")
            said = [line for line in lines if line.strip()]
            raise MissingError(f"{what}: {said[-1] if said else 'it said nothing'}"[:200])
        select.select([], [], [], 0.001)
