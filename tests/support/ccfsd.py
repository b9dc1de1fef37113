# SPDX-License-Identifier: MIT
"""A ccfsd for tests, in a place where it can do no harm, and nothing of it left behind.

This file knows namespaces, processes and the control protocol, never what is in a mount.  The place
is a mount namespace with a /run of its own, /dev/fuse for all, and a few users; whatever runs in it
when the test ends is killed.  Needs root.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ccfs.control.client import Client
from ccfs.control.messages import Message
from ccfs.linux import mountinfo
from tests.support.mounting import TMPFS, first_line, until_killed
from tests.support.paths import PROJECT
from tests.support.processes import children
from tests.support.shell import wait_until

USERS = range(64101, 64131)
SECONDS = 20.0
LEADER = """
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])
for words in sys.argv[2:]:
    s.send(words.encode())
    print(s.recv(5000).decode(), flush=True)
sys.stdin.read()
"""
ASK = LEADER.replace("sys.stdin.read()\n", "")
UNSHARE = ("unshare", "--mount", "--propagation", "private")
HOLDER = """set -e
    mount -t tmpfs -o mode=755 none /run
    mount -t tmpfs -o mode=755 none {directory}/dev
    mknod -m 666 {directory}/dev/fuse c 10 229
    mount --bind {directory}/dev/fuse /dev/fuse
    mount --bind {directory}/passwd /etc/passwd
    mountpoint -q /sys/fs/fuse/connections || mount -t fusectl none /sys/fs/fuse/connections
    mkdir -p /run/systemd/linger
    echo ready
    exec cat"""


@dataclass(slots=True)
class Leader:
    """A process that has opened a session, and lives as long as it is let."""

    process: subprocess.Popen[str]
    reply: str

    @property
    def values(self) -> dict[str, str]:
        """What it was told."""
        assert self.reply.startswith("ok "), self.reply
        return dict(pair.split("=", 1) for pair in self.reply.split(" ")[1:])

    def end(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.communicate()


@dataclass(slots=True)
class CcfsdHost:
    """The namespace.  `daemons`: the ccfsd processes that were started, by their number."""

    directory: Path
    namespace_pid: int
    started: list[subprocess.Popen[str]] = field(default_factory=list)
    leaders: list[Leader] = field(default_factory=list)

    @property
    def root(self) -> Path:
        """The root directory as it is seen from there."""
        return Path(f"/proc/{self.namespace_pid}/root")

    @property
    def run(self) -> Path:
        """The runtime directory."""
        return self.root / "run/ccfs"

    @property
    def log(self) -> Path:
        """What was logged."""
        return self.directory / "log"

    def lines(self, wanted: str = "") -> list[str]:
        """The lines of the log that contain a text."""
        return [line for line in self.log.read_text().splitlines() if wanted in line]

    def start(self, *options: str, prefix: Sequence[str] = ()) -> subprocess.Popen[str]:
        """Start a ccfsd; it listens when this returns."""
        process = self.launch(*options, prefix=prefix)
        wait_until(
            lambda: self.is_listening() or process.poll() is not None, "ccfsd does not listen"
        )
        assert process.poll() is None, self.log.read_text()
        return process

    def launch(self, *options: str, prefix: Sequence[str] = ()) -> subprocess.Popen[str]:
        """Start a ccfsd, whatever comes of it."""
        command = [*prefix, sys.executable, "-m", "ccfs.ccfsd", *options]
        with self.log.open("a") as log:
            process = self.popen(command, stderr=log)
        self.started.append(process)
        return process

    def popen(self, command: Sequence[str], **more: Any) -> subprocess.Popen[str]:
        """A process in the place."""
        settings: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.DEVNULL,
            "text": True,
            **more,
        }
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "SECRET": "of-root"}
        return subprocess.Popen(
            ["nsenter", f"--target={self.namespace_pid}", "--mount", f"--wd={PROJECT}", *command],
            env=environment,
            **settings,
        )

    def sh(self, script: str, uid: int = 0, status: int | None = 0) -> str:
        """The output of a script, run by a user in the host's namespace."""
        who = as_user(uid) if uid else []
        command = ["nsenter", f"--target={self.namespace_pid}", "--mount", "--wd=/", *who]
        done = subprocess.run(
            [*command, "timeout", "-s", "KILL", "30", "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        )
        assert status is None or done.returncode == status, done.stdout
        return done.stdout

    def client(self, seconds: float = SECONDS) -> Client:
        """A connection of root's."""
        return Client(str(self.run / "control"), seconds)

    def is_listening(self) -> bool:
        """Whether a ccfsd answers."""
        try:
            with self.client() as client:
                client.ask("status")
        except Exception:
            return False
        return True

    def open(self, uid: int, **more: str | int) -> Message:
        """Open a session of which this process is the leader."""
        with self.client() as client:
            return client.ask("open", **request(uid, **more))

    def close(self, session: str | int) -> None:
        """Close a session."""
        with self.client() as client:
            client.ask("close", session=session)

    def close_all(self) -> None:
        """Close every session, of all users."""
        sessions = self.state()["sessions"]
        assert isinstance(sessions, list)
        for session in sessions:
            self.close(session["number"])

    def status(self) -> dict[str, int]:
        """ccfsd's state, as it reports it."""
        with self.client() as client:
            return {key: int(value) for key, value in client.ask("status").values.items()}

    def leader(self, *uids: int, **more: str | int) -> Leader:
        """A process that opens a session, or one after the other; its reply is the first."""
        asked = [request(uid, **more) for uid in uids]
        words = [" ".join(["open", *(f"{k}={v}" for k, v in one.items())]) for one in asked]
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", LEADER, str(self.run / "control"), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        leader = Leader(process, first_line(process.stdout, SECONDS).strip())
        self.leaders.append(leader)
        return leader

    def ask_as(self, uid: int, words: str) -> str:
        """The reply to a user's request; a traceback where the connection is cut."""
        code = ASK.replace("sys.argv[1]", "'/run/ccfs/control'").replace(
            "sys.argv[2:]", repr([words])
        )
        return self.sh(f'/usr/bin/python3 -I -c "{code}"', uid, status=None).strip()

    def state(self) -> dict[str, object]:
        """The state file."""
        told: dict[str, object] = json.loads((self.run / "state").read_text())
        return told

    def daemon(self, name: object) -> int:
        """The pid of the daemon of a mount; 0 for none."""
        mounts = self.state()["mounts"]
        assert isinstance(mounts, list)
        found = [mount for mount in mounts if mount["name"] == str(name)]
        return int(found[0]["daemon"][0]) if found and found[0]["daemon"] else 0

    def mounts(self) -> list[mountinfo.Mount]:
        """The mounts below /run/ccfs in the host's namespace."""
        found = mountinfo.mounts(self.namespace_pid)
        return [mount for mount in found if mount.path.startswith("/run/ccfs/")]

    def processes(self) -> list[int]:
        """All processes in the host's mount namespace but its first."""
        host = os.readlink(f"/proc/{self.namespace_pid}/ns/mnt")
        return [pid for pid in _pids() if pid != self.namespace_pid and _namespace(pid) == host]

    def is_empty(self) -> bool:
        """Whether of all mounts nothing is left: no mount, process, directory, socket, session."""
        ours = {process.pid for process in self.started if process.poll() is None}
        ours |= {pid for one in ours for pid in children(one) if _name(pid) == "ccfsd-forkserv"}
        left = [*(self.run / "daemons").iterdir(), *(self.run / "journal").iterdir()]
        left += [path for path in self.run.iterdir() if path.name[0].isdigit()]
        return not (left or self.mounts() or {*self.processes()} - ours)

    def end(self) -> None:
        """Kill all processes there, also daemons that ccfsd starts for killed ones meanwhile."""
        for leader in self.leaders:
            leader.end()
        wait_until(self._kill_all, "a process stays")
        for process in self.started:
            process.wait(SECONDS)

    def _kill_all(self) -> bool:
        """Kill all processes there; returns whether there were none."""
        pids = self.processes()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not pids


@contextlib.contextmanager
def ccfsd_host() -> Iterator[CcfsdHost]:
    """A mount namespace in which no ccfsd runs yet."""
    if os.geteuid() != 0:
        pytest.skip("ccfsd needs root")
    directory = Path(tempfile.mkdtemp(prefix="ccfs-place-", dir=TMPFS))
    try:
        directory.chmod(0o755)
        (directory / "dev").mkdir()
        users = "".join(f"ccfs{uid}:x:{uid}:{uid}::/:/bin/sh\n" for uid in USERS)
        (directory / "passwd").write_text(Path("/etc/passwd").read_text() + users)
        holder = subprocess.Popen(
            [*UNSHARE, "sh", "-c", HOLDER.format(directory=directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with until_killed(holder, "ready"):
            host = CcfsdHost(directory, holder.pid)
            host.log.touch()
            try:
                yield host
                assert not host.lines("unexpected exception")
            finally:
                host.end()
    finally:
        shutil.rmtree(directory)


def as_user(uid: int) -> list[str]:
    """The prefix that runs a command as a user."""
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]


def request(uid: int, **more: str | int) -> dict[str, str | int]:
    """The values of an `open`."""
    usual: dict[str, str | int] = {
        "uid": uid,
        "gid": uid,
        "user": f"ccfs{uid}",
        "scope": "user",
        "service": "test",
    }
    return {**usual, "deadline": int(SECONDS * 1000), **more}


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _namespace(pid: int) -> str:
    try:
        if ") Z " in Path(f"/proc/{pid}/stat").read_text():
            return ""
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""


def _name(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""
