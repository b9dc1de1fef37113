# SPDX-License-Identifier: MIT
"""The harness of the benchmark: chance, bounds, counting, reports; no figure is judged here."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import credentials, goals, keep, parts
from bench.goals import Goal
from bench.guard import Guard
from bench.machine import Machine, describe
from bench.measure import FEWEST, Bench, Case, Cell, Results, percentile, reason, spread
from bench.peers import BY_KEY, PEERS
from bench.peers.base import MissingError, Peer, Server, Workspace, process, wait_for
from bench.plan import DOES, Run
from bench.plot import draw
from bench.report import document, goal_table, number, tables
from bench.scale import PARTS, SHORT
from ccfs.format.ccache import decode_ccache
from ccfs.format.ticket import ticket_info
from tests.support.paths import PROJECT

PLAIN = [sys.executable, "-m", "bench.plain_kcm"]


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A benchmark of three samples of each case."""
    guard = Guard()
    try:
        yield Bench(Results(), guard, repetitions=3, seconds=60)
    finally:
        guard.close()


@pytest.fixture(scope="module")
def machine() -> Machine:
    """What this runs on."""
    return describe(SHORT)


def case(name: str, sample: Callable[[], dict[str, float]], pids: list[int] | None = None) -> Case:
    """A case of a server that may have processes."""
    server = Server(config=Path("/dev/null"), residual=str, pids=pids or [])
    return Case(Cell("part", name, 0, "file"), server, sample)


def test_credential_is_as_from_a_kdc() -> None:
    """Such as a KDC gives: 605 bytes, and a ticket that decodes."""
    assert len(credentials.credential(credentials.server(41))) == 605
    decoded = decode_ccache(credentials.ccache(42))
    assert len(decoded.credentials) == 42
    assert len({str(one.server) for one in decoded.credentials}) == 42
    info = ticket_info(decoded.credentials[7].ticket)
    assert info is not None
    assert (info.enctype, info.kvno) == (credentials.AES256, 1)


def test_spread_and_percentile_of_samples() -> None:
    one = spread([5.0, 1.0, 3.0, 2.0, 4.0])
    assert (one.count, one.low, one.median, one.high) == (5, 2.0, 3.0, 4.0)
    assert spread([7.0]).median == 7.0
    assert percentile([float(value) for value in range(1000)], 0.99) == 990.0


def test_bench_samples_every_case_in_changing_order(bench: Bench) -> None:
    order: list[str] = []

    def sampler(name: str) -> Callable[[], dict[str, float]]:
        return lambda: order.append(name) or {"": 1.0, "first": 2.0}

    names = [str(number) for number in range(20)]
    bench.run([case(name, sampler(name)) for name in names], "what")
    turns = [order[start : start + 20] for start in (0, 20, 40)]
    assert all(sorted(turn) == sorted(names) for turn in turns)
    assert turns[0] != turns[1] != turns[2]
    assert bench.results.samples[Cell("part", "7", 0, "file")] == [1.0] * 3
    assert bench.results.samples[Cell("part", "7, first", 0, "file")] == [2.0] * 3


def test_bench_reports_failed_case_and_continues(bench: Bench) -> None:
    def fails() -> dict[str, float]:
        raise OSError(5, "Input/output error", "/somewhere/private")

    bench.run([case("bad", fails), case("good", lambda: {"": 1.0})], "what")
    assert bench.results.failures == {Cell("part", "bad", 0, "file"): "OSError: Input/output error"}
    assert len(bench.results.samples[Cell("part", "good", 0, "file")]) == 3


def test_bench_takes_few_samples_of_slow_case(bench: Bench) -> None:
    bench.repetitions, bench.seconds = FEWEST + 5, 0.0
    slow = case("slow", lambda: {"": 1.0})
    bench.run([slow], "what")
    assert slow.made == FEWEST
    assert bench.results.cut == {slow.cell}


def test_reason_contains_no_path() -> None:
    assert reason(FileNotFoundError(2, "No such file or directory", "/x/y")) == (
        "FileNotFoundError: No such file or directory"
    )


@contextlib.contextmanager
def plain_kcm(directory: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The plain KCM server."""
    socket, log = directory / "socket", directory / "log"
    with process([*PLAIN, socket], log) as child:
        wait_for(child, log, lambda: b"ready" in log.read_bytes(), "plain_kcm")
        yield child, socket


def test_guard_ends_hanging_server(tmp_path: Path) -> None:
    """libkrb5 waits for it in C, where no exception of Python gets in."""
    krb5 = pytest.importorskip("krb5")
    with plain_kcm(tmp_path) as (child, socket), contextlib.closing(Guard()) as guard:
        configuration = Workspace(tmp_path).configuration(f"kcm_socket = {socket}")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KRB5_CONFIG", str(configuration))
            context = krb5.init_context()
        os.kill(child.pid, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(krb5.Krb5Error), guard.watching(0.2, [child.pid]):
            krb5.cc_get_principal(context, krb5.cc_resolve(context, b"KCM:0:any"))
        assert time.monotonic() - began < 30
        assert child.wait(10) == -signal.SIGKILL


def test_guard_leaves_timely_servers_alone(tmp_path: Path) -> None:
    with plain_kcm(tmp_path) as (child, _), contextlib.closing(Guard()) as guard:
        with guard.watching(60, [child.pid]):
            pass
        with guard.watching(60):
            pass
        assert child.poll() is None


def test_run_reports_peer_that_does_not_start(bench: Bench, tmp_path: Path) -> None:
    @contextlib.contextmanager
    def missing(workspace: Workspace) -> Iterator[Server]:
        raise MissingError("it isn't there")
        yield

    @contextlib.contextmanager
    def broken(workspace: Workspace) -> Iterator[Server]:
        with process(["sh", "-c", "echo why >&2; exit 3"], workspace.directory / "log") as child:
            wait_for(child, workspace.directory / "log", lambda: False, "broken")
        yield Server(config=Path(), residual=str)

    peers = [Peer("one", "One", missing), Peer("two", "Two", broken), BY_KEY["file"]]
    run = Run(bench, SHORT, (), peers, tmp_path)
    with run.started("part") as there:
        assert [*there] == ["file"]
    assert bench.results.missing == {"one": "it isn't there", "two": "broken: why"}


def some_results() -> Results:
    """Samples such that some goals are reached and one is missed."""
    results = Results(missing={"sssd": "no sssd_kcm"})
    for work, ours in (("principal", 2.0), ("store", 9.0)):
        results.samples[Cell("operations", work, 42, "file")] = [1e-5] * 3
        results.samples[Cell("operations", work, 42, "ccfs")] = [ours * 1e-5] * 3
    results.samples[Cell("requests", "store", 42, "ccfs")] = [4, 4, 5, 4]
    results.samples[Cell("requests", "store, write", 42, "ccfs")] = [1.25]
    results.samples[Cell("many at once", "eight clients: principal, rate", 42, "ccfs")] = [5e4]
    results.failures[Cell("growth, ccaches", "store", 1000, "heimdal")] = "KrbError: full"
    results.cut.add(Cell("operations", "store", 42, "ccfs"))
    return results


def test_goals_are_judged_by_results() -> None:
    rows = goal_table(some_results(), measured=True).splitlines()[2:]
    assert rows == [
        "| principal, 42 credentials, against FILE on tmpfs | <= 3x | 2x | reached |",
        "| store, 42 credentials, against FILE on tmpfs | <= 8x | 9x | **missed** by 12.5 % |",
        "| requests waited for: store, through caches/NAME | <= 4 | 4 | reached |",
    ]
    assert "not measured" in goal_table(some_results())


@pytest.mark.parametrize(
    ("limit", "at_least", "value", "reached"),
    [(3.0, False, 3.001, True), (3.0, False, 3.01, False), (20.0, True, 19.9, False)],
)
def test_goal_is_judged_by_rounded_figure(
    limit: float, at_least: bool, value: float, reached: bool
) -> None:
    assert Goal("", limit, "x", at_least, lambda results: None).reached(value) is reached


def test_goal_cells_are_measured() -> None:
    """A goal that looks for a misspelt cell would never be judged."""
    asked: list[Cell] = []

    class Asked(Results):
        def median(self, part: str, work: str, size: int, peer: str) -> float | None:
            asked.append(Cell(part, work, size, peer))
            return 1.0

    for goal in goals.goals():
        assert goal.measure(Asked()) is not None
    assert {cell.part for cell in asked} <= set(parts.TITLES)
    assert {cell.peer for cell in asked} <= set(BY_KEY)


def test_tables_show_all_cells() -> None:
    text = tables(some_results())
    for line in (
        "|  | principal (us) | store (us) |",
        "| FILE on tmpfs | 10 (10-10) | 10 (10-10) |",
        "| ccfs, FILE | 20 (20-20) x2 | 90 (90-90) x9* |",
        "| ccfs, FILE | write x1.25 |",
        "| ccfs, FILE | 50,000 |",
        "| KCM, Heimdal | KrbError: full |",
    ):
        assert line in text.splitlines()


def test_saved_results_equal_measured(tmp_path: Path, machine: Machine) -> None:
    results = some_results()
    keep.save(tmp_path, results, machine)
    again, there = keep.read(tmp_path / "results.json")
    assert again == results
    assert there.processor == machine.processor
    written = (tmp_path / "results.md").read_text()
    assert written == document(again, there)
    assert "no sssd_kcm" in written


def test_plots_are_drawn_for_each_part(tmp_path: Path) -> None:
    draw(some_results(), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"operations-42.png", "operations-42.svg"}
    assert "FILE on tmpfs" in (tmp_path / "operations-42.svg").read_text()


def test_results_do_not_name_the_machine(machine: Machine) -> None:
    said = str(machine) + document(some_results(), machine)
    assert os.uname().nodename not in said.split()
    assert str(PROJECT) not in said


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.00001, "0.000"), (0.05, "0.05"), (12.34, "12.3"), (1234.5, "1,230")],
)
def test_number_is_rounded_by_size(value: float, text: str) -> None:
    assert number(value) == text


def test_parts_are_those_of_the_command_line() -> None:
    assert tuple(DOES) == PARTS
    assert len({peer.key for peer in PEERS}) == len(PEERS)
