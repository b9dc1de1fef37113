# SPDX-License-Identifier: MIT
"""A place to log in: a namespace with users, PAM files, /run, /dev and a log of its own.

This file knows namespaces, users, PAM's files and syslog; never what ccfsd does, nor a credential.
Everything that runs there ends with the namespace, and all mounts with it, however a test ends.
Needs root.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.mounting import TMPFS, first_line, until_killed
from tests.support.paths import PROJECT
from tests.support.require import require_file

INSIDE = Path("/mnt")
"""Where the stage's own directory is in its namespace."""
MODULE = "build/mount-helper/pam_ccfs.so"
HEADERS = Path("/usr/include/security/pam_modules.h")
INSTALL = "apt-get install libpam0g-dev pamtester"
SESSION = "tests/support/clients/python/pam_session.py"
SECONDS = 60
BOUND = 10.0
"""Seconds within which a call of the module has come back: its own deadline, and a busy machine."""
PATIENT = "timeout=8s"
"""For tests that want a mount, on a machine that may be busy with other things."""

USERS = {"alice": 64001, "bob": 64002, "carol": 64003}
SYSTEM_USER, SYSTEM_UID = "ccfsjobs", 640
ETC = ("passwd", "group", "shadow", "fuse.conf", "pam.d")
NODES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9)}
NODES |= {"tty": (5, 0), "fuse": (10, 229)}
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
    "HOME": "/",
}
VAR = """for directory in lib/pam cache/debconf; do
            mkdir -p var/$directory/upper var/$directory/work
            over=lowerdir=/var/$directory,upperdir=var/$directory/upper,workdir=var/$directory/work
            mount -t overlay -o $over none /var/$directory
        done"""
"""Where pam-auth-update keeps its notes."""
PERMIT = "auth required pam_permit.so\naccount required pam_permit.so\n"


def build_module(*arguments: str) -> None:
    """Build pam_ccfs.so, if that is to be done; `arguments` go to make."""
    command = ["make", "--silent", "-C", str(PROJECT / "mount-helper"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def installed() -> Iterator[Path]:
    """Where everything is installed, once for all tests."""
    require_file("Linux-PAM's headers", INSTALL, HEADERS)
    directory = Path(tempfile.mkdtemp(prefix="ccfs-installed-", dir=TMPFS))
    directory.chmod(0o755)
    try:
        install(directory)
        yield directory
    finally:
        shutil.rmtree(directory)


def install(directory: Path) -> None:
    """`make install` into a directory that stands for /."""
    command = ["make", "--silent", "-C", str(PROJECT), "install", f"DESTDIR={directory}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class Log:
    """What is said to syslog on a stage."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        path.chmod(0o666)
        self._news = threading.Condition()
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while line := self._socket.recv(8192):
            with self._news:
                self.lines.append(line.decode(errors="replace"))
                self._news.notify_all()

    def of(self, tag: str) -> list[str]:
        """The log lines of a program or module."""
        with self._news:
            return [line for line in self.lines if tag in line]

    def wait_for(self, text: str, seconds: float = BOUND) -> str:
        """The first line with `text` in it."""
        with self._news:
            self._news.wait_for(lambda: any(text in line for line in self.lines), seconds)
            found = [line for line in self.lines if text in line]
            assert found, f"nothing about {text!r} in the log: {self.lines}"
            return found[0]

    def close(self) -> None:
        """Read no more."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join(BOUND)
        self._socket.close()


@dataclass(frozen=True, slots=True)
class Stage:
    """The namespace.  `directory` is what it has as /mnt; `init` is its first process."""

    directory: Path
    init: int
    log: Log = field(repr=False)

    @property
    def project(self) -> Path:
        """The project, as the stage sees it."""
        return INSIDE / "project"

    @property
    def python(self) -> str:
        """The project's Python, as the stage sees it."""
        return str(self.project / ".venv/bin/python")

    @property
    def run_directory(self) -> Path:
        """The stage's /run/ccfs, seen from here."""
        return self.directory / "run/ccfs"

    def enter(self, *command: str, where: str | None = None) -> list[str]:
        """The command that runs `command` on the stage, as root."""
        directory = where or str(self.project)
        target = ["nsenter", f"--target={self.init}", "--mount", "--pid", f"--wdns={directory}"]
        return [*target, *command]

    def run(
        self, *command: str, check: bool = True, seconds: float = SECONDS, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the stage, as root; `more` is more of its environment."""
        done = subprocess.run(
            self.enter(*command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
            env={**ENVIRONMENT, **more},
        )
        assert not check or done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
        return done

    def start(self, *command: str, **more: Any) -> "subprocess.Popen[str]":
        """Start a command on the stage; its caller ends it, or the stage's end does."""
        settings = {"stdin": subprocess.DEVNULL, "env": ENVIRONMENT, "text": True, **more}
        return subprocess.Popen(self.enter(*command), **settings)

    def enable(self, options: str = PATIENT) -> None:
        """Have pam-auth-update put the module into the stacks, as an administrator would."""
        command = ("pam-auth-update", "--package", "--enable", "ccfs")
        self.run(*command, DEBIAN_FRONTEND="noninteractive")
        stack = self.directory / "etc/pam.d/common-session"
        stack.write_text(stack.read_text().replace("pam_ccfs.so", f"pam_ccfs.so {options}"))

    def service(self, name: str, *lines: str) -> str:
        """Write a PAM service whose session stack is `lines`; returns its name."""
        stack = "".join(f"session {line}\n" for line in lines)
        (self.directory / "etc/pam.d" / name).write_text(PERMIT + stack)
        return name

    def module_service(self, name: str, options: str = "") -> str:
        """A PAM service with pam_ccfs.so, optional as it is to be, and nothing else."""
        return self.service(
            name, "required pam_permit.so", f"optional {self.project / MODULE} {options}"
        )

    @contextlib.contextmanager
    def session(self, service: str, user: str, *prefix: str) -> "Iterator[Session]":
        """A process that can open and close sessions; `prefix` is a command to run it by."""
        script = str(self.project / SESSION)
        process = self.start(
            *prefix,
            *("/usr/bin/python3", "-I", script, service, user),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            yield Session(process)
        finally:
            end_of(process)

    def mounts(self) -> list[str]:
        """Where something of ours is mounted on the stage."""
        table = Path(f"/proc/{self.init}/mountinfo").read_text()
        paths = [line.split()[4] for line in table.splitlines()]
        return [path for path in paths if path.startswith("/run/ccfs/")]

    def processes(self) -> dict[int, str]:
        """What runs on the stage but its first process: pid (as seen from here), command line.

        One that has ended, and waits for its parent to take notice, runs no more.
        """
        space = os.readlink(f"/proc/{self.init}/ns/pid")
        found = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and os.readlink(entry / "ns/pid") == space:
                    found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
        return {pid: line for pid, line in found.items() if line and pid != self.init}

    def outside(self, pid: int) -> int:
        """The pid that a process of the stage has here."""
        for found in self.processes():
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{found}/status").read_text()
                if re.search(rf"^NSpid:.*\s{pid}$", status, re.M):
                    return found
        raise AssertionError(f"no process {pid} on the stage")


@dataclass(frozen=True, slots=True)
class Session:
    """A process with a PAM handle (tests/support/clients/python/pam_session.py)."""

    process: "subprocess.Popen[str]"

    def ask(self, *command: str) -> Any:
        """Have it do something; its answer, within BOUND."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        line = first_line(self.process.stdout, BOUND)
        assert line.endswith("\n"), f"{command} is not done within {BOUND} s: {line!r}"
        return json.loads(line)

    def open(self) -> str | None:
        """Open the session; returns KRB5CCNAME."""
        assert self.ask("open") == 0
        name: str | None = self.ask("getenv", "KRB5CCNAME")
        return name

    def close(self) -> None:
        """Close the session."""
        assert self.ask("close") == 0


def end_of(process: "subprocess.Popen[str]") -> None:
    """Have a process end that reads its stdin to the end.

    If nsenter were killed first, what it runs would be left to a parent outside of the stage.
    """
    try:
        process.communicate(timeout=BOUND)
    except (subprocess.TimeoutExpired, ValueError):
        process.kill()
        process.communicate()


@contextlib.contextmanager
def stage(installed: Path | None = None) -> Iterator[Stage]:
    """A namespace to log in to; `installed`: where `install` has put what it shall have."""
    directory = Path(tempfile.mkdtemp(prefix="ccfs-login-", dir=TMPFS))
    directory.chmod(0o755)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, directory)
        _furnish(directory)
        if installed is not None:
            (directory / "installed").mkdir()
        log = Log(directory / "run/syslog")
        stack.callback(log.close)
        init = stack.enter_context(_init(directory, installed))
        yield Stage(directory, init, log)


def _furnish(directory: Path) -> None:
    """Make what the namespace's mounts are made of."""
    for name in ("dev", "project", "run", "run/sshd", "tmp", "home", "etc", "log", "pam"):
        (directory / name).mkdir(mode=0o755)
    (directory / "tmp").chmod(0o1777)
    users = {**USERS, SYSTEM_USER: SYSTEM_UID}
    for user, uid in users.items():
        (directory / "home" / user).mkdir(mode=0o700)
        os.chown(directory / "home" / user, uid, uid)
    passwd = (f"{user}:x:{uid}:{uid}::{INSIDE}/home/{user}:/bin/sh" for user, uid in users.items())
    _add_to("passwd", directory, passwd)
    _add_to("group", directory, (f"{user}:x:{uid}:" for user, uid in users.items()))
    _add_to("shadow", directory, (f"{user}:*:19000::::::" for user in users), mode=0o600)
    _add_to("fuse.conf", directory, ["user_allow_other"])
    shutil.copytree("/etc/pam.d", directory / "etc/pam.d", symlinks=True)


def _add_to(name: str, directory: Path, lines: Iterable[str], mode: int = 0o644) -> None:
    there = Path("/etc", name)
    kept = there.read_text() if there.exists() else ""
    file = directory / "etc" / name
    file.write_text(kept + "".join(f"{line}\n" for line in lines))
    file.chmod(mode)


def _script(directory: Path, installed: Path | None) -> str:
    """Furnish the namespace, and stay.  Other mounts of ccfs are not ours to keep alive."""
    nodes = "".join(f"mknod -m 666 dev/{name} c {a} {b}\n" for name, (a, b) in NODES.items())
    etc = "".join(f"mount --bind etc/{name} /etc/{name}\n" for name in ETC)
    others = "awk '/ - fuse[.]ccfs / { print $5 }' /proc/self/mountinfo"
    return f"""set -e
        {others} | while read -r other; do umount -l "$other"; done
        mount --bind {directory} {INSIDE}
        cd {INSIDE}
        mount --bind {PROJECT} project
        {_lay_over(installed) if installed else ""}
        {VAR}
        mount -t tmpfs -o mode=755 none dev
        mkdir dev/pts dev/shm
        chmod 1777 dev/shm
        {nodes}
        ln -s /proc/self/fd dev/fd
        ln -s /run/syslog dev/log
        ln -s pts/ptmx dev/ptmx
        mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 none dev/pts
        mount --bind run /run
        mount --bind tmp /tmp
        mount --bind log /var/log
        {etc}
        mount --move dev /dev
        echo ready
        exec env --ignore-signal=CHLD cat >/dev/null"""


def _lay_over(installed: Path) -> str:
    """Show what is installed as if it were installed."""
    below = [path.relative_to(installed) for path in sorted(installed.glob("usr/*"))]
    overlays = [path for path in below if path != Path("usr/local")]
    lines = [f"mount --bind {installed} installed", "mount --bind installed/usr/local /usr/local"]
    lines += [
        f"mount -t overlay -o lowerdir=installed/{path}:/{path} none /{path}" for path in overlays
    ]
    return "\n        ".join(lines)


@contextlib.contextmanager
def _init(directory: Path, installed: Path | None) -> Iterator[int]:
    """The first process of the namespace, which reaps what others leave to it.  Yields its pid."""
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    process = subprocess.Popen(
        [*command, "--propagation", "private", "sh", "-c", _script(directory, installed)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with until_killed(process, "ready"):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        yield int(children.split()[0])


Answer = bytes | None
Behaviour = Callable[[bytes], Answer]


class FakeCcfsd:
    """Something that listens where ccfsd does and answers as a test wants.

    `behave(request)` returns the reply; None: none comes, and the connection stays open.
    """

    def __init__(self, stage: Stage, behave: Behaviour, *, backlog: int = 8) -> None:
        self.requests: list[bytes] = []
        self._behave = behave
        self._kept: list[socket.socket] = []
        stage.run_directory.mkdir(mode=0o755, exist_ok=True)
        self._path = stage.run_directory / "control"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.bind(str(self._path))
        self.socket.listen(backlog)
        self._server = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "FakeCcfsd":
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self._server.join(BOUND)
        for connection in [*self._kept, self.socket]:
            connection.close()
        self._path.unlink()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        request = connection.recv(65536)
        self.requests.append(request)
        reply = self._behave(request)
        if reply is None:
            self._kept.append(connection)
            return
        with contextlib.suppress(OSError):  # it may have given up
            connection.send(reply)
        connection.close()


def wait_until(what: Callable[[], object], seconds: float = BOUND) -> None:
    """Return once `what()` is true; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)
