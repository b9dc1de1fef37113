# SPDX-License-Identifier: MIT
"""Clients of a ccfsd: what users do in the mounts that it makes for them.

Knows paths below /run/ccfs and commands that users run, never how ccfsd does its work.
"""

import contextlib
import subprocess
from collections.abc import Callable, Iterator

from tests.support.ccfsd import CcfsdHost, as_user
from tests.support.clients.python import records
from tests.support.mounting import first_line, until_killed

IMAGE = records.ccache(["host/one"])


def store(host: CcfsdHost, uid: int, path: str | None = None) -> None:
    """Have a ccache in a user's default."""
    file = host.directory / f"image-{uid}"
    file.write_bytes(IMAGE)
    file.chmod(0o644)
    host.sh(f"cat {file} > {path or f'/run/ccfs/{uid}'}/default/ccache", uid)


def has_it(host: CcfsdHost, uid: int, path: str | None = None) -> bool:
    """Whether it is there."""
    shown = host.sh(f"wc -c < {path or f'/run/ccfs/{uid}'}/default/ccache", uid, status=None)
    return shown.strip() == str(len(IMAGE))


KCM_DEFAULT = """
import socket, struct
s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
s.settimeout(20)
s.connect("/run/kcm")
request = struct.pack(">BBH", 2, 0, 20)  # GET_DEFAULT_CACHE
s.sendall(struct.pack(">I", len(request)) + request)
print(s.recv(500)[12:].rstrip(b"\\0").decode())
"""


CLIENT = """
import fcntl, os, sys
os.chdir("caches")
lock = os.open("../lock", os.O_RDWR)
fcntl.flock(lock, fcntl.LOCK_EX)
listing = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
before = os.stat(".").st_ino
print("ready", flush=True)
for line in sys.stdin:
    info = open("../info").read().splitlines()
    assert os.stat(".").st_ino == os.fstat(listing).st_ino == before
    assert os.listdir(listing) is not None and os.getcwd().endswith("/caches")
    fcntl.flock(lock, fcntl.LOCK_EX)
    print([one for one in info if one.startswith("pid")][0].split()[1], flush=True)
"""
"""Holds a working directory, an open directory and a lock, and looks at all of them when told."""


@contextlib.contextmanager
def client(host: CcfsdHost, uid: int = 64103) -> Iterator[Callable[[], int]]:
    """Run a client that holds a mount open; yields a function: the daemon's pid as it reads it."""
    command = ["sh", "-c", f'cd /run/ccfs/{uid} && exec /usr/bin/python3 -I -c "$1"', "-", CLIENT]
    process = host.popen([*as_user(uid), *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None

    def look() -> int:
        process.stdin.write("\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        return int(first_line(process.stdout, 20))  # type: ignore[arg-type]

    with until_killed(process, "ready"):
        yield look
