# SPDX-License-Identifier: MIT
"""One store: what is done through FILE, DIR, KCM or the CCAPI is seen through each, and by ls, cat.

Each way to write does all of it: ccaches, credentials, configuration, the KDC's offset, the
default, removing, destroying and moving.  After each step each way to look must say the same.
FILE, DIR and KCM go through libkrb5 itself, wherever it has a call for it.
"""

import shutil
from collections.abc import Iterator

import pytest

from ccfs import ccapi as cc
from tests.support import kcm
from tests.support.ccache_interfaces import (
    ALICE,
    BOB,
    READERS,
    WRITERS,
    ByDir,
    ByFile,
    ByKcm,
    ByLibrary,
    KcmMount,
    Seen,
    State,
    Writer,
    empty,
    kcm_mount,
)

__all__ = ["empty", "kcm_mount"]  # fixtures

ONE, TWO, THREE = "host/one@R", "host/two@R", "host/three@R"


def steps(writer: Writer) -> Iterator[State]:
    """Each thing that can be done, and what is to be seen then."""
    state = State()
    writer.create("tkt", ALICE, ONE, TWO)
    state.ccaches["tkt"] = Seen(ALICE, (ONE, TWO))
    yield state
    writer.store("tkt", THREE)
    state.ccaches["tkt"] = Seen(ALICE, (ONE, TWO, THREE))
    yield state
    writer.remove("tkt", TWO)
    state.ccaches["tkt"] = Seen(ALICE, (ONE, THREE))
    yield state
    writer.set_config("tkt", "fast_avail", b"yes")
    writer.set_config("tkt", "pa_type", b"2")
    config = {"fast_avail": b"yes", "pa_type": b"2"}
    state.ccaches["tkt"] = Seen(ALICE, (ONE, THREE), config)
    yield state
    writer.set_offset("tkt", -300)
    state.ccaches["tkt"] = Seen(ALICE, (ONE, THREE), config, -300)
    yield state
    writer.create("work", BOB, TWO)
    state.ccaches["work"] = Seen(BOB, (TWO,))
    yield state
    writer.set_default("work")
    state.default = "work"
    yield state
    writer.create("tkt", BOB)
    state.ccaches["tkt"] = Seen(BOB)
    yield state
    writer.destroy("work")
    del state.ccaches["work"]
    yield state
    writer.create("work", ALICE, ONE)
    state.ccaches["work"] = Seen(ALICE, (ONE,))
    yield state
    writer.move("tkt", "tktmoved")
    state.ccaches["tktmoved"] = state.ccaches.pop("tkt")
    yield state
    writer.destroy("tktmoved")
    del state.ccaches["tktmoved"]
    yield state
    writer.move("work", "tkt")
    state.default, state.ccaches = "tkt", {"tkt": Seen(ALICE, (ONE,))}
    yield state


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("writer", WRITERS)
def test_change_by_one_interface_is_seen_by_all(empty: KcmMount, writer: str, reader: str) -> None:
    """Whatever is done in one way is seen in the other, at once."""
    look = READERS[reader]
    for number, wanted in enumerate(steps(WRITERS[writer](empty)), 1):
        found = look(empty)
        if reader == "ls":
            wanted = State(wanted.default, {n: named(s) for n, s in wanted.ccaches.items()})
        assert found == wanted, f"step {number}"


def named(seen: Seen) -> Seen:
    """What names alone say."""
    return Seen(seen.principal, seen.servers, dict.fromkeys(seen.config, b""))


@pytest.mark.parametrize("remover", WRITERS)
@pytest.mark.parametrize("reader", ["FILE", "DIR", "KCM", "CCAPI"])
def test_iteration_continues_over_removal(empty: KcmMount, remover: str, reader: str) -> None:
    """An iteration ends without error, with the credentials that were present throughout."""
    kcm_mount = empty
    servers = [f"host/h{n}@R" for n in range(6)]
    ByKcm(kcm_mount).create("tkt", ALICE, *servers)
    found = iterator(kcm_mount, reader)
    seen = [next(found), next(found)]
    WRITERS[remover](kcm_mount).remove("tkt", servers[4])
    WRITERS[remover](kcm_mount).remove("tkt", servers[0])
    seen += found
    assert len(set(seen)) == len(seen)
    assert {*servers} - {servers[0], servers[4]} <= {*seen} <= {*servers}


def iterator(kcm_mount: KcmMount, reader: str) -> Iterator[str]:
    """The servers of the default ccache, one by one as a client gets them."""
    if reader == "CCAPI":
        with cc.initialize(mount=kcm_mount.top) as context:
            for one in context.open_ccache("tkt").new_credentials_iterator():
                record = one.data.credentials_v5
                assert record is not None
                yield str(record.server)
        return
    writer: ByLibrary = {"FILE": ByFile, "DIR": ByDir, "KCM": ByKcm}[reader](kcm_mount)
    for one in kcm_mount.open(writer.residual("tkt"))[1]:
        yield str(one.server)


def test_iteration_by_uuid_reports_removed_credentials(empty: KcmMount) -> None:
    """GET_CRED_BY_UUID answers KRB5_CC_END for a credential that was removed since the list."""
    servers = [f"host/h{n}@R" for n in range(4)]
    ByKcm(empty).create("tkt", ALICE, *servers)
    with kcm.Client(empty.socket) as client:
        listed = kcm.uuids(client.call(kcm.GET_CRED_UUID_LIST, client.name("tkt")))
        ByFile(empty).remove("tkt", servers[1])
        shutil.rmtree(empty.top / "caches/tkt/credentials", ignore_errors=True)
        answers = [client.ask(kcm.GET_CRED_BY_UUID, client.name("tkt"), one) for one in listed]
        assert {one.status for one in answers} == {kcm.END}
        assert client.records("tkt") == []
