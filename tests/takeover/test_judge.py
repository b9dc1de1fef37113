# SPDX-License-Identifier: MIT
"""What reliability/takeover finds in made-up logs: lost, doubled and torn steps, gaps, errors."""

from pathlib import Path

import pytest

from reliability.takeover import contents, judge, log, pauses, recorder
from reliability.takeover.log import Entry, Log
from reliability.takeover.report import Report
from tests.support.clients.python import records

ONE, TWO, THREE = "host/w-1", "host/w-2", "host/w-3"
STORED: list[list[object]] = [["replace", []], ["store", ONE], ["store", TWO]]


def account(
    tmp_path: Path, changes: list[list[object]], *, answered: bool = True
) -> judge.Accounts:
    """The account of a writer that asked for these, the last one answered or not."""
    written = Log(tmp_path, "w")
    for number, change in enumerate(changes, 1):
        written.write(log.ASK, "own", number, change)
        if answered or number < len(changes):
            written.write(log.ACK, "own", number)
    return judge.accounts(log.read_all(tmp_path), ["w"])["w"]


def categories(found: judge.Accounts, there: list[str] | None) -> list[str]:
    return [category for category, _ in judge.verdicts({"w": found}, lambda _: there, [])]


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        ([ONE, TWO], []),
        ([ONE], ["lost"]),
        (None, ["lost", "lost"]),
        ([TWO, ONE], ["lost"]),
        ([ONE, TWO, TWO], ["doubled"]),
        ([ONE, TWO, THREE], ["lost"]),
    ],
)
def test_judge_finds_lost_or_doubled_credential(
    tmp_path: Path, there: list[str] | None, wanted: list[str]
) -> None:
    assert categories(account(tmp_path, STORED), there) == wanted


@pytest.mark.parametrize("there", [[ONE], [ONE, TWO]])
def test_judge_allows_either_outcome_of_unanswered_step(tmp_path: Path, there: list[str]) -> None:
    assert categories(account(tmp_path, STORED, answered=False), there) == []


def test_judge_finds_undone_removal(tmp_path: Path) -> None:
    removed = account(tmp_path, [*STORED, ["remove", ONE]])
    assert categories(removed, [TWO]) == []
    assert categories(removed, [ONE, TWO]) == ["lost"]


def test_judge_finds_credential_never_stored(tmp_path: Path) -> None:
    found = {"w": account(tmp_path, STORED)}
    verdicts = judge.verdicts(found, lambda _: [ONE, TWO], ["host/shared-other-1"])
    assert [category for category, _ in verdicts] == ["torn"]


@pytest.mark.parametrize(
    ("before", "after"), [([], [ONE]), ([ONE, TWO], [TWO]), (None, []), ([ONE], None), ([], [])]
)
def test_difference_of_lists_is_a_change(before: list[str] | None, after: list[str] | None) -> None:
    assert judge.applied(before, recorder.change(before, after)) == after


def test_half_record_is_torn() -> None:
    image = records.ccache([ONE, TWO])
    assert contents.servers_in(image) == [ONE, TWO]
    with pytest.raises(records.TornError):
        contents.servers_in(image[:-1])
    with pytest.raises(records.TornError):
        contents.servers_in(records.ccache([ONE]).replace(b"w-1", b"w-2"))


def event(number: int, what: str, credential: str) -> str:
    return f"{number}\t2026-11-28T00:00:00Z\t{what}\tw\t{credential}\tuid=0\tpid=1\tpython"


@pytest.mark.parametrize(
    ("numbers", "credentials", "wanted"),
    [
        ([1, 2, 3], "abc", []),
        ([1, 3], "ab", ["lost"]),
        ([1, 1], "ab", ["doubled"]),
        ([1, 2], "aa", ["doubled"]),
    ],
)
def test_judge_finds_gap_or_repeat_in_events(
    numbers: list[int], credentials: str, wanted: list[str]
) -> None:
    pairs = zip(numbers, credentials, strict=True)
    lines = [event(number, "stored", f"host%2F{name}") for number, name in pairs]
    assert [category for category, _ in judge.events(lines)] == wanted


def report(*entries: Entry) -> Report:
    return Report(10.0, [(1.0, 1.2), (2.0, 2.1)], list(entries), {})


def test_any_client_error_is_a_failure() -> None:
    assert report().good()
    seen = report(Entry(1.25, "w", log.ERROR, ("step", 107, "not connected")))
    assert not seen.good()
    assert "error   w, +250 ms from kill 1, step: errno or status 107, not connected" in [
        *seen.lines()
    ]
    assert not report(Entry(1.0, "w", log.WRONG, ("lost", "it"))).good()
    assert not report(Entry(1.0, "held", log.HELD, ("cat", "dead", "why"))).good()


def test_longest_pause_is_reported_per_kill() -> None:
    gaps = [Entry(0.0, "c", log.GAP, gap) for gap in ((0.99, 0.2), (1.5, 0.01), (2.0, 0.07))]
    spans = [(1.0, 2.0), (2.0, 9.0)]
    assert pauses.longest(gaps, "c", spans) == [0.2, 0.07]
