# SPDX-License-Identifier: MIT
"""Open files: appends by any opener, incomplete records, and writers with outdated content."""

from collections.abc import Callable

import pytest

from ccfs.store import Limits, Store
from ccfs.store.ccache import Ccache
from ccfs.store.errors import BadContentError, CcacheLimitError, GoneError, TotalLimitError
from ccfs.store.generation import OpenFile
from ccfs.store.values import Client
from tests.support.storing import (
    ALICE,
    BOB,
    NOW,
    TGT,
    V3,
    appender,
    at,
    check,
    config,
    contents,
    current,
    data_of,
    fill,
    names,
    new_store,
    prefix,
    put,
    reader,
    record,
    removed,
    said,
    serial,
    start,
    whole,
    writer,
)

WWW, IMAP, NFS = (record(b"%s/x@R" % service) for service in (b"www", b"imap", b"nfs"))
WWW_NAME, IMAP_NAME, NFS_NAME = "www%2Fx@R", "imap%2Fx@R", "nfs%2Fx@R"
OTHER = Client(1000, 4343, "kvno")


@pytest.fixture
def tkt(store: Store) -> Ccache:
    return fill(store, whole(WWW))


@pytest.fixture
def tgt(store: Store) -> Ccache:
    return fill(store, whole(record(TGT), WWW))


# Appends


def test_append_through_current_generation_keeps_number(store: Store, tkt: Ccache) -> None:
    number = current(tkt).number
    file = appender(store, current(tkt))
    put(store, file, IMAP)
    assert names(tkt) == [WWW_NAME, IMAP_NAME]
    assert current(tkt).number == number
    assert contents(store, file) == data_of(tkt) == whole(WWW, IMAP)
    check(store, [file])


@pytest.mark.parametrize("offset", [0, 1, 10**9])
def test_append_with_stale_offset_goes_to_end(store: Store, tkt: Ccache, offset: int) -> None:
    number = current(tkt).number
    file = appender(store, current(tkt))
    put(store, file, IMAP, offset)
    assert data_of(tkt) == whole(WWW, IMAP)
    assert current(tkt).number != number
    check(store, [file])


def test_append_through_superseded_generation_goes_to_current(store: Store, tkt: Ccache) -> None:
    file = appender(store, current(tkt))
    store.edits.store(tkt, IMAP, at())
    put(store, file, NFS[:9])
    put(store, file, NFS[9:])
    assert data_of(tkt) == whole(WWW, IMAP, NFS)
    store.close(file, NOW)
    check(store)


def test_positioned_writer_continues_behind_edit(store: Store) -> None:
    """`cp`, cut in two by another client's edit: neither the edit nor the rest is lost."""
    tkt = store.collection.default
    file = writer(store, start(store, tkt))
    data = whole(record(TGT), WWW, NFS)
    cut = len(whole(record(TGT), WWW)) + 20
    put(store, file, data[:cut], 0)
    store.edits.store(tkt, IMAP, at())
    put(store, file, data[cut:], cut)
    assert data_of(tkt) == whole(record(TGT), WWW, IMAP, NFS)
    store.close(file, NOW)
    check(store)


@pytest.mark.parametrize("bad", [b"\xff" * 40, NFS + b"\xff" * 40])
def test_refused_append_changes_nothing(store: Store, tkt: Ccache, bad: bytes) -> None:
    files = [appender(store, current(tkt)), appender(store, current(tkt))]
    put(store, files[0], IMAP[:10])
    number, log = current(tkt).number, store.events.end
    for file in files[1:]:
        for offset in (0, len(data_of(tkt))):
            with pytest.raises(BadContentError):
                store.open_files.write(file, offset, bad, NOW)
    assert (current(tkt).number, store.events.end) == (number, log)
    assert data_of(tkt) == whole(WWW) + IMAP[:10]
    check(store, files)
    put(store, files[0], IMAP[10:])
    assert data_of(tkt) == whole(WWW, IMAP)
    check(store, files)


def test_write_behind_end_is_refused(store: Store, tkt: Ccache) -> None:
    file = writer(store, current(tkt))
    with pytest.raises(BadContentError):
        store.open_files.write(file, len(data_of(tkt)) + 1, IMAP, NOW)
    assert data_of(tkt) == whole(WWW)
    check(store, [file])


# Incomplete records


@pytest.mark.parametrize("cut", [1, 40])
def test_two_writers_complete_their_records(store: Store, tkt: Ccache, cut: int) -> None:
    one, two = appender(store, current(tkt)), appender(store, current(tkt), OTHER)
    put(store, one, IMAP[:cut])
    put(store, two, NFS[:cut])
    put(store, one, IMAP[cut : cut + 5])
    check(store, [one, two])
    put(store, two, NFS[cut:])
    put(store, one, IMAP[cut + 5 :])
    assert names(tkt) == [WWW_NAME, NFS_NAME, IMAP_NAME]
    assert data_of(tkt) == whole(WWW, NFS, IMAP)
    check(store, [one, two])
    store.close(one, NOW)
    store.close(two, NOW)
    assert "dropped tkt" not in said(store)
    check(store)


def _store_one(store: Store, tkt: Ccache) -> None:
    store.edits.store(tkt, NFS, at())


def _remove_one(store: Store, tkt: Ccache) -> None:
    store.edits.remove(tkt, serial(tkt, WWW_NAME), at())


def _set_principal(store: Store, tkt: Ccache) -> None:
    store.edits.set_principal(tkt, BOB, at())


def _set_offset(store: Store, tkt: Ccache) -> None:
    store.edits.set_kdc_offset(tkt, -7, at())


EDITS: list[tuple[Callable[[Store, Ccache], None], list[str]]] = [
    (_store_one, [WWW_NAME, NFS_NAME]),
    (_remove_one, []),
    (_set_principal, [WWW_NAME]),
    (_set_offset, [WWW_NAME]),
]


@pytest.mark.parametrize(("edit", "left"), EDITS)
@pytest.mark.parametrize("open_it", [writer, appender])
def test_incomplete_record_is_completed_after_edit(
    store: Store,
    tkt: Ccache,
    edit: Callable[[Store, Ccache], None],
    left: list[str],
    open_it: Callable[..., OpenFile],
) -> None:
    file = open_it(store, current(tkt))
    offset = len(data_of(tkt))
    put(store, file, IMAP[:33], offset)
    edit(store, tkt)
    check(store, [file])
    assert names(tkt) == left
    put(store, file, IMAP[33:], offset + 33)
    assert names(tkt) == [*left, IMAP_NAME]
    assert tkt.image is not None
    assert tkt.image.record(serial(tkt, IMAP_NAME)) == IMAP
    store.close(file, NOW)
    assert "dropped tkt" not in said(store)
    check(store)


@pytest.mark.parametrize(("edit", "left"), EDITS)
def test_reader_keeps_bytes_over_edit(
    store: Store, tkt: Ccache, edit: Callable[[Store, Ccache], None], left: list[str]
) -> None:
    before = data_of(tkt)
    file = reader(store, current(tkt))
    half = len(before) // 2
    first = store.open_files.read(file, 0, half)
    edit(store, tkt)
    assert first + store.open_files.read(file, half, 1 << 20) == before
    edit_again = appender(store, current(tkt))
    put(store, edit_again, IMAP)
    assert contents(store, file) == before
    assert names(tkt) == [*left, IMAP_NAME]
    check(store, [file, edit_again])


def test_reader_keeps_bytes_over_stale_append_and_removal(store: Store, tgt: Ccache) -> None:
    """An append with a stale offset and a removal by an older number are news to a reader."""
    before = data_of(tgt)
    readers = [reader(store, current(tgt))]
    olds = [appender(store, current(tgt)), writer(store, current(tgt))]
    put(store, olds[0], IMAP, 0)
    assert contents(store, readers[0]) == before
    readers.append(reader(store, current(tgt)))
    put(store, olds[1], removed(WWW), before.index(WWW))
    assert contents(store, readers[0]) == before
    assert contents(store, readers[1]) == before + IMAP
    assert data_of(tgt) == whole(record(TGT), removed(WWW), IMAP)
    assert names(tgt) == ["krbtgt%2FR@R", IMAP_NAME]
    check(store, [*olds, *readers])


def test_reader_keeps_incomplete_record_set_aside(store: Store, tkt: Ccache) -> None:
    """Bytes written behind it through the same inode number follow it, as in the kernel's pages."""
    one, two = appender(store, current(tkt)), appender(store, current(tkt))
    put(store, one, IMAP[:50])
    before = data_of(tkt)
    file = reader(store, current(tkt))
    put(store, two, NFS)
    assert contents(store, file) == before + NFS
    assert data_of(tkt) == whole(WWW, NFS)
    check(store, [one, two, file])


def test_incomplete_record_is_dropped_at_release_with_event(store: Store, tkt: Ccache) -> None:
    file = appender(store, current(tkt))
    number = current(tkt).number
    put(store, file, IMAP[:33])
    looking = reader(store, current(tkt))
    store.close(file, NOW)
    assert said(store)[-1] == "dropped tkt"
    assert data_of(tkt) == whole(WWW)
    assert contents(store, looking) == whole(WWW) + IMAP[:33]
    assert current(tkt).number != number
    check(store, [looking])


def test_pending_bytes_are_dropped_at_release(store: Store, tkt: Ccache) -> None:
    one, two = appender(store, current(tkt)), appender(store, current(tkt))
    put(store, one, IMAP[:33])
    put(store, two, NFS)
    used = store.used_bytes
    check(store, [one, two])
    store.close(one, NOW)
    assert said(store)[-1] == "dropped tkt"
    assert used - store.used_bytes >= 33
    check(store, [two])
    assert data_of(tkt) == whole(WWW, NFS)


def test_pending_bytes_count_towards_limit() -> None:
    store = new_store(Limits(total_bytes=13_000))
    tkt = fill(store, whole(WWW))
    big = record(ticket=b"t" * 4_000)
    files = [appender(store, current(tkt)) for _ in range(3)]
    put(store, files[0], big[:3_000])
    put(store, files[1], big[:3_000])
    with pytest.raises(TotalLimitError):
        store.open_files.write(files[2], 0, big[:3_000], NOW)
    check(store, files)
    store.close(files[0], NOW)
    put(store, files[2], big[:3_000])
    check(store, files[1:])


def test_incomplete_header_is_dropped_at_release(store: Store) -> None:
    tkt = store.collection.default
    file = appender(store, start(store, tkt))
    put(store, file, prefix()[:9])
    check(store, [file])
    assert not tkt.initialised
    store.close(file, NOW)
    assert data_of(tkt) == b""
    check(store)


def test_writer_of_header_is_refused_after_other_principal(store: Store) -> None:
    """Its records can't follow the principal that another client has set."""
    tkt = store.collection.default
    for written in (0, 9):
        file = writer(store, start(store, tkt))
        put(store, file, whole(WWW)[:written])
        store.edits.set_principal(tkt, BOB, at())
        put(store, file, whole(WWW)[written:], written)
        assert contents(store, file) == whole(WWW)
        assert data_of(tkt) == prefix(BOB)
        store.close(file, NOW)
        check(store)
        store.uninitialise(tkt, at())


# Writes in place


def test_in_place_removal_removes_credential(store: Store, tgt: Ccache) -> None:
    number = current(tgt).number
    file = writer(store, current(tgt))
    put(store, file, removed(WWW), data_of(tgt).index(WWW))
    assert names(tgt) == ["krbtgt%2FR@R"]
    assert data_of(tgt) == whole(record(TGT), removed(WWW))
    assert current(tgt).number == number
    assert said(store)[-1] == f"removed tkt {WWW_NAME}"
    check(store, [file])


def test_in_place_removal_through_superseded_generation(store: Store, tgt: Ccache) -> None:
    file = writer(store, current(tgt))
    place = data_of(tgt).index(WWW)
    store.edits.set_kdc_offset(tgt, 5, at())
    assert data_of(tgt).index(WWW) != place
    put(store, file, removed(WWW), place)
    assert names(tgt) == ["krbtgt%2FR@R"]
    log = store.events.end
    put(store, file, removed(WWW), place)
    assert store.events.end == log
    check(store, [file])


def test_in_place_removal_in_two_requests_through_superseded_generation(
    store: Store, tgt: Ccache
) -> None:
    """One write of a client may come as two, cut where a page of the file ends."""
    file = writer(store, current(tgt))
    place = data_of(tgt).index(WWW)
    gone = WWW.replace((2_000).to_bytes(4, "big"), bytes(4))
    gone = gone.replace((1_000).to_bytes(4, "big"), b"\xff" * 4, 1)
    times = next(n for n, (a, b) in enumerate(zip(gone, WWW, strict=True)) if a != b)
    store.edits.set_kdc_offset(tgt, 5, at())
    put(store, file, gone[:times], place)
    assert WWW_NAME in names(tgt)
    put(store, file, gone[times:], place + times)
    assert names(tgt) == ["krbtgt%2FR@R"]
    check(store, [file])


@pytest.mark.parametrize(
    ("where", "what"),
    [
        (-1, removed(WWW)),
        (0, record(b"nfs/x@R")[: len(WWW)]),
        (0, removed(WWW) + b"\0"),
        (1, b"\xff" * 20),
    ],
)
def test_other_writes_into_superseded_generation_are_refused(
    store: Store, where: int, what: bytes
) -> None:
    tkt = fill(store, whole(WWW, IMAP))
    file = writer(store, current(tkt))
    place = data_of(tkt).index(WWW)
    store.edits.set_kdc_offset(tkt, 5, at())
    before, number = data_of(tkt), current(tkt).number
    with pytest.raises(BadContentError):
        store.open_files.write(file, place + where, what, NOW)
    assert (data_of(tkt), current(tkt).number) == (before, number)
    check(store, [file])


def test_write_in_place_by_opener_of_older_number(store: Store, tgt: Ccache) -> None:
    """The kernel asks by the number that it knows; others know the newer one."""
    old = current(tgt).number
    store.edits.set_kdc_offset(tgt, 5, at())
    before = data_of(tgt)
    number = current(tgt).number
    looking = reader(store, current(tgt))
    found = store.generations.find(old)
    file = store.open_files.open(current(tgt), OTHER, writes=True, append=False, opened_by=found)
    put(store, file, removed(WWW), before.index(WWW))
    assert current(tgt).number != number
    assert contents(store, looking) == before
    assert names(tgt) == ["krbtgt%2FR@R"]
    check(store, [file, looking])


def test_dead_bytes_are_removed_at_last_release(store: Store, tgt: Ccache) -> None:
    files = [writer(store, current(tgt)), reader(store, current(tgt))]
    before = data_of(tgt)
    put(store, files[0], removed(record(TGT)), before.index(record(TGT)))
    assert len(data_of(tgt)) == len(before)
    store.close(files[0], NOW)
    assert len(data_of(tgt)) == len(before)
    store.close(files[1], NOW)
    assert data_of(tgt) == whole(WWW)
    check(store)


def test_dead_bytes_are_removed_after_last_older_handle(store: Store, tgt: Ccache) -> None:
    file = writer(store, current(tgt))
    before = data_of(tgt)
    store.edits.store(tgt, IMAP, at())
    for dead in (record(TGT), WWW):
        put(store, file, removed(dead), before.index(dead))
    assert data_of(tgt) == whole(removed(record(TGT)), removed(WWW), IMAP)
    store.close(file, NOW)
    assert data_of(tgt) == whole(IMAP)
    check(store)


# Truncation, unlink, limits


def test_truncation_to_zero_keeps_number(store: Store, tkt: Ccache) -> None:
    number, gone = current(tkt).number, serial(tkt, WWW_NAME)
    file = writer(store, current(tkt))
    store.open_files.truncate(current(tkt), 0, at())
    assert (current(tkt).number, data_of(tkt), tkt.initialised) == (number, b"", False)
    assert said(store)[-2:] == [f"removed tkt {WWW_NAME}", "uninitialised tkt"]
    put(store, file, whole(IMAP), 0)
    assert names(tkt) == [IMAP_NAME]
    assert serial(tkt, IMAP_NAME) > gone
    check(store, [file])


@pytest.mark.parametrize("beyond", [0, 1, 50])
def test_truncation_keeps_complete_records(store: Store, tkt: Ccache, beyond: int) -> None:
    file = appender(store, current(tkt))
    put(store, file, IMAP + NFS[:60])
    store.open_files.truncate(current(tkt), len(whole(WWW)) + beyond, at())
    assert data_of(tkt) == whole(WWW)
    check(store, [file])
    put(store, file, NFS)
    assert data_of(tkt) == whole(WWW, NFS)
    check(store, [file])


def test_truncation_within_incomplete_record(store: Store, tkt: Ccache) -> None:
    file = appender(store, current(tkt))
    put(store, file, IMAP[:60])
    store.open_files.truncate(current(tkt), len(whole(WWW)) + 30, at())
    assert data_of(tkt) == whole(WWW)
    check(store, [file])
    store.close(file, NOW)
    check(store)


def test_truncation_does_not_extend_ccache(store: Store, tkt: Ccache) -> None:
    with pytest.raises(BadContentError):
        store.open_files.truncate(current(tkt), len(data_of(tkt)) + 1, at())
    store.open_files.truncate(current(tkt), len(data_of(tkt)), at())
    assert data_of(tkt) == whole(WWW)
    check(store)


def test_truncation_of_superseded_generation_is_refused(store: Store, tkt: Ccache) -> None:
    file = writer(store, current(tkt))
    store.edits.store(tkt, IMAP, at())
    with pytest.raises(GoneError):
        store.open_files.truncate(file.generation, 0, at())
    assert names(tkt) == [WWW_NAME, IMAP_NAME]
    check(store, [file])


def test_write_to_unlinked_file_changes_no_ccache(store: Store, tkt: Ccache) -> None:
    """kdestroy: open, unlink, then zeros over all of it."""
    file = writer(store, current(tkt))
    store.uninitialise(tkt, at())
    assert contents(store, file) == whole(WWW)
    put(store, file, bytes(len(whole(WWW))), 0)
    store.open_files.truncate(file.generation, 5, at())
    assert contents(store, file) == bytes(5)
    assert tkt.current is None
    assert store.used_bytes == 5
    check(store, [file])
    store.close(file, NOW)
    assert store.used_bytes == 0


def test_write_to_superseded_unlinked_file_changes_no_ccache(store: Store, tkt: Ccache) -> None:
    file = appender(store, current(tkt))
    store.edits.store(tkt, IMAP, at())
    store.uninitialise(tkt, at())
    put(store, file, NFS)
    assert contents(store, file) == whole(WWW, NFS)
    fill(store, whole(NFS))
    put(store, file, IMAP)
    assert names(tkt) == [NFS_NAME]
    store.close(file, NOW)
    assert store.used_bytes == len(whole(NFS))
    check(store)


def test_incomplete_record_is_dropped_with_its_file(store: Store, tkt: Ccache) -> None:
    one, two = appender(store, current(tkt)), appender(store, current(tkt))
    put(store, one, IMAP[:33])
    put(store, two, NFS[:33])
    store.uninitialise(tkt, at())
    check(store, [one, two])
    put(store, two, NFS[33:])
    for file in (one, two):
        store.close(file, NOW)
    assert "dropped tkt" not in said(store)
    assert store.used_bytes == 0
    check(store)


def test_size_limit_refuses_and_loses_nothing() -> None:
    small = Limits(ccache_bytes=len(whole(WWW, IMAP)) + 40, total_bytes=1_000)
    store = new_store(small)
    tkt = fill(store, whole(WWW, IMAP))
    file = appender(store, current(tkt))
    for size in (len(NFS), 40):  # the second would fit, but what must follow it would not
        with pytest.raises(CcacheLimitError):
            store.open_files.write(file, 0, NFS[:size], NOW)
    put(store, file, NFS[:10])
    with pytest.raises(CcacheLimitError):
        store.open_files.write(file, 0, NFS[10:], NOW)
    assert data_of(tkt) == whole(WWW, IMAP) + NFS[:10]
    store.close(file, NOW)
    assert names(tkt) == [WWW_NAME, IMAP_NAME]
    check(store)


def test_total_limit_refuses_writes() -> None:
    size = len(whole(WWW))
    store = new_store(Limits(ccache_bytes=10_000, total_bytes=2 * size + 10))
    tkt = fill(store, whole(WWW))
    work = fill(store, whole(WWW), b"work")
    files = [appender(store, current(tkt)), writer(store, current(work))]
    for file, offset in zip(files, (0, size), strict=True):
        with pytest.raises(TotalLimitError):
            store.open_files.write(file, offset, IMAP, NOW)
    put(store, files[1], removed(WWW), size - len(WWW))
    check(store, files)
    store.uninitialise(tkt, at())
    with pytest.raises(TotalLimitError):
        store.open_files.write(files[1], size, IMAP, NOW)
    store.close(files[0], NOW)
    put(store, files[1], IMAP, size)
    assert names(work) == [IMAP_NAME]
    check(store, files[1:])


# Versions


def test_version_3_writer_continues_in_version_3(store: Store) -> None:
    tkt = fill(store, whole(record(TGT, dialect=V3), dialect=V3))
    file = appender(store, current(tkt))
    put(store, file, record(dialect=V3))
    assert names(tkt) == ["krbtgt%2FR@R", "host%2Fwww@R"]
    check(store, [file])


def test_version_3_record_is_refused_in_version_4_ccache(store: Store) -> None:
    tkt = fill(store, whole(record(TGT, dialect=V3), dialect=V3))
    file = appender(store, current(tkt))
    late = record(dialect=V3)
    put(store, file, late[:50])
    store.edits.set_kdc_offset(tkt, 5, at())
    check(store, [file])
    with pytest.raises(BadContentError):
        store.open_files.write(file, 0, late[50:], NOW)
    assert names(tkt) == ["krbtgt%2FR@R"]
    store.close(file, NOW)
    assert said(store)[-1] == "dropped tkt"
    check(store)


def test_written_configuration_is_indexed(store: Store) -> None:
    tkt = fill(store, whole(config(b"pa_type", b"2"), WWW, config(b"fast_avail", b"yes", TGT)))
    assert list(tkt.config) == ["pa_type", "fast_avail~krbtgt%2FR@R"]
    assert names(tkt) == [WWW_NAME]
    assert tkt.prefix is not None
    assert tkt.prefix.principal == ALICE
    check(store)


@pytest.mark.parametrize("key", [b"with\0nul", b"", b"/", b".", b"a~b", b"\xff"])
def test_written_configuration_with_odd_keys_is_indexed(
    store: Store, tkt: Ccache, key: bytes
) -> None:
    file = appender(store, current(tkt))
    put(store, file, config(key) + config(key, b"no", key))
    assert len(tkt.config) == 2
    assert not any("/" in name or "\0" in name or name.startswith(".") for name in tkt.config)
    check(store, [file])
