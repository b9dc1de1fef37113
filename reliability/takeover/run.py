# SPDX-License-Identifier: MIT
"""One run: a mount, its clients, the kills, the checks, and nothing left of it.

Knows in which order things happen.  The program itself looks at the mount only through
bounded.call; everything else is done by processes that may hang without holding it up.
"""

import contextlib
import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ccfs.linux import forked_call
from reliability import writers
from reliability.takeover import (
    clients,
    closing,
    held,
    holder,
    judge,
    log,
    parked,
    pauses,
    recorder,
    ways,
)
from reliability.takeover.client_mount import (
    DEATHS_FILE,
    ClientMount,
    ccfsd_mount,
    own_mount,
    user_mount,
)
from reliability.takeover.clients import Loop
from reliability.takeover.contents import TORN, Servers, servers_in
from reliability.takeover.holder import Holder
from reliability.takeover.killer import GivenUpError, Killer
from reliability.takeover.log import Entry, Log
from reliability.takeover.processes import Processes
from reliability.takeover.recorder import SHARED
from reliability.takeover.report import Report
from tests.support.clients.python import records
from tests.support.kdc import Kdc, running_kdc
from tests.support.require import SEARCH

PARTS = ("writers", "clients", "held", "pauses")
LOOK_SECONDS = 60.0
QUIET_KILLS = 3
CLIENT_NICE, OTHER_NICE = 5, 10
"""Kerberos programs, and those in Java and Go: they need seconds of processor time."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is done.  `seconds`: how long it lasts where there are no kills."""

    kills: int = 100
    seed: int = 1
    every: float = 0.5
    seconds: float = 20.0
    check_every: int = 25
    parts: tuple[str, ...] = PARTS
    writers: tuple[str, ...] = ()
    """The names of the writers that take part; empty for all."""
    others: tuple[str, ...] = tuple(clients.OTHERS)
    rest: float = 0.005
    stopped: float = 0.25
    kill_others: float = 0.0
    command: str | None = None
    old_way: bool = False
    ccfsd: bool = False
    """The mount is one that ccfsd serves to a user."""
    user: bool = False
    """The mount is one that an ordinary user has made."""
    dying: bool = False
    """Daemons die by themselves around a journal write, in place of the kills."""
    program: str = "ccfs"
    mount_options: tuple[str, ...] = ()


@dataclass
class Run:
    """The state of a run."""

    given: Options
    client_mount: ClientMount
    killer: Killer
    processes: Processes
    writers: list[str] = field(default_factory=list)
    loops: list[str] = field(default_factory=list)
    wrong: list[tuple[str, str]] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    @property
    def mount(self) -> Path:
        return self.client_mount.mount

    @property
    def socket(self) -> Path:
        return self.client_mount.socket

    @property
    def logs(self) -> Path:
        return self.client_mount.directory / "logs"

    @property
    def gate(self) -> Path:
        return self.client_mount.directory / "gate"

    def look(self, work: Callable[[], bytes], seconds: float = LOOK_SECONDS) -> bytes:
        """Do something in a child process that is a client of the mount; TimeoutError."""
        return look(self.client_mount, work, seconds)

    def has(self, part: str) -> bool:
        return part in self.given.parts

    def fork(self, name: str, work: Callable[[Log], None], nice: int = 0) -> None:
        """Start a process with a log of its name."""
        written = Log(self.logs, name)
        self.processes.fork(name, lambda: work(written), nice)


def look(client_mount: ClientMount, work: Callable[[], bytes], seconds: float) -> bytes:
    """Do something in a child process that is a client of the mount; TimeoutError, OSError."""

    def inside() -> bytes:
        client_mount.enter()
        return work()

    return forked_call.call(inside, seconds)


def run(given: Options) -> Report:
    """Do it all; whatever happens nothing is left of it."""
    with contextlib.ExitStack() as stack:
        kdc = stack.enter_context(_kdc()) if "clients" in given.parts else None
        client_mount = stack.enter_context(_client_mount(given))
        killer = Killer(
            client_mount.mount,
            lambda work, seconds: look(client_mount, work, seconds),
            random.Random(given.seed),
            given.every,
            given.stopped,
            given.kill_others,
            given.command,
        )
        made = Run(given, client_mount, killer, Processes(enter=client_mount.enter))
        stack.callback(made.processes.end_all)
        return _run(made, kdc, stack)


def _client_mount(given: Options) -> contextlib.AbstractContextManager[ClientMount]:
    if given.ccfsd:
        return ccfsd_mount()
    program = "reliability.dying" if given.dying else given.program
    make = user_mount if given.user else own_mount
    return make(program, given.mount_options)


@contextlib.contextmanager
def _kdc() -> Iterator[Kdc]:
    program = shutil.which("krb5kdc", path=SEARCH)
    if program is None:
        raise SystemExit("no krb5kdc: apt-get install krb5-kdc krb5-user, or leave out clients")
    with running_kdc(program) as kdc:
        yield kdc


def _run(run: Run, kdc: Kdc | None, stack: contextlib.ExitStack) -> Report:
    run.logs.mkdir()
    run.gate.touch()
    run.client_mount.give(run.logs)
    if run.given.dying:
        run.killer.deaths = run.client_mount.directory / DEATHS_FILE
    loops = _loops(run, kdc, stack) if kdc else []
    run.look(lambda: _prepare(run, kdc))
    began = time.monotonic()
    try:
        holding = _hold(run, "held", _held(run)) if run.has("held") else None
        _start(run, loops)
        _kills(run)
        _quiet(run, holding)
        _last_look(run)
    except GivenUpError as error:
        run.troubles.append(str(error))
    except TimeoutError:
        run.troubles.append("a look at the mount did not come to its end")
    _end(run, "pause-file", "pause-kcm", "held", "parked", *run.writers, *run.loops)
    seconds = time.monotonic() - began
    return _report(run, seconds)


def _loops(run: Run, kdc: Kdc, stack: contextlib.ExitStack) -> list[Loop]:
    """The loops of Kerberos programs; the KDC's files become the clients' own."""
    loops = clients.mit_loops(run.mount, run.socket, kdc)
    for name in run.given.others:
        try:
            loops.append(stack.enter_context(clients.OTHERS[name](run.mount, kdc)))
        except KeyError as error:
            print(f"left out: {name}, there is no {error.args[0]}", flush=True)
    run.client_mount.give(kdc.directory)
    return loops


def _prepare(run: Run, kdc: Kdc | None) -> bytes:
    """In a child: make the ccaches."""
    caches = run.mount / "caches"
    names = [name for name in _writers(run) if name != "names"] if run.has("writers") else []
    for name in (SHARED, *names):
        (caches / name).mkdir()
    (caches / SHARED / "ccache").write_bytes(records.ccache([]))
    if run.has("held"):
        closing.prepare(run.mount)
    if kdc is not None:
        clients.prepare(run.mount, kdc, Log(run.logs, "preparation"))
    return b""


def _writers(run: Run) -> dict[str, Callable[[], recorder.Way]]:
    """Those of the ways that take part."""
    chosen = run.given.writers
    made = ways.all_ways(run.mount, run.socket)
    return {name: way for name, way in made.items() if not chosen or name in chosen}


def _held(run: Run) -> dict[str, holder.Maker]:
    """What is held: only root can have a mount namespace with a bind mount."""
    return {n: m for n, m in held.HELD.items() if run.client_mount.uid == 0 or n != held.CONTAINER}


def _start(run: Run, loops: list[Loop]) -> None:
    """Start writers, loops and what measures pauses, each in a process of its own."""
    if run.has("writers"):
        for number, (name, way) in enumerate(_writers(run).items()):
            _start_writer(run, name, way, number)
    for loop in loops:
        nice = OTHER_NICE if loop.name in clients.OTHERS else CLIENT_NICE
        run.loops.append(loop.name)
        run.fork(loop.name, lambda written, loop=loop: clients.run(loop, written), nice)
    if run.has("pauses"):
        run.fork(pauses.FILE, lambda written: pauses.run(pauses.file_client(run.mount), written))
        run.fork(pauses.KCM, lambda written: pauses.run(pauses.kcm_client(run.socket), written))


def _start_writer(run: Run, name: str, way: Callable[[], recorder.Way], number: int) -> None:
    chance = random.Random(run.given.seed * 1000 + number)

    def work(written: Log) -> None:
        recorder.run(
            recorder.Recorder(
                run.mount,
                name,
                writers.append,
                run.gate,
                chance,
                way=way(),
                log=written,
                rest=run.given.rest,
                servers=[] if name == "names" else None,
            )
        )

    run.writers.append(name)
    run.fork(name, work)


def _hold(run: Run, name: str, makers: dict[str, holder.Maker]) -> Holder:
    """Start a process that holds things; it has them when this returns."""
    side, pipes = holder.pair(makers)
    run.fork(name, lambda written: holder.run(makers, run.mount, written, pipes))
    if not side.wait(LOOK_SECONDS):
        raise GivenUpError(f"{name}: not everything could be opened")
    return side


def _kills(run: Run) -> None:
    """Kill, and compare the mount with the logs every so many kills; or just let time go by."""
    if not run.given.kills:
        time.sleep(run.given.seconds)
    for number in range(1, run.given.kills + 1):
        run.killer.kill()
        if number % run.given.check_every == 0 and run.writers:
            with writers.standing_still(run.gate):
                _compare(run)
    run.killer.deaths = None
    _end(run, *run.writers, *run.loops)


def _quiet(run: Run, holding: Holder | None) -> None:
    """A few kills more while nothing changes, with clients that wait; then look at what is held."""
    if holding is None:
        return
    waiting = _hold(run, "parked", parked.PARKED)
    for _ in range(min(QUIET_KILLS, run.given.kills)):
        run.killer.kill()
    for name, side in (("parked", waiting), ("held", holding)):
        if not side.check(holder.SECONDS * len(side.names)):
            run.troubles.append(f"{name}: the checks did not come to their end")


def _last_look(run: Run) -> None:
    """Compare everything once more, and read all events."""
    _compare(run)
    lines = run.look((run.mount / "events").read_bytes).decode().splitlines()
    run.wrong += judge.events(lines)


def _compare(run: Run) -> None:
    """What the logs say was acknowledged against what is there."""
    found = judge.accounts(log.read_all(run.logs), run.writers)
    seen = json.loads(run.look(lambda: _seen(run)))
    for name, text in seen["torn"].items():
        run.wrong.append((TORN, f"{name}: {text}"))
    here: dict[str, Servers] = seen["servers"]
    run.wrong += judge.verdicts(found, here.get, here.get(SHARED) or [])


def _seen(run: Run) -> bytes:
    """In a child: what is in each writer's ccache and in the shared one, as JSON."""
    there: dict[str, Servers] = {}
    torn: dict[str, str] = {}
    for name in (*run.writers, SHARED):
        try:
            there[name] = _servers(run.mount, name)
        except records.TornError as error:
            torn[name] = str(error)[:300]
    return json.dumps({"servers": there, "torn": torn}).encode()


def _servers(mount: Path, name: str) -> Servers:
    caches = mount / "caches"
    if name == "names":
        return sorted(n for n in os.listdir(caches) if n.startswith("names-"))
    if name not in os.listdir(caches) or "ccache" not in os.listdir(caches / name):
        return None
    return servers_in((caches / name / "ccache").read_bytes())


def _end(run: Run, *names: str) -> None:
    run.processes.end(*names)
    run.troubles += [f"{name} did not end" for name in run.processes.hung]
    run.processes.hung.clear()


def _report(run: Run, seconds: float) -> Report:
    entries = log.read_all(run.logs)
    found = judge.accounts(entries, run.writers)
    run.troubles += [f"{name} died" for name, account in found.items() if not account.ended]
    run.troubles += _unanswered(run, entries)
    steps = {name: account.acknowledged for name, account in found.items()}
    report = Report(seconds, run.killer.times, entries, steps, run.killer.others_killed)
    report.own_deaths = run.killer.own_deaths
    report.wrong, report.troubles, report.old_way = run.wrong, run.troubles, run.given.old_way
    return report


def _unanswered(run: Run, entries: list[Entry]) -> Iterator[str]:
    """What was held and never looked at, and loops that never ran to an end."""
    told = {entry.what[0] for entry in entries if entry.kind == log.HELD}
    if run.has("held"):
        for name in (*_held(run), *parked.PARKED):
            if name not in told:
                yield f"not looked at: {name}"
    ended = {entry.who for entry in entries if entry.kind == log.DONE}
    yield from (f"{name} died" for name in run.loops if name not in ended)
