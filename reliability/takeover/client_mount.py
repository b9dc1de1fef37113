# SPDX-License-Identifier: MIT
"""Where the clients work: a mount made by `ccfs mount` (root's, a user's), or one of ccfsd's.

Knows how either is started and ended, and how a process becomes a client of it.  The program itself
stays outside: only its children look at the mount.
"""

import contextlib
import ctypes
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from reliability.dying import DEATHS
from tests.support import ccfsd
from tests.support.background_mount import background_mount
from tests.support.shell import wait_until

EVENTS = 1_000_000
DEATHS_FILE = "deaths"
USER = ccfsd.USERS[0]
KCM = Path("/run/.heim_org.h5l.kcm-socket")
CLONE_NEWNS = 0x20000


@dataclass(frozen=True, slots=True)
class ClientMount:
    """A mount, its KCM socket, a directory outside of it, and what makes a process its client."""

    mount: Path
    socket: Path
    directory: Path
    uid: int
    enter: Callable[[], None]

    def give(self, path: Path) -> None:
        """Make files and directories of this program the clients' own."""
        for each in (path, *path.rglob("*")):
            os.chown(each, self.uid, self.uid)


@contextlib.contextmanager
def own_mount(program: str, options: tuple[str, ...]) -> Iterator[ClientMount]:
    """A mount of root's, made by `ccfs mount` with these options."""
    with background_mount(program) as mount:
        socket = mount.directory / "kcm"
        events = ("--max-events", str(EVENTS))
        os.environ[DEATHS] = str(mount.directory / DEATHS_FILE)
        mount.mount("--kcm-socket", str(socket), *events, *options)
        yield ClientMount(mount.path, socket, mount.directory, os.getuid(), lambda: None)


@contextlib.contextmanager
def user_mount(program: str, options: tuple[str, ...]) -> Iterator[ClientMount]:
    """An ordinary user's mount, by fusermount3, in a mount namespace with a /dev/fuse for all."""
    with ccfsd.ccfsd_host() as host:
        directory = _of_user(host)
        mount, socket = directory / "ccfs", directory / "kcm"
        words = [f"{DEATHS}={directory / DEATHS_FILE}", sys.executable, "-m", program, "mount"]
        words += ["--journal", str(directory / "journal"), "--kcm-socket", str(socket)]
        words += ["--max-events", str(EVENTS), *options, str(mount)]
        host.sh(f"cd {ccfsd.PROJECT} && env {shlex.join(words)}", USER)
        yield ClientMount(mount, socket, directory, USER, lambda: become(host.namespace_pid, USER))


def _of_user(host: ccfsd.CcfsdHost) -> Path:
    directory = host.directory / "clients"
    directory.mkdir(mode=0o700)
    os.chown(directory, USER, USER)
    return directory


@contextlib.contextmanager
def ccfsd_mount() -> Iterator[ClientMount]:
    """A user's mount that a ccfsd serves, in a mount namespace of its own."""
    with ccfsd.ccfsd_host() as host:
        with host.log.open("a") as log:
            command = [sys.executable, "-m", "ccfs.ccfsd"]
            host.started.append(host.popen(command, stderr=log))
        wait_until(host.is_listening, "ccfsd does not listen")
        assert host.leader(USER).values
        directory = _of_user(host)
        mount = Path(f"/run/ccfs/{USER}")
        yield ClientMount(mount, KCM, directory, USER, lambda: become(host.namespace_pid, USER))


def become(pid: int, uid: int) -> None:
    """Make this process one of a user in the mount namespace of another process (setns(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    if libc.setns(descriptor, CLONE_NEWNS) < 0:
        raise OSError(ctypes.get_errno(), "setns")
    os.close(descriptor)
    os.chdir("/")
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    os.environ["HOME"] = "/"
