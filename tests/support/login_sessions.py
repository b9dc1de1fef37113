# SPDX-License-Identifier: MIT
"""Ways to log in, and what a session says of itself; a running ccfsd.

This file knows sshd, su, login and their like, and the Kerberos programs a session runs; never how
the mount that it finds is made.
"""

import contextlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.kdc import Kdc, await_line, reserved_port
from tests.support.login import BOUND, INSIDE, PATIENT, USERS, Stage, wait_until
from tests.support.mounting import first_line

START_SECONDS = 20.0

# What a session does: say its name, get a ticket and use it, say what it has.
TOUR = f"""#!/bin/sh
export KRB5_CONFIG={INSIDE}/krb5/krb5.conf
echo "name=$KRB5CCNAME"
echo "user=$(id -un)"
case $1 in
tour)
    kinit -k -t {INSIDE}/krb5/users.keytab "$(id -un)" && echo kinit=ok
    kvno -q HTTP/localhost && echo kvno=ok
    klist | sed -n 's/.*  \\(HTTP.*\\)/ticket=\\1/p'
    ;;
look)
    klist >/tmp/$$.look 2>&1
    sed -n 's/.*  \\([A-Za-z]*\\/.*\\)/ticket=\\1/p' /tmp/$$.look
    sed -n 's/^Default principal: /principal=/p' /tmp/$$.look
    rm /tmp/$$.look
    ;;
esac
"""


@dataclass(frozen=True, slots=True)
class Report:
    """A session's report: `name` is its KRB5CCNAME."""

    name: str
    user: str
    said: dict[str, str]

    @classmethod
    def of(cls, text: str) -> "Report":
        said = dict(re.findall(r"^(?:\$ )?(\w+)=(.*?)\r?$", text, re.M))
        return cls(said.pop("name", ""), said.pop("user", ""), said)


TOURED = {"kinit": "ok", "kvno": "ok", "ticket": "HTTP/localhost@KRBTEST.COM"}


@contextlib.contextmanager
def ccfsd(place: Stage, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """A ccfsd on the stage, which answers when this begins; afterwards nothing of it is left."""
    log = (place.directory / "ccfsd.log").open("a")
    process = place.start("ccfsd", *options, stderr=log, stdout=log)
    try:
        wait_until(lambda: process.poll() is not None or answers(place), START_SECONDS)
        assert process.poll() is None, (place.directory / "ccfsd.log").read_text()
        yield process
    finally:
        end_all(place, "ccfsd")
        process.wait(BOUND)
        log.close()


def end_all(place: Stage, *words: str) -> None:
    """End the processes on the stage whose command lines have one of `words` in them."""
    for name in ("TERM", "KILL"):
        for pid, line in place.processes().items():
            if any(word in line for word in words):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, getattr(__import__("signal"), f"SIG{name}"))
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not any(w in c for c in place.processes().values() for w in words))
            return


def answers(place: Stage) -> bool:
    """Whether a server accepts requests at the control socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        try:
            client.connect(str(place.run_directory / "control"))
        except OSError:
            return False
    return True


def ask(place: Stage, request: str) -> str:
    """One request at the control socket, as root; the reply."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(BOUND)
        client.connect(str(place.run_directory / "control"))
        client.send(request.encode())
        return client.recv(8192).decode()


def add_kerberos(place: Stage, kdc: Kdc) -> None:
    """Let the users of a stage be principals of a KDC, whose tickets root has, too, to log in by.

    Debian's stack of runuser has none of the common lines.
    """
    there = place.directory / "krb5"
    there.mkdir()
    for file, name in ((kdc.mit_conf, "krb5.conf"), (kdc.keytab, "users.keytab")):
        shutil.copy(file, there / name)
        (there / name).chmod(0o644)
    shutil.copy(kdc.service_keytab, there / "services.keytab")
    for user in USERS:
        keytab = f"{INSIDE}/krb5/users.keytab"
        kinit = ("kinit", "-f", "-k", "-t", keytab, "-c", f"{INSIDE}/krb5/{user}.cc", user)
        place.run(*kinit, KRB5_CONFIG=f"{INSIDE}/krb5/krb5.conf")
    with (place.directory / "etc/pam.d/runuser").open("a") as stack:
        stack.write(f"session optional pam_ccfs.so {PATIENT}\n")
    tour = place.directory / "tour"
    tour.write_text(TOUR)
    tour.chmod(0o755)


def _add_ssh(place: Stage, port: int) -> None:
    """Make sshd's keys and configuration, and a key that every user of the stage lets in."""
    there = place.directory / "ssh"
    there.mkdir(mode=0o755)
    for name in ("host", "client"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(there / name)]
        subprocess.run(command, check=True, timeout=30)
    (there / "authorized").write_text((there / "client.pub").read_text())
    (there / "authorized").chmod(0o644)
    inside = INSIDE / "ssh"
    (there / "config").write_text(
        f"""Port {port}
UserKnownHostsFile {inside}/known
BatchMode yes
LogLevel ERROR
"""
    )
    host = (there / "host.pub").read_text()
    (there / "known").write_text(f"[localhost]:{port},[127.0.0.1]:{port} {host}")
    (there / "sshd_config").write_text(
        f"""ListenAddress 127.0.0.1
Port {port}
HostKey {inside}/host
PidFile none
UsePAM yes
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthorizedKeysFile {inside}/authorized
GSSAPIAuthentication yes
GSSAPIStrictAcceptorCheck no
PrintMotd no
MaxStartups 100
"""
    )


@contextlib.contextmanager
def sshd(place: Stage) -> Iterator[None]:
    """An sshd on loopback."""
    with reserved_port() as (port, release):
        _add_ssh(place, port)
        release()
    environment = {
        "PATH": "/usr/bin:/bin",
        "KRB5_CONFIG": f"{INSIDE}/krb5/krb5.conf",
        "KRB5_KTNAME": f"{INSIDE}/krb5/services.keytab",
    }
    process = subprocess.Popen(
        place.enter("/usr/sbin/sshd", "-D", "-e", "-f", f"{INSIDE}/ssh/sshd_config"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
    )
    try:
        await_line(process, b"Server listening")
        yield
    finally:
        end_all(place, "sshd")
        process.wait(BOUND)
        assert process.stdout is not None
        process.stdout.close()


def ssh_command(user: str, *options: str) -> list[str]:
    """ssh to the stage's sshd."""
    kerberos = [f"KRB5_CONFIG={INSIDE}/krb5/krb5.conf", f"KRB5CCNAME=FILE:{INSIDE}/krb5/{user}.cc"]
    command = ["ssh", "-F", f"{INSIDE}/ssh/config", *options, f"{user}@localhost"]
    return ["env", *kerberos, *command]


BY_KEY = ("-i", f"{INSIDE}/ssh/client", "-o", "GSSAPIAuthentication=no")
BY_TICKET = ("-K", "-o", "GSSAPIAuthentication=yes", "-o", "PubkeyAuthentication=no")

Way = Callable[[str, str], list[str]]
"""The command by which a user runs a command in a session of their own."""

WAYS: dict[str, Way] = {
    "ssh": lambda user, command: [*ssh_command(user, *BY_KEY), command],
    "su -": lambda user, command: ["su", "-", user, "-c", command],
    "su": lambda user, command: ["su", user, "-c", command],
    "runuser -l": lambda user, command: ["runuser", "-l", user, "-c", command],
    "runuser -u": lambda user, command: ["runuser", "-u", user, "--", *command.split()],
    "login -f": lambda user, command: [
        *("script", "-qec", f"login -f {user}", "/dev/null"),
        command,
    ],
}


def log_in(place: Stage, way: str, user: str, what: str) -> Report:
    """Log in, do what TOUR calls `what`, and log out."""
    command = [*WAYS[way](user, f"{INSIDE}/tour {what}")]
    typed = ""
    if way == "login -f":
        typed = f"exec {command.pop()}\n"
    done = subprocess.run(
        place.enter(*command),
        input=typed,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TERM": "dumb"},
    )
    return Report.of(done.stdout)


class Shell:
    """A session that stays: a shell at the other end of one of WAYS."""

    def __init__(self, place: Stage, command: list[str]) -> None:
        self.process = place.start(
            *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.name = self.ask("echo $KRB5CCNAME").strip()

    def ask(self, command: str) -> str:
        """What a command prints."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{command}\necho '<END>'\n")
        self.process.stdin.flush()
        said = ""
        while not (line := first_line(self.process.stdout, BOUND)).endswith("<END>\n"):
            assert line, f"{command} is not done within {BOUND} s: {said!r}"
            said += line
        return said + line.removesuffix("<END>\n")

    def tour(self, what: str = "tour") -> Report:
        """What TOUR has to say."""
        return Report.of(self.ask(f"{INSIDE}/tour {what}"))

    def close(self) -> None:
        """Log out."""
        self.process.communicate(timeout=BOUND)

    def __enter__(self) -> "Shell":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def shell(place: Stage, way: str, user: str) -> Shell:
    """Log in by one of WAYS (not by login, which wants a terminal), and stay."""
    return Shell(place, WAYS[way](user, "sh"))


def delegating(place: Stage, user: str) -> Shell:
    """Log in by ssh with a ticket, which goes along, and stay."""
    return Shell(place, [*ssh_command(user, *BY_TICKET), "sh"])


def is_over(place: Stage) -> bool:
    """Whether no mount, process, socket, journal or file of any user is there."""
    return not left(place)


def left(place: Stage) -> list[str]:
    """What is there of users: mounts, processes, and files in ccfsd's directory and in /tmp."""
    known = {"control", "state", "lock", "daemons", "journal"}
    there = [path for path in place.run_directory.iterdir() if path.name not in known]
    for directory in ("run/ccfs/daemons", "run/ccfs/journal", "tmp", "dev/shm"):
        there += (Path(f"/proc/{place.init}/root") / directory).iterdir()
    users = {*USERS.values()}
    processes = [line for pid, line in place.processes().items() if _owner(pid) in users]
    return [*place.mounts(), *map(str, there), *processes]


def _owner(pid: int) -> int:
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return -1
