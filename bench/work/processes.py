# SPDX-License-Identifier: MIT
"""Whole processes: klist, kvno of a cached ticket, kinit -k, and a GSSAPI handshake.

This file knows MIT's programs and a KDC, never the peer's kind.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.measure import Bench, Case, Cell, reason
from bench.peers.base import MissingError, Server
from bench.peers.kcm import UNPACKED
from bench.work.operations import Sample, Servers
from bench.work.spawn import spawn
from tests.support.kdc import Kdc

PART = "processes"
WORKS = ("klist", "kvno", "kinit -k", "handshake")
SERVICE = "HTTP/localhost"
READ, WRITTEN = "process", "kinit"
"""The ccache that is looked at, and the one that kinit makes anew each time."""
HYPERFINE = UNPACKED / "usr/bin/hyperfine"
SOURCE = Path(__file__).parent.parent / "handshake.c"


@dataclass(frozen=True, slots=True)
class Programs:
    """The commands of WORKS for one realm."""

    kdc: Kdc
    handshake: Path

    def command(self, work: str) -> list[str]:
        """The command of a work, with its program's whole path."""
        return {
            "klist": [program("klist")],
            "kvno": [program("kvno"), SERVICE],
            "kinit -k": [program("kinit"), "-k", "-t", str(self.kdc.keytab), "alice"],
            "handshake": [str(self.handshake), SERVICE.replace("/", "@")],
        }[work]


def program(name: str) -> str:
    """The path of a program of MIT's; MissingError where there is none."""
    found = shutil.which(name)
    if found is None:
        raise MissingError(f"no {name}: apt-get install krb5-user")
    return found


def compiled(directory: Path) -> Path:
    """The program that makes a handshake."""
    target = directory / "handshake"
    flags = subprocess.run(
        ["krb5-config", "--cflags", "--libs", "gssapi"], capture_output=True, text=True, check=True
    ).stdout.split()
    subprocess.run(["gcc", "-O2", "-o", str(target), str(SOURCE), *flags], check=True, timeout=60)
    return target


def run(bench: Bench, servers: Servers, kdc: Kdc, directory: Path) -> None:
    """All of WORKS, in one order of chance; klist by another hand, too."""
    programs = Programs(kdc, compiled(directory))
    bench.run(cases(bench, servers, programs), PART)
    for peer, server in servers.items():
        if HYPERFINE.exists() and Cell(PART, "klist", 0, peer) in bench.results.samples:
            cell = Cell(PART, "klist, by hyperfine", 0, peer)
            server.choose(READ)
            report = directory / "hyperfine.json"
            variables = environment(server, READ, programs)
            try:
                bench.results.samples[cell] = by_hyperfine(variables, bench.repetitions, report)
            except Exception as error:
                bench.results.failures[cell] = reason(error)


def by_hyperfine(variables: dict[str, str], runs: int, report: Path) -> list[float]:
    """The seconds of klist as hyperfine measures them, one run after another."""
    command = [HYPERFINE, "-N", "--style", "none", "--warmup", "3", "--runs", str(max(2, runs))]
    command += ["--export-json", report, program("klist")]
    subprocess.run([*map(str, command)], check=True, capture_output=True, timeout=60, env=variables)
    times: list[float] = json.loads(report.read_text())["results"][0]["times"]
    return times


def cases(bench: Bench, servers: Servers, programs: Programs) -> Iterator[Case]:
    """Every work on every peer, and a program that does nothing."""
    for peer, server in servers.items():
        try:
            with bench.guard.watching(60, server.pids, server.connection):
                ready(server, programs)
        except Exception as error:
            for work in WORKS:
                bench.results.failures[Cell(PART, work, 0, peer)] = reason(error)
            continue
        for work in WORKS:
            name = WRITTEN if work == "kinit -k" else READ
            cell, command = Cell(PART, work, 0, peer), programs.command(work)
            yield Case(cell, server, sampler(server, name, command, programs))
    for peer, server in [*servers.items()][:1]:
        command = [program("true")]
        yield Case(Cell(PART, "true", 0, peer), server, sampler(server, READ, command, programs))


def environment(server: Server, name: str, programs: Programs) -> dict[str, str]:
    """A process's whole environment."""
    return {**server.environment(name), "KRB5_KTNAME": str(programs.kdc.service_keytab)}


def ready(server: Server, programs: Programs) -> None:
    """Make both ccaches, the first with a ticket for SERVICE in it."""
    for name in (WRITTEN, READ):
        server.make(name)
        server.choose(name)
        spawn(programs.command("kinit -k"), environment(server, name, programs))
    spawn(programs.command("kvno"), environment(server, READ, programs))


def sampler(server: Server, name: str, command: list[str], programs: Programs) -> Sample:
    """How a run of a command is timed."""
    variables = environment(server, name, programs)

    def sample() -> dict[str, float]:
        server.choose(name)
        return {"": spawn(command, variables)}

    return sample
