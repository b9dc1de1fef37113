# SPDX-License-Identifier: MIT
"""Images: indexing while bytes come in, changes in place, and refusals that change nothing."""

import random
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfs.format.ccache import decode_ccache, encode_ccache
from ccfs.format.outline import Outline
from ccfs.format.removed_record import is_removed
from ccfs.store.ccache_scan import is_whole
from ccfs.store.errors import BadContentError, CcacheLimitError, StoreError, TotalLimitError
from ccfs.store.image import Image, RecordChanges
from ccfs.store.record_names import description_of
from ccfs.store.values import Stored
from tests.support.storing import ALICE, BOB, KEY, TGT, V3, config, prefix, record, removed
from tests.support.storing import whole as ccache
from tests.support.strategies import ccaches, mutations, quick, thorough
from tests.support.vectors import BROKEN, GOOD, vector

LIMIT = 1 << 20


@dataclass
class Names:
    """A registrar that only numbers."""

    live: dict[int, Stored] = field(default_factory=dict)
    last: int = 0

    most: int = 1_000_000

    def check_room(self, more: int) -> None:
        if len(self.live) + more > self.most:
            raise TotalLimitError("too many")

    def add(self, outline: Outline) -> Stored:
        self.last += 1
        d = description_of(outline)
        self.live[self.last] = Stored(self.last, d.stem, d.config, d.tgt, d.endtime)
        return self.live[self.last]

    def remove(self, stored: Stored) -> None:
        del self.live[stored.serial]


def image(data: bytes = b"", limit: int = LIMIT) -> tuple[Image, Names]:
    names = Names()
    return Image(limit, names, bytearray(data)), names


def stems(made: Image) -> list[str]:
    return [s.name for s in made.stored()]


def state(made: Image) -> tuple[object, ...]:
    return (
        bytes(made.data),
        made.prefix,
        list(made.spans),
        made.records_start,
        made.records_end,
        made.removed_bytes,
    )


def check(made: Image, names: Names) -> None:
    """The index says of the bytes what the codec says of them."""
    assert {s.serial for s in made.stored()} == set(names.live)
    if made.prefix is None:
        assert not made.spans
        return
    cc = decode_ccache(bytes(made.data[: made.records_end]))
    for span, held in zip(made.spans, cc.credentials, strict=True):
        if span.stored is None:  # removed as Heimdal does it, or as the others do
            assert held.times.endtime == 0
        else:
            assert not is_removed(held)
    assert made.spans == [] or made.spans[0].start == made.records_start
    edges = [(a.end, b.start) for a, b in pairwise(made.spans)]
    assert all(end == start for end, start in edges)
    assert made.records_end == (made.spans[-1].end if made.spans else made.records_start)
    assert made.removed_bytes == sum(s.end - s.start for s in made.spans if s.stored is None)
    for span in made.spans:
        if span.stored:
            assert made.record(span.stored.serial) == made.data[span.start : span.end]


@pytest.mark.parametrize("name", GOOD)
def test_vectors_are_indexed_in_one_piece(name: str) -> None:
    made, names = image(vector(name))
    assert made.incomplete_bytes == 0
    check(made, names)
    live = [c for c in decode_ccache(vector(name)).credentials if not is_removed(c)]
    assert len(live) == len(made.stored()) > 0


@pytest.mark.parametrize("name", GOOD)
def test_vectors_are_indexed_byte_by_byte(name: str) -> None:
    data = vector(name)
    at_once, _ = image(data)
    made, names = image()
    ends = {at_once.records_start, *(span.end for span in at_once.spans if span.stored)}
    for at, byte in enumerate(data):
        delta = made.append(bytes([byte]))
        assert bool(delta) == (at + 1 in ends)
    check(made, names)
    assert state(made) == state(at_once)


@thorough
@given(ccaches(), st.lists(st.integers(0, 1000), max_size=8))
def test_appends_cut_anywhere_are_indexed(cc: object, cuts: list[int]) -> None:
    data = encode_ccache(cc)  # type: ignore[arg-type]
    at_once, _ = image(data)
    made, names = image()
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    added = 0
    for start, end in pairwise(edges):
        added += len(made.append(data[start:end]).added)
        check(made, names)
    assert state(made) == state(at_once)
    assert added == len(made.stored())


@pytest.mark.parametrize("name", BROKEN)
def test_broken_vectors_are_refused_or_incomplete(name: str) -> None:
    data = vector(name)
    made, names = image()
    try:
        made.append(data)
    except BadContentError:
        assert state(made) == state(image()[0])
    else:
        assert made.incomplete_bytes
        check(made, names)
    assert not is_whole(data, LIMIT)


@thorough
@given(st.data())
def test_mutated_appends_never_leave_the_index_behind(data: st.DataObject) -> None:
    made, names = image(ccache(record()))
    before = state(made)
    wrong = data.draw(mutations(record(b"imap/x@R") + record(TGT)))
    try:
        made.append(wrong)
    except BadContentError:
        assert state(made) == before
    check(made, names)


def test_header_alone_is_incomplete() -> None:
    made, _ = image()
    assert made.append(prefix()[:-1]) == RecordChanges()
    assert made.prefix is None
    assert made.incomplete_bytes == len(prefix()) - 1
    assert made.append(prefix()[-1:]) == RecordChanges(prefix=True)
    assert made.prefix is not None
    assert made.prefix.principal == ALICE


def test_refused_append_is_refused_whole() -> None:
    made, names = image(ccache(record()))
    before = state(made)
    with pytest.raises(BadContentError):
        made.append(record(b"imap/x@R") + b"\xff" * 40)
    assert state(made) == before
    assert len(names.live) == 1


REALM_START = len(prefix()) + 12
"""Where the contents of the realm of a first record's client begin."""


@pytest.mark.parametrize(
    ("length", "error"),
    [
        (0xFFFFFFFF, BadContentError),
        (LIMIT, BadContentError),
        (LIMIT - REALM_START + 1, CcacheLimitError),
    ],
)
def test_length_over_limit_is_refused_at_once(length: int, error: type[StoreError]) -> None:
    """A record that could be one anywhere else is only short of room."""
    made, _ = image(prefix())
    before = state(made)
    with pytest.raises(error):
        made.append(b"\0\0\0\1\0\0\0\1" + length.to_bytes(4, "big"))
    assert state(made) == before


def test_length_up_to_limit_is_incomplete() -> None:
    made, _ = image(prefix())
    length = LIMIT - REALM_START
    assert made.append(b"\0\0\0\1\0\0\0\1" + length.to_bytes(4, "big")) == RecordChanges()
    assert made.incomplete_bytes == 12


def test_overwrite_by_removed_record_removes_credential() -> None:
    parts = [record(TGT), record(), record(b"imap/x@R")]
    made, names = image(ccache(*parts))
    middle = made.spans[1]
    assert middle.stored
    delta = made.overwrite(middle.start, removed(parts[1]))
    assert delta == RecordChanges((), (middle.stored,), False)
    assert stems(made) == ["krbtgt%2FR@R", "imap%2Fx@R"]
    assert made.removed_bytes == len(parts[1])
    assert made.record(middle.stored.serial) is None
    check(made, names)


def test_overwrite_of_few_bytes_removes_credential() -> None:
    """MIT krb5 writes the whole record, but the kernel may cut one write in two."""
    parts = [record(TGT), record(), record(b"imap/x@R")]
    gone = removed(parts[1])
    for cut in range(1, len(gone)):
        made, names = image(ccache(*parts))
        start = made.spans[1].start
        first = _tried(made, start, gone[:cut])
        check(made, names)
        if first:
            made.overwrite(start + cut, gone[cut:])
            assert len(made.stored()) == 2
            check(made, names)


def _tried(made: Image, start: int, data: bytes) -> bool:
    before = state(made)
    try:
        made.overwrite(start, data)
    except BadContentError:
        assert state(made) == before
        return False
    return True


def test_overwrite_keeps_serials_of_unchanged_records() -> None:
    parts = [record(TGT), record(), record(b"imap/x@R")]
    made, _ = image(ccache(*parts))
    before = made.stored()
    assert made.overwrite(0, ccache(*parts)) == RecordChanges()
    assert made.stored() == before
    changed = record(ticket=b"TICKET")
    delta = made.overwrite(made.spans[1].start, changed)
    assert delta.removed == (before[1],)
    assert [s.name for s in delta.added] == ["host%2Fwww@R"]
    assert delta.added[0].serial > before[2].serial
    assert made.stored() == [before[0], delta.added[0], before[2]]


def test_overwrite_keeps_serials_behind_changed_records() -> None:
    """One record in the place of two, of the same length together: those behind are kept."""
    two = [record(b"a/b@R"), record(b"c/d@R")]
    longer = record(b"a/b@R", ticket=b"x" * (6 + len(two[1])))
    assert len(longer) == sum(map(len, two))
    last = record(b"imap/x@R")
    made, names = image(ccache(*two, last))
    before = made.stored()
    delta = made.overwrite(made.spans[0].start, longer)
    assert delta.removed == tuple(before[:2])
    assert made.stored() == [*delta.added, before[2]]
    check(made, names)
    back = made.overwrite(made.spans[0].start, b"".join(two))
    assert len(back.added) == 2
    assert made.stored()[-1] == before[2]
    check(made, names)


def test_overwrite_past_the_end_appends() -> None:
    made, names = image(ccache(record()))
    new = [record(ticket=b"TICKET"), record(TGT), record(b"imap/x@R")]
    delta = made.overwrite(made.records_start, b"".join(new) + new[0][:9])
    assert len(delta.added) == 3
    assert made.incomplete_bytes == 9
    check(made, names)


@pytest.mark.parametrize("cut", [1, 30])
def test_overwrite_that_breaks_later_records_is_refused(cut: int) -> None:
    made, names = image(ccache(record(), record(TGT)))
    before = state(made)
    with pytest.raises(BadContentError):
        made.overwrite(made.records_start, record(b"longer/name.of.a.host@R")[cut:])
    assert state(made) == before
    check(made, names)


def test_overwrite_of_principal_with_same_length() -> None:
    carol = ALICE.components[0][::-1]
    made, names = image(ccache(record()))
    kept = made.stored()
    delta = made.overwrite(0, prefix().replace(b"alice", carol))
    assert delta == RecordChanges(prefix=True)
    assert made.stored() == kept
    check(made, names)


def test_overwrite_of_header_length_is_refused() -> None:
    made, names = image(ccache(record()))
    before = state(made)
    with pytest.raises(BadContentError):
        made.overwrite(0, prefix(BOB))
    assert state(made) == before
    check(made, names)


def test_overwrite_of_dialect_replaces_credentials() -> None:
    records = record(dialect=V3), record(TGT, dialect=V3)
    old = ccache(*records, dialect=V3)
    made, names = image(old)
    before = {s.serial for s in made.stored()}
    new = ccache(record(ticket=b"as long as it takes to cover the old one"), record(TGT))
    assert len(new) >= len(old)
    delta = made.overwrite(0, new)
    assert delta.prefix
    assert {s.serial for s in delta.removed} == before
    check(made, names)


@thorough
@given(st.data())
def test_overwrite_anywhere_is_refused_or_indexed(data: st.DataObject) -> None:
    """Whatever is written wherever: refused as a whole, or indexed as if it were all new."""
    parts = [record(TGT), config(b"pa_type"), record(), removed(record()), record(b"x@R")]
    bytes_before = ccache(*parts) + parts[0][: data.draw(st.integers(0, 20))]
    made, names = image(bytes_before)
    before = state(made)
    start = data.draw(st.integers(0, len(bytes_before)))
    size = data.draw(st.integers(1, 200))
    wrong = data.draw(mutations(bytes_before[start : start + size] or b"\0"))
    try:
        made.overwrite(start, wrong)
    except BadContentError:
        assert state(made) == before
    else:
        written = bytearray(bytes_before)
        written[start : start + len(wrong)] = wrong
        assert made.data == written
        fresh, _ = image(bytes(written))
        assert [(s.start, s.end) for s in made.spans] == [(s.start, s.end) for s in fresh.spans]
        ended = made.removed_bytes - fresh.removed_bytes
        assert ended or stems(made) == stems(fresh)
        assert made.prefix == fresh.prefix
    check(made, names)


def test_truncation_anywhere_is_indexed() -> None:
    data = ccache(record(TGT), removed(record()), record(b"imap/x@R")) + record()[:20]
    for size in range(len(data)):
        made, names = image(data)
        had = made.stored()
        delta = made.truncate(size)
        assert made.data == data[:size]
        assert made.stored() == [s for s in had if s not in delta.removed]
        assert delta.prefix == (size < made.records_start or made.prefix is None)
        check(made, names)
        fresh, _ = image(data[:size])
        assert [(s.start, s.end) for s in made.spans] == [(s.start, s.end) for s in fresh.spans]
        made.append(data[size:])
        assert made.data == data
        check(made, names)


def test_bury_overwrites_secrets() -> None:
    made, names = image(ccache(record(TGT), record(ticket=b"the ticket")))
    size = len(made.data)
    gone = made.stored()[1]
    assert made.remove(gone.serial) == RecordChanges((), (gone,), False)
    assert len(made.data) == size
    assert b"the ticket" not in made.data
    assert made.data.count(KEY) == 1
    assert made.remove(gone.serial) == RecordChanges()
    check(made, names)


def test_compaction_removes_dead_records_only() -> None:
    rng = random.Random(5)
    parts = [record(b"host/%d@R" % n, ticket=b"t" * rng.randrange(40)) for n in range(30)]
    made, names = image(ccache(*parts) + parts[0][:11])
    for span in rng.sample(made.spans, 20):
        assert span.stored
        made.remove(span.stored.serial)
    assert made.mostly_removed
    kept = made.stored()
    made.compact()
    assert made.stored() == kept
    assert (made.removed_bytes, made.incomplete_bytes) == (0, 11)
    live = [parts[int(s.name.removeprefix("host%2F").removesuffix("@R"))] for s in kept]
    assert made.data == ccache(*live) + parts[0][:11]
    check(made, names)
    made.append(parts[0][11:])
    check(made, names)


def test_at_finds_record_of_offset() -> None:
    made, _ = image(ccache(record(TGT), record()) + record()[:9])
    for offset in range(len(made.data) + 2):
        found = made.span_at(offset)
        wanted = [s for s in made.spans if s.start <= offset < s.end]
        assert found == (wanted[0] if wanted else None)


@quick
@given(ccaches())
def test_whole_recognises_complete_ccaches(cc: object) -> None:
    data = encode_ccache(cc)  # type: ignore[arg-type]
    made, _ = image(data)
    assert is_whole(data, LIMIT)
    ends = {made.records_start, *(span.end for span in made.spans)}
    for size in range(len(data)):
        assert is_whole(data[:size], LIMIT) == (size in ends)
    assert not is_whole(data, len(data) - 1)


def test_overwrite_with_zero_end_time_removes_credential() -> None:
    made, names = image(ccache(record(TGT), record(), record(endtime=0)))
    gone, never_ends = made.stored()[1:]
    delta = made.overwrite(made.spans[1].start, record(endtime=0))
    assert delta == RecordChanges((), (gone,), False)
    assert made.overwrite(made.spans[2].start, record(endtime=0)) == RecordChanges()
    assert made.stored()[-1] == never_ends
    check(made, names)
