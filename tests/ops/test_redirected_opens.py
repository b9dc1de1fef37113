# SPDX-License-Identifier: MIT
"""Files that were opened by a superseded number and read a later generation."""

from ccfs.ops.redirected_opens import RedirectedOpens
from ccfs.service.notes import Notes
from ccfs.store import Client, Limits, Stamp, Store


def make_store() -> Store:
    return Store(Limits(), Stamp(1_700_000_000.0, Client(1000, 1, "test")))


def test_pairs_are_kept_for_the_next_daemon() -> None:
    store = make_store()
    opens = RedirectedOpens(Notes(store))
    opens.add(5, 7)
    opens.add(5, 8)
    opens.add(6, 8)
    assert RedirectedOpens(Notes(store)).prune(lambda number: number == 5) == {7, 8}
    assert RedirectedOpens(Notes(store)).prune(lambda _: True) == {7, 8}


def test_forgotten_number_is_no_reason_to_keep_bytes() -> None:
    store = make_store()
    notes = Notes(store)
    opens = RedirectedOpens(notes)
    opens.add(5, 7)
    opens.add(6, 8)
    opens.forget(5)
    opens.forget(99)
    store.log_refusal(Stamp(1_700_000_000.0, Client(1000, 1, "test")), "a step")
    effects = store.take_effects()
    assert effects is not None
    notes.remove_from(effects)
    assert RedirectedOpens(Notes(store)).prune(lambda _: True) == {8}


def test_number_without_inode_is_forgotten() -> None:
    opens = RedirectedOpens(Notes(make_store()))
    opens.add(5, 7)
    assert opens.prune(lambda _: False) == set()
    assert opens.prune(lambda _: True) == set()
