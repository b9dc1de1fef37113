# SPDX-License-Identifier: MIT
"""The log of changes: what a line says, how much is kept, and positions that stay true."""

import re
from itertools import count

import pytest

from ccfs.store import Client, Stamp
from ccfs.store.event_log import MAX_EDITIONS, Edition, EventLog, Reader
from ccfs.store.values import EventKind
from tests.support.storing import USER, at, fill, new_store, record, serials, whole

LINE = re.compile(rb"\d+\t[^\n\t]*\t[^\n\t]+\t[^\n\t]+\t[^\n\t]+\tuid=\d+\tpid=\d+\t[^\n\t]+\n")


def new_log(limit: int = 10) -> EventLog:
    return EventLog(limit, count(1).__next__)


def add(log: EventLog, times: int = 1) -> None:
    for _ in range(times):
        log.append(at(), EventKind.STORED, b"tkt", "host%2Fwww@R")


def everything(log: EventLog, edition: Edition) -> bytes:
    return log.read(edition, 0, log.size(edition))


def read_in_pieces(log: EventLog, edition: Edition, size: int) -> bytes:
    """As a reader does it who asks for the same size until there is no more."""
    data = b""
    while piece := log.read(edition, len(data), size):
        assert len(piece) <= size
        data += piece
    return data


def test_event_line_has_all_fields() -> None:
    log = new_log()
    log.append(at(), EventKind.STORED, b"tkt", "host%2Fwww@R")
    assert everything(log, log.edition) == (
        b"1\t2023-11-14T22:13:20Z\tstored\ttkt\thost%2Fwww@R\tuid=1000\tpid=4242\tkinit\n"
    )
    assert (log.sequence, log.mtime) == (1, at().now)


@pytest.mark.parametrize("odd", ["new\nline", "tab\tbed", "\udcff", "a/b", "", "% d", "\x1b[2J"])
def test_names_cannot_forge_lines(odd: str) -> None:
    log = new_log()
    raw = odd.encode("utf-8", "surrogateescape")
    log.append(Stamp(at().now, Client(0, 1, odd)), EventKind.CREATED, raw)
    assert LINE.fullmatch(everything(log, log.edition))


def test_steps_are_logged_with_client() -> None:
    store = new_store()
    tkt = fill(store, whole(record()))
    other = Client(1000, 7, "rm")
    store.edits.remove(tkt, next(iter(serials(tkt))), Stamp(at().now, other))
    last = everything(store.events, store.events.edition).splitlines()[-1]
    assert last.endswith(b"\tremoved\ttkt\thost%2Fwww@R\tuid=1000\tpid=7\trm")
    assert store.events.sequence == 4


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_log_is_readable_in_pieces(size: int) -> None:
    log = new_log(100)
    add(log, 60)
    data = read_in_pieces(log, log.edition, size)
    assert data == everything(log, log.edition)
    assert len(data) == log.size(log.edition)
    assert data.count(b"\n") == 60
    for offset in range(0, len(data), 97):
        assert log.read(log.edition, offset, size) == data[offset : offset + size]


def test_read_beyond_end_is_empty() -> None:
    log = new_log()
    assert log.read(log.edition, 0, 100) == b""
    add(log)
    for beyond in (0, 1, 10**9):
        assert log.read(log.edition, log.size(log.edition) + beyond, 100) == b""


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 10, 101])
def test_log_is_bounded(limit: int) -> None:
    log = new_log(limit)
    for number in range(1, 400):
        add(log)
        lines = everything(log, log.edition).splitlines()
        lost = int(lines.pop(0).split()[2]) if lines[0].startswith(b"#") else 0
        assert min(number, max(limit, 2) // 2) <= len(lines) <= max(limit, 2)
        assert lost + len(lines) == number == log.sequence
        assert [int(line.split(b"\t")[0]) for line in lines] == [*range(lost + 1, number + 1)]


def test_new_edition_has_new_number() -> None:
    log = new_log(10)
    first = log.edition
    add(log, 10)
    assert log.edition is first
    add(log)
    assert log.edition.number != first.number
    assert log.find(first.number) is first
    assert log.find(log.edition.number) is log.edition
    assert log.find(10**6) is None


def test_forgotten_edition_is_readable() -> None:
    log = new_log(2)
    first = log.edition
    add(log, 40)
    assert log.find(first.number) is None
    assert len(log._editions) == MAX_EDITIONS
    reader = Reader(log, first)
    assert reader.read(0, 50) == b"# lost all events before %d\n" % (40 - len(log._lines) + 1)
    assert reader.behind


@pytest.mark.parametrize("size", [1, 10, 64, 10_000])
@pytest.mark.parametrize("seen", [0, 3, 8])
def test_reader_of_older_edition_continues_with_gap_line(size: int, seen: int) -> None:
    """It gets every line that is kept, and is told in one line of those that are not."""
    log = new_log(10)
    add(log, 8)
    edition = log.edition
    line = len(everything(log, edition)) // 8
    offset = seen * line
    add(log, 20)
    reader, rest = Reader(log, edition), b""
    while piece := reader.read(offset + len(rest), size):
        rest += piece
    assert not reader.behind
    assert b"  " not in rest
    lines = rest.splitlines()
    whole_lines = [row for row in lines if LINE.fullmatch(row + b"\n")]
    numbers = [int(row.split(b"\t")[0]) for row in whole_lines]
    kept = everything(log, log.edition).count(b"\n") - 1
    assert numbers == [*range(28 - kept + 1, 29)]
    if size > 40:  # else the note is cut
        assert lines[0].startswith(b"# lost all events before %d" % numbers[0])


def test_edition_with_gap_line_has_stable_offsets() -> None:
    log = new_log(4)
    add(log, 5)
    edition = log.edition
    data = everything(log, edition)
    assert data.startswith(b"# lost 3 events\n4\t")
    assert read_in_pieces(log, edition, 5) == data
    add(log)
    assert everything(log, edition).startswith(data)


def test_effects_are_taken_once() -> None:
    store = new_store()
    assert store.take_effects() is not None
    assert store.take_effects() is None
    fill(store, whole(record()))
    effects = store.take_effects()
    assert effects is not None
    assert effects.logged
    assert effects.changed == {store.collection.default.serial}
    assert store.take_effects() is None
    assert USER.command == "kinit"
