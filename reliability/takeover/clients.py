# SPDX-License-Identifier: MIT
"""Real Kerberos programs in loops, with a real KDC: each exit status and output is looked at.

Knows commands and what they must print.  What each has besides its environment is in the mount.
"""

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reliability.takeover import log
from reliability.takeover.log import Log
from reliability.takeover.processes import Ending
from tests.support.clients import go as go_client
from tests.support.clients import java as java_client
from tests.support.kdc import Kdc
from tests.support.require import SEARCH

SECONDS = 60
KVNO, KEYTAB, PASSWORD = "kvno", "kinit-k", "kinit-p"
"""The ccaches of the loops."""
TGT, HTTP = "krbtgt/KRBTEST.COM@KRBTEST.COM", "HTTP/localhost@KRBTEST.COM"


@dataclass(frozen=True, slots=True)
class Command:
    """A command, its environment, and what must be in its output."""

    argv: Sequence[str]
    environment: dict[str, str]
    prints: Sequence[str] = ()
    stdin: str = ""


@dataclass(frozen=True, slots=True)
class Loop:
    """Commands that one process runs over and over; `rest` seconds between two rounds."""

    name: str
    commands: Sequence[Command]
    rest: float = 0.05


def run(loop: Loop, written: Log) -> None:
    """Run the loop until SIGTERM; each failure is written down with what it said."""
    ended = Ending()
    while not ended():
        for command in loop.commands:
            once(command, written)
        time.sleep(loop.rest)
    written.write(log.DONE)


def once(command: Command, written: Log) -> None:
    """Run a command once; a failure is written down."""
    name = " ".join(command.argv)
    written.write(log.ASK, name)
    try:
        done = subprocess.run(
            ["timeout", "-k", "5", str(SECONDS), *command.argv],
            env=command.environment,
            input=command.stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=2 * SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        written.error(name, error)
        return
    if done.returncode:
        said = (done.stderr + done.stdout).strip()[-300:]
        written.write(log.ERROR, name, done.returncode, said)
    elif lacking := [text for text in command.prints if text not in done.stdout + done.stderr]:
        written.write(log.ERROR, name, 0, f"no {lacking} in {done.stdout!r} {done.stderr!r}")
    else:
        written.write(log.ACK, name)


def prepare(mount: Path, kdc: Kdc, written: Log) -> None:
    """Make the ccaches of the loops, and get the tickets that those have who only read."""
    for name in (KVNO, KEYTAB, PASSWORD):
        (mount / "caches" / name).mkdir()
    read = _file(kdc, mount / "default/ccache")
    kvno = _file(kdc, mount / "caches" / KVNO / "ccache")
    for command in (_kinit(read, kdc), _kvno(read), _kinit(kvno, kdc)):
        once(command, written)


def mit_loops(mount: Path, socket: Path | None, kdc: Kdc) -> list[Loop]:
    """klist by FILE, DIR and KCM, kinit by password and by keytab, kvno."""
    read = _file(kdc, mount / "default/ccache")
    kvno, keytab, password = (
        _file(kdc, mount / "caches" / name / "ccache") for name in (KVNO, KEYTAB, PASSWORD)
    )
    collection = kdc.environment(f"DIR:{mount}/dir")
    loops = [
        Loop("klist FILE", [Command(["klist"], read, [TGT, HTTP])]),
        Loop(
            "klist DIR",
            [
                Command(["klist"], collection, [TGT, HTTP]),
                Command(["klist", "-l"], collection, ["alice"]),
            ],
        ),
        Loop("kvno", [_kvno(kvno)]),
        Loop("kinit -k", _login(keytab, _kinit(keytab, kdc))),
        Loop("kinit", _login(password, _by_password(password, kdc))),
    ]
    if socket is not None:
        environment = kdc.environment("KCM:")
        conf = kdc.directory / "kcm.conf"
        conf.write_text(f"[libdefaults]\n\tkcm_socket = {socket}\n")
        environment["KRB5_CONFIG"] = f"{conf}:{kdc.mit_conf}"
        loops.append(Loop("klist KCM", [Command(["klist"], environment, [TGT, HTTP])]))
    return loops


def _file(kdc: Kdc, ccache: Path) -> dict[str, str]:
    return kdc.environment(f"FILE:{ccache}")


def _kinit(environment: dict[str, str], kdc: Kdc) -> Command:
    return Command(["kinit", "-k", "-t", str(kdc.keytab), kdc.principal("alice")], environment)


def _by_password(environment: dict[str, str], kdc: Kdc) -> Command:
    return Command(["kinit", kdc.principal("bob")], environment, stdin=kdc.passwords["bob"] + "\n")


def _kvno(environment: dict[str, str]) -> Command:
    return Command(["kvno", "HTTP/localhost"], environment, [f"{HTTP}: kvno = "])


def _login(environment: dict[str, str], kinit: Command) -> list[Command]:
    """A login, a service ticket, and a look at both."""
    return [kinit, _kvno(environment), Command(["klist"], environment, [TGT, HTTP])]


@contextlib.contextmanager
def java_loop(mount: Path, kdc: Kdc) -> Iterator[Loop]:
    """The JDK's Krb5LoginModule with useTicketCache; KeyError where there is no JDK."""
    java, javac = _program("java"), _program("javac")
    with tempfile.TemporaryDirectory(dir=kdc.directory) as directory:
        compile_it = [javac, "-J-XX:TieredStopAtLevel=1", "-d", directory, str(java_client.SOURCE)]
        subprocess.run(compile_it, check=True, timeout=120, capture_output=True)
        argv = [
            *(java, *java_client.QUICK, "-XX:-UsePerfData"),
            f"-Djava.security.krb5.conf={kdc.mit_conf}",
            f"-Djava.io.tmpdir={kdc.directory}",
            *("-cp", directory, "Initiate", str(mount / "default/ccache"), "HTTP@localhost"),
        ]
        prints = [f"principal: {kdc.principal('alice')}", f"ticket: {HTTP}", "token: "]
        yield Loop("java", [Command(argv, kdc.environment(), prints)], rest=0.2)


@contextlib.contextmanager
def go_loop(mount: Path, kdc: Kdc) -> Iterator[Loop]:
    """gokrb5's credentials.LoadCCache; KeyError where there is no Go, or no gokrb5."""
    compiler = _program("go")
    if not go_client.GOKRB5.exists():
        raise KeyError("gokrb5")
    build = go_client.Build(compiler)
    try:
        argv = [
            str(shutil.copy(build.wait(), kdc.directory)),
            str(kdc.mit_conf),
            str(mount / "default/ccache"),
            "HTTP/localhost",
        ]
        yield Loop("go", [Command(argv, kdc.environment(), [HTTP])], rest=0.1)
    finally:
        build.end()


def _program(name: str) -> str:
    path = shutil.which(name, path=SEARCH)
    if path is None:
        raise KeyError(name)
    return path


OTHERS: dict[str, Callable[[Path, Kdc], "contextlib.AbstractContextManager[Loop]"]] = {
    "java": java_loop,
    "go": go_loop,
}
