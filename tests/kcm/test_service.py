# SPDX-License-Identifier: MIT
"""Requests answered over the store, without a socket: each opcode, each refusal, each effect."""

import logging
import os
from typing import Any

import pytest

from ccfs.format.ccache import decode_ccache
from ccfs.kcm.opcodes import OPERATIONS
from ccfs.kcm.service import KcmService, Responder
from ccfs.kcm.wire import ProtocolError
from ccfs.ops.handles import BytesHandle
from ccfs.service.info import Owner
from ccfs.store import Limits
from tests.support import kcm
from tests.support.direct import UID, FileSystem
from tests.support.kcm import Reply, credential, lengthed, principal, request, split, tag, u32
from tests.support.kcm_fresh import check_cached
from tests.support.storing import V3, Refusing, check, record, whole

ALICE = principal("alice@R")
ABSENT = kcm.NOFILE


class Kcm:
    """A file system, and a client of its KCM side."""

    def __init__(self, **limits: int) -> None:
        self.fs = FileSystem(limits=Limits(**limits))
        self.service = KcmService(self.fs.committer, Owner(UID, UID))
        self.peer = self.connect()

    def connect(self, pid: int = 4242) -> Responder:
        peer = self.service.responder(UID, pid)
        assert peer is not None
        return peer

    def ask(self, opcode: int, *payload: bytes) -> Reply:
        reply = split(self.peer.answer(request(opcode, *payload)[4:]))
        self.check()
        return reply

    def check(self) -> None:
        """The store is what it should be, with all that is open in it, and so is what is kept."""
        check_cached(self.peer)
        handles = self.fs.file_system.handles.by_number.values()
        check(self.fs.file_system.store, [h._file for h in handles if isinstance(h, BytesHandle)])

    def call(self, opcode: int, *payload: bytes) -> bytes:
        reply = self.ask(opcode, *payload)
        assert reply.status == 0, reply.status
        return reply.payload

    def status(self, opcode: int, *payload: bytes) -> int:
        reply = self.ask(opcode, *payload)
        assert not reply.payload
        return reply.status

    def initialize(self, name: str = "tkt", client: str = "alice@R") -> None:
        assert self.call(kcm.INITIALIZE, n(name), principal(client)) == b""

    def store(self, *servers: str, name: str = "tkt") -> None:
        for server in servers:
            assert self.call(kcm.STORE, n(name), credential(server)) == b""

    def records(self, name: str = "tkt") -> list[bytes]:
        return kcm.entries(self.call(kcm.GET_CRED_LIST, n(name)))

    def listed(self) -> list[bytes]:
        found = kcm.uuids(self.call(kcm.GET_CACHE_UUID_LIST))
        return [self.call(kcm.GET_CACHE_BY_UUID, one) for one in found]

    def said(self) -> list[str]:
        return [" ".join(line[2:5]) for line in self.fs.lines()]


def n(name: str) -> bytes:
    """The KCM name of a ccache."""
    return f"{UID}:{name}".encode() + b"\0"


BARE = f"{UID}".encode() + b"\0"


@pytest.fixture
def kc() -> Kcm:
    return Kcm()


def test_opcode_table_has_what_clients_send() -> None:
    assert set(OPERATIONS) == {0, *range(3, 13), *range(17, 24), 13001, 13002}


@pytest.mark.parametrize("opcode", [1, 2, 13, 14, 15, 16, 24, 28, 29, 12999, 13000, 13003, 65535])
def test_other_opcodes_are_unsupported(kc: Kcm, opcode: int) -> None:
    assert kc.status(opcode, b"anything") == kcm.INTERNAL
    assert kc.call(kcm.NOOP) == b""


@pytest.mark.parametrize("version", [b"\1\0", b"\3\0", b"\2\1", b"\0\0"])
def test_other_protocol_version_is_refused(kc: Kcm, version: bytes) -> None:
    with pytest.raises(ProtocolError):
        kc.peer.answer(version + b"\0\0")


def test_ccache_is_initialized_stored_listed_destroyed(kc: Kcm) -> None:
    kc.initialize()
    kc.store("krbtgt/R@R", "host/www@R")
    assert kc.call(kcm.GET_PRINCIPAL, n("tkt")) == ALICE
    assert kc.records() == [credential("krbtgt/R@R"), credential("host/www@R")]
    listed = kcm.uuids(kc.call(kcm.GET_CRED_UUID_LIST, n("tkt")))
    assert [kc.call(kcm.GET_CRED_BY_UUID, n("tkt"), one) for one in listed] == kc.records()
    wanted = tag("host/www@R", client="alice@R")
    assert kc.call(kcm.RETRIEVE, n("tkt"), u32(1), wanted) == credential("host/www@R")
    assert kc.call(kcm.REMOVE_CRED, n("tkt"), u32(0), wanted) == b""
    assert kc.records() == [credential("krbtgt/R@R")]
    assert kc.call(kcm.DESTROY, n("tkt")) == b""
    assert kc.status(kcm.GET_PRINCIPAL, n("tkt")) == ABSENT


def test_credentials_equal_records_of_file(kc: Kcm) -> None:
    kc.initialize()
    kc.store("a@R", "b@R", "c@R")
    data = kc.fs.read("caches/tkt/ccache")
    assert data.endswith(b"".join(kc.records()))
    assert decode_ccache(data).principal.components == (b"alice",)


NAMED = [
    (kcm.DESTROY, b""),
    (kcm.STORE, credential()),
    (kcm.RETRIEVE, u32(0) + tag("host/www@R")),
    (kcm.GET_PRINCIPAL, b""),
    (kcm.GET_CRED_UUID_LIST, b""),
    (kcm.GET_CRED_BY_UUID, bytes(16)),
    (kcm.REMOVE_CRED, u32(0) + tag("host/www@R")),
    (kcm.SET_FLAGS, u32(0)),
    (kcm.MOVE_CACHE, n("other")),
    (kcm.GET_KDC_OFFSET, b""),
    (kcm.SET_KDC_OFFSET, u32(5)),
    (kcm.GET_CRED_LIST, b""),
]


@pytest.mark.parametrize(("opcode", "rest"), NAMED)
@pytest.mark.parametrize("name", ["absent", "tkt", "empty"])
def test_missing_ccache_is_not_found(kc: Kcm, opcode: int, rest: bytes, name: str) -> None:
    """An uninitialised ccache counts as missing."""
    kc.fs.mkdir("caches/empty")
    before = kc.fs.lines()
    assert kc.status(opcode, n(name), rest) == ABSENT
    assert kc.fs.lines() == before


@pytest.mark.parametrize(
    ("opcode", "rest"),
    [*NAMED, (kcm.INITIALIZE, ALICE), (kcm.SET_DEFAULT_CACHE, b""), (kcm.REPLACE, u32(0) + ALICE)],
)
@pytest.mark.parametrize("name", [b"tkt\0", b"0:tkt\0", b"10000:tkt\0", b":tkt\0", b"1000tkt\0"])
def test_name_of_other_uid_is_refused(kc: Kcm, opcode: int, rest: bytes, name: bytes) -> None:
    kc.initialize()
    rest += u32(0) if opcode == kcm.REPLACE else b""
    assert kc.status(opcode, name, rest) == kcm.BADNAME
    assert kc.listed() == [n("tkt")]


CUT = [
    *((opcode, n("tkt") + rest) for opcode, rest in NAMED),
    (kcm.INITIALIZE, n("tkt") + ALICE),
    (kcm.GET_CACHE_BY_UUID, bytes(16)),
    (kcm.SET_DEFAULT_CACHE, n("tkt")),
    (kcm.REPLACE, n("tkt") + u32(0) + ALICE + u32(1) + lengthed(credential())),
]


@pytest.mark.parametrize(("opcode", "payload"), CUT)
def test_cut_request_is_refused_without_change(kc: Kcm, opcode: int, payload: bytes) -> None:
    """Anywhere: an error, and nothing has changed."""
    kc.initialize()
    kc.store("host/www@R")
    before = kc.fs.read("caches/tkt/ccache")
    for size in range(len(payload)):
        status = kc.ask(opcode, payload[:size]).status
        whole_name = b"\0" in payload[:size]
        if status == 0:  # flags, a second name: nothing of them is needed
            assert whole_name
            assert (opcode, size) == (kcm.SET_FLAGS, size)
        else:
            assert status in (kcm.FORMAT, kcm.BADNAME, kcm.NOTFOUND, kcm.END)
    assert kc.fs.read("caches/tkt/ccache") == before
    assert kc.listed() == [n("tkt")]


def test_bytes_behind_principal_are_ignored(kc: Kcm) -> None:
    """A test server of MIT's sends a NUL there."""
    kc.call(kcm.INITIALIZE, n("tkt"), ALICE, b"\0")
    assert kc.call(kcm.GET_PRINCIPAL, n("tkt")) == ALICE


@pytest.mark.parametrize("bare", [BARE, b"\0"])
def test_bare_uid_and_empty_name_are_the_default(kc: Kcm, bare: bytes) -> None:
    kc.call(kcm.INITIALIZE, bare, ALICE)
    assert kc.call(kcm.GET_PRINCIPAL, n("tkt")) == ALICE
    kc.initialize("b", "bob@R")
    kc.call(kcm.SET_DEFAULT_CACHE, n("b"))
    assert kc.call(kcm.GET_PRINCIPAL, bare) == principal("bob@R")
    kc.initialize("c", "carol@R")
    kc.call(kcm.MOVE_CACHE, n("c"), bare)
    assert kc.call(kcm.GET_PRINCIPAL, n("b")) == principal("carol@R")
    assert kc.listed() == [n("b"), n("tkt")]


def test_any_name_is_a_ccache(kc: Kcm) -> None:
    for name in ("a/b", "..", "", "x" * 80, "ü%~\n", "tktX"):
        kc.initialize(name)
        assert n(name) in kc.listed()
    assert b"a%2Fb" in kc.fs.entries("caches")


@pytest.mark.parametrize("name", ["tkt.X", "y" * 256, "/" * 90])
def test_invalid_names_are_refused(kc: Kcm, name: str) -> None:
    assert kc.status(kcm.INITIALIZE, n(name), ALICE) == kcm.BADNAME
    assert kc.status(kcm.SET_DEFAULT_CACHE, n(name)) == kcm.BADNAME
    kc.initialize()
    assert kc.status(kcm.MOVE_CACHE, n("tkt"), n(name)) == kcm.BADNAME
    assert kc.listed() == [n("tkt")]


def test_initialize_clears_credentials_and_offset(kc: Kcm) -> None:
    kc.initialize()
    kc.store("a@R")
    kc.call(kcm.SET_KDC_OFFSET, n("tkt"), u32(-30))
    assert kc.call(kcm.GET_KDC_OFFSET, n("tkt")) == u32(-30)
    assert kc.fs.read("caches/tkt/kdc_offset") == b"-30\n"
    kc.initialize(client="bob@R")
    assert kc.records() == []
    assert kc.call(kcm.GET_KDC_OFFSET, n("tkt")) == u32(0)
    assert kc.fs.read("caches/tkt/kdc_offset") == b""


def test_offset_of_zero_is_no_offset(kc: Kcm) -> None:
    kc.initialize()
    before = kc.said()
    kc.call(kcm.SET_KDC_OFFSET, n("tkt"), u32(0))
    assert kc.said() == before
    kc.call(kcm.SET_KDC_OFFSET, n("tkt"), u32(7))
    kc.call(kcm.SET_KDC_OFFSET, n("tkt"), u32(0))
    assert kc.fs.read("caches/tkt/kdc_offset") == b""


def test_replace_is_one_step(kc: Kcm) -> None:
    new = [credential("krbtgt/R@R"), credential("b@R")]
    kc.initialize()
    kc.store("a@R")
    ident = kc.fs.readlink("by-id/" + ident_of(kc, "tkt"))
    payload = u32(-5) + principal("bob@R") + u32(2) + b"".join(map(lengthed, new))
    before = len(kc.said())
    assert kc.call(kcm.REPLACE, n("tkt"), payload) == b""
    assert kc.records() == new
    assert kc.call(kcm.GET_PRINCIPAL, n("tkt")) == principal("bob@R")
    assert kc.call(kcm.GET_KDC_OFFSET, n("tkt")) == u32(-5)
    assert kc.said()[before:] == ["replaced tkt -"]
    assert kc.fs.readlink("by-id/" + ident_of(kc, "tkt")) == ident
    kc.call(kcm.REPLACE, n("new"), u32(0), ALICE, u32(0))
    assert kc.records("new") == []


def ident_of(kc: Kcm, name: str) -> str:
    found = kc.fs.file_system.store.collection.find(name.encode())
    assert found is not None
    return found.ident


@pytest.mark.parametrize(
    "creds",
    [
        u32(2) + lengthed(credential()),
        u32(1) + lengthed(credential()[:-1]),
        u32(1) + lengthed(b"no credential"),
        u32(0xFFFFFFFF),
        u32(1) + u32(0xFFFFFFFF),
    ],
)
def test_malformed_replace_changes_nothing(kc: Kcm, creds: bytes) -> None:
    kc.initialize()
    kc.store("a@R")
    before = kc.said()
    assert kc.status(kcm.REPLACE, n("tkt"), u32(0), ALICE, creds) == kcm.FORMAT
    assert kc.status(kcm.REPLACE, n("new"), u32(0), ALICE, creds) == kcm.FORMAT
    assert kc.records() == [credential("a@R")]
    assert kc.said() == before


@pytest.mark.parametrize("data", [b"", b"x", credential()[:-1], credential() + b"\0", b"\xff" * 40])
def test_malformed_credential_is_not_stored(kc: Kcm, data: bytes) -> None:
    kc.initialize()
    assert kc.status(kcm.STORE, n("tkt"), data) == kcm.FORMAT
    assert kc.records() == []


def test_retrieve_returns_first_match_in_order(kc: Kcm) -> None:
    kc.initialize()
    for ticket in (b"one", b"two"):
        kc.call(kcm.STORE, n("tkt"), credential("a@R", ticket=ticket))
    wanted = tag("a@R", client="alice@R")
    assert kc.call(kcm.RETRIEVE, n("tkt"), u32(1), wanted) == credential("a@R", ticket=b"one")
    assert kc.status(kcm.RETRIEVE, n("tkt"), u32(1), tag("z@R")) == kcm.NOTFOUND


def test_remove_removes_all_matches(kc: Kcm) -> None:
    kc.initialize()
    kc.store("a@R", "b@R", "a@R", "c@R", "a@R")
    before = len(kc.said())
    assert kc.call(kcm.REMOVE_CRED, n("tkt"), u32(0), tag("a@R", client="alice@R")) == b""
    assert kc.records() == [credential("b@R"), credential("c@R")]
    assert [line.split()[0] for line in kc.said()[before:]] == ["removed"] * 3
    assert kc.status(kcm.REMOVE_CRED, n("tkt"), u32(0), tag("a@R")) == kcm.NOTFOUND


def test_removed_credential_ends_iteration_by_uuid(kc: Kcm) -> None:
    kc.initialize()
    kc.store("a@R", "b@R")
    first, second = kcm.uuids(kc.call(kcm.GET_CRED_UUID_LIST, n("tkt")))
    kc.call(kcm.REMOVE_CRED, n("tkt"), u32(0), tag("a@R"))
    assert kc.status(kcm.GET_CRED_BY_UUID, n("tkt"), first) == kcm.END
    assert kc.call(kcm.GET_CRED_BY_UUID, n("tkt"), second) == credential("b@R")
    for strange in (bytes(16), b"\xff" * 16):
        assert kc.status(kcm.GET_CRED_BY_UUID, n("tkt"), strange) == kcm.END


def test_uuid_of_another_ccache_is_not_found(kc: Kcm) -> None:
    kc.initialize()
    kc.initialize("b")
    kc.store("a@R", name="b")
    (found,) = kcm.uuids(kc.call(kcm.GET_CRED_UUID_LIST, n("b")))
    assert kc.status(kcm.GET_CRED_BY_UUID, n("tkt"), found) == kcm.END


def test_ccache_list_starts_with_default(kc: Kcm) -> None:
    """The default first; what is not initialised isn't in it."""
    assert kc.call(kcm.GET_CACHE_UUID_LIST) == b""
    kc.fs.mkdir("caches/empty")
    for name in ("tkt", "a", "b"):
        kc.initialize(name)
    assert kc.listed() == [n("tkt"), n("a"), n("b")]
    gone = kcm.uuids(kc.call(kcm.GET_CACHE_UUID_LIST))[1]
    kc.call(kcm.DESTROY, n("a"))
    assert kc.status(kcm.GET_CACHE_BY_UUID, gone) == kcm.END
    assert kc.listed() == [n("tkt"), n("b")]
    assert sorted(kc.fs.entries("caches")) == [b"b", b"empty", b"tkt"]


def test_destroyed_default_keeps_its_name(kc: Kcm) -> None:
    kc.initialize()
    kc.initialize("b")
    kc.call(kcm.DESTROY, n("tkt"))
    assert kc.call(kcm.GET_DEFAULT_CACHE) == n("tkt")
    assert kc.listed() == [n("b")]
    assert kc.fs.readlink("default") == b"caches/tkt"
    assert kc.status(kcm.DESTROY, n("tkt")) == ABSENT
    kc.initialize()
    assert kc.listed() == [n("tkt"), n("b")]


def test_default_may_name_missing_ccache(kc: Kcm) -> None:
    kc.initialize()
    kc.call(kcm.SET_DEFAULT_CACHE, n("later"))
    assert kc.call(kcm.GET_DEFAULT_CACHE) == n("later")
    assert kc.listed() == [n("tkt")]
    assert kc.fs.readlink("default") == b"caches/later"
    assert kc.fs.read("dir/primary") == b"tkt.later\n"


def test_gen_new_returns_unique_names(kc: Kcm) -> None:
    names = [kc.call(kcm.GEN_NEW) for _ in range(3)]
    assert len(set(names)) == 3
    assert kc.listed() == []
    kc.call(kcm.INITIALIZE, names[0], ALICE)
    assert kc.listed() == [names[0]]


def test_move_of_other_ccache_keeps_default(kc: Kcm) -> None:
    kc.initialize()
    kc.initialize("a", "bob@R")
    kc.store("x@R", name="a")
    kc.call(kcm.MOVE_CACHE, n("a"), n("b"))
    assert kc.listed() == [n("tkt"), n("b")]
    assert kc.records("b") == [credential("x@R")]
    assert kc.status(kcm.GET_PRINCIPAL, n("a")) == ABSENT
    kc.call(kcm.MOVE_CACHE, n("b"), n("tkt"))
    assert kc.listed() == [n("tkt")]
    assert kc.call(kcm.GET_PRINCIPAL, n("tkt")) == principal("bob@R")


def test_move_of_default_moves_default(kc: Kcm) -> None:
    kc.initialize()
    kc.call(kcm.MOVE_CACHE, n("tkt"), n("b"))
    assert kc.call(kcm.GET_DEFAULT_CACHE) == n("b")
    assert kc.listed() == [n("b")]
    kc.call(kcm.MOVE_CACHE, n("b"), n("b"))
    assert kc.listed() == [n("b")]


def test_older_file_version_is_served_as_version_4(kc: Kcm) -> None:
    """A change through KCM writes the whole file in version 4."""
    made = [record(b"a@R", dialect=V3), record(b"b@R", dialect=V3)]
    kc.fs.write("caches/tkt/ccache", whole(*made, dialect=V3))
    wanted = [record(b"a@R"), record(b"b@R")]
    assert kc.records() == wanted
    listed = kcm.uuids(kc.call(kcm.GET_CRED_UUID_LIST, n("tkt")))
    assert [kc.call(kcm.GET_CRED_BY_UUID, n("tkt"), one) for one in listed] == wanted
    assert kc.call(kcm.GET_PRINCIPAL, n("tkt")) == ALICE
    assert kc.call(kcm.RETRIEVE, n("tkt"), u32(0), tag("b@R")) == wanted[1]
    kc.call(kcm.REMOVE_CRED, n("tkt"), u32(0), tag("a@R"))
    kc.store("c@R")
    assert kc.records() == [wanted[1], credential("c@R")]
    assert kc.fs.read("caches/tkt/ccache")[:2] == b"\5\4"


def test_removed_records_are_not_listed(kc: Kcm) -> None:
    kc.initialize()
    kc.store("a@R")
    kc.call(kcm.STORE, n("tkt"), credential("b@R", times=(0xFFFFFFFF, 0, 0, 0)))
    assert kc.records() == [credential("a@R")]


@pytest.mark.parametrize(
    ("opcode", "payload"),
    [
        (kcm.STORE, n("tkt") + credential(ticket=b"x" * 5000)),
        (
            kcm.REPLACE,
            n("tkt") + u32(0) + ALICE + u32(1) + lengthed(credential(ticket=bytes(5000))),
        ),
        (kcm.INITIALIZE, n("one too many") + ALICE),
        (kcm.SET_DEFAULT_CACHE, n("one too many")),
        (kcm.MOVE_CACHE, n("tkt") + n("one too many")),
    ],
)
def test_limits_refuse_without_change_and_are_logged(opcode: int, payload: bytes) -> None:
    """A change over the limit changes nothing, and is logged."""
    kc = Kcm(ccaches=2, ccache_bytes=4096)
    kc.initialize()
    kc.initialize("b")
    kc.store("a@R")
    assert kc.status(opcode, payload) == kcm.NOMEM
    assert kc.records() == [credential("a@R")]
    assert kc.fs.lines()[-1][2] == "refused"
    assert kc.fs.lines()[-1][5:7] == [f"uid={UID}", "pid=4242"]


def test_overlong_list_is_internal_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """MIT asks for one after the other then."""
    monkeypatch.setattr("ccfs.kcm.opcodes.MAX_REPLY", 300)
    kc = Kcm()
    kc.initialize()
    kc.store("a@R")
    assert len(kc.records()) == 1
    kc.store("b@R", "c@R")
    assert kc.status(kcm.GET_CRED_LIST, n("tkt")) == kcm.INTERNAL


def test_change_notifies_fifos_kernel_and_inotify(kc: Kcm) -> None:
    """Waiters are kicked, stale inode numbers invalidated, the changed file touched."""
    kc.initialize()
    fs = kc.fs
    ccache = fs.file_system.store.collection.default
    fs.walk("changed"), fs.walk("caches/tkt/changed")
    number = fs.walk("caches/tkt/ccache")
    out = fs.outside
    out.kicked.clear(), out.touched.clear(), out.stale.clear()
    kc.store("a@R")
    assert sorted(out.kicked) == [0, ccache.serial]
    assert out.touched == [ccache.ident]
    assert number in out.stale
    assert fs.walk("caches/tkt/ccache") != number
    assert fs.lines()[-1][2:] == ["stored", "tkt", "a@R", f"uid={UID}", "pid=4242", "-"]
    out.kicked.clear(), out.touched.clear()
    for opcode in (kcm.GET_PRINCIPAL, kcm.GET_CRED_LIST, kcm.GET_KDC_OFFSET):
        kc.call(opcode, n("tkt"))
    assert (out.kicked, out.touched) == ([], [])


@pytest.mark.parametrize(
    ("opcode", "payload", "touched"),
    [
        (kcm.INITIALIZE, n("new") + ALICE, True),
        (kcm.INITIALIZE, n("tkt") + ALICE, True),
        (kcm.REPLACE, n("new") + u32(0) + ALICE + u32(0), True),
        (kcm.REMOVE_CRED, n("tkt") + u32(0) + tag("a@R"), True),
        (kcm.MOVE_CACHE, n("tkt") + n("new"), True),
        (kcm.SET_KDC_OFFSET, n("tkt") + u32(4), True),
        (kcm.DESTROY, n("tkt"), False),
        (kcm.STORE, n("tkt"), False),
    ],
)
def test_change_touches_ccache_file(kc: Kcm, opcode: int, payload: bytes, touched: bool) -> None:
    """Each change that leaves a file touches it for inotify; a refusal touches none."""
    kc.initialize()
    kc.store("a@R")
    kc.fs.outside.touched.clear()
    kc.ask(opcode, payload)
    assert bool(kc.fs.outside.touched) is touched


def test_event_names_process_of_connection(kc: Kcm) -> None:
    """Its process is looked up once, and stands in the events."""
    mine = kc.connect(os.getpid())
    mine.answer(request(kcm.INITIALIZE, n("tkt"), ALICE)[4:])
    with open("/proc/self/comm", encoding="utf-8") as file:
        command = file.read().strip()
    assert kc.fs.lines()[-1][5:] == [f"uid={UID}", f"pid={os.getpid()}", command]


@pytest.mark.parametrize(
    ("uid", "root", "served"),
    [(UID, False, True), (0, False, False), (0, True, True), (UID + 1, True, False)],
)
def test_owner_and_allowed_root_are_served(uid: int, root: bool, served: bool) -> None:
    """The owner, and root where allowed; for both the names are the owner's."""
    service = KcmService(FileSystem(root=root).committer, Owner(UID, UID, root=root))
    peer = service.responder(uid, 1)
    assert (peer is not None) is served
    if peer is not None:
        assert split(peer.answer(request(kcm.GET_DEFAULT_CACHE)[4:])).payload == n("tkt")


CHANGES = [
    (kcm.INITIALIZE, n("tkt") + ALICE),
    (kcm.DESTROY, n("tkt")),
    (kcm.STORE, n("tkt") + credential("b@R")),
    (kcm.REMOVE_CRED, n("tkt") + u32(0) + tag("a@R")),
    (kcm.MOVE_CACHE, n("tkt") + n("b")),
    (kcm.SET_DEFAULT_CACHE, n("b")),
    (kcm.SET_KDC_OFFSET, n("tkt") + u32(4)),
    (kcm.REPLACE, n("tkt") + u32(0) + ALICE + u32(0)),
]


def test_changing_operations_are_all_tested() -> None:
    assert {opcode for opcode, _ in CHANGES} == {k for k, o in OPERATIONS.items() if o.changes}


@pytest.mark.parametrize(("opcode", "payload"), CHANGES)
def test_journal_failure_is_an_error_reply(
    kc: Kcm, opcode: int, payload: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A journal that fails is an error for the client, and none that it takes for "unsupported"."""
    kc.initialize()
    kc.store("a@R")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("a secret that must not be seen")

    kc.fs.committer._write_journal = fail  # type: ignore[method-assign]
    assert kc.status(opcode, payload) == kcm.WRITE
    assert "commit failed: OSError" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("opcode", "payload"),
    [(kcm.SET_DEFAULT_CACHE, n("b")), (kcm.SET_KDC_OFFSET, n("tkt") + u32(4))],
)
def test_repeated_request_fails_until_journal_works(kc: Kcm, opcode: int, payload: bytes) -> None:
    """Although it changes nothing any more: not before the journal has it."""
    journal = Refusing()
    kc.initialize()
    kc.fs.committer.journal = journal
    assert [kc.status(opcode, payload) for _ in range(2)] == [kcm.WRITE] * 2
    assert kc.call(kcm.GET_PRINCIPAL, n("tkt")) == ALICE
    journal.refuses = False
    assert kc.call(opcode, payload) == b""
    assert journal.kept == 1
    assert kc.call(opcode, payload) == b""
    assert journal.kept == 1


@pytest.mark.parametrize("opcode", [kcm.GET_PRINCIPAL, kcm.STORE])
def test_exception_is_error_reply_and_log_line(
    kc: Kcm, opcode: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("a secret that must not be seen")

    kc.initialize()
    monkeypatch.setattr("ccfs.kcm.opcodes.name_at", fail)
    assert kc.status(opcode, n("tkt")) == kcm.WRITE
    assert [r.levelno for r in caplog.records] == [logging.ERROR]
    assert "ValueError" in caplog.text
    assert "secret" not in caplog.text


def test_requests_are_counted_by_opcode(kc: Kcm) -> None:
    kc.initialize()
    kc.store("a@R", "b@R")
    kc.ask(99)
    counted = kc.fs.committer.requests
    assert counted["kcm_store"] == 2
    assert counted["kcm_initialize"] == counted["kcm_unknown"] == 1
    assert b'"kcm_store":' in kc.fs.read("stats")


@pytest.mark.parametrize("change", [kcm.STORE, kcm.REMOVE_CRED, kcm.INITIALIZE, kcm.REPLACE])
@pytest.mark.parametrize("completed", [True, False])
def test_change_beside_incomplete_record_stands(kc: Kcm, change: int, completed: bool) -> None:
    """The KCM change stands, the record completes or is dropped, and no client waits."""
    kc.initialize()
    kc.store("a@R")
    written = credential("written@R")
    handle = kc.fs.open("caches/tkt/ccache", 0o2001)  # O_WRONLY | O_APPEND
    end = len(kc.fs.read("caches/tkt/ccache"))
    kc.fs.call("write", handle, end, written[:50])
    payloads = {
        kcm.STORE: credential("b@R"),
        kcm.REMOVE_CRED: u32(0) + tag("a@R"),
        kcm.INITIALIZE: ALICE,
        kcm.REPLACE: u32(0) + ALICE + u32(1) + lengthed(credential("c@R")),
    }
    after = {
        kcm.STORE: [credential("a@R"), credential("b@R")],
        kcm.REMOVE_CRED: [],
        kcm.INITIALIZE: [],
        kcm.REPLACE: [credential("c@R")],
    }[change]
    kc.call(change, n("tkt"), payloads[change])
    assert kc.records() == after
    if completed:
        kc.fs.call("write", handle, end + 50, written[50:])
    kc.fs.call("release", handle)
    # INITIALIZE and REPLACE are a new file in the place of the one that is written to
    follows = completed and change in (kcm.STORE, kcm.REMOVE_CRED)
    assert kc.records() == after + [written] * follows
