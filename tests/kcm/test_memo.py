# SPDX-License-Identifier: MIT
"""A repeated request gets the cached reply, until anything has changed."""

from collections.abc import Callable

import pytest

from ccfs.kcm import reply_cache
from ccfs.kcm.opcodes import OPERATIONS
from ccfs.kcm.reply_cache import ReplyCache
from ccfs.kcm.service import KcmService, Responder
from ccfs.service.info import Owner
from tests.support import kcm
from tests.support.direct import UID, FileSystem
from tests.support.kcm import credential, lengthed, principal, request, split, tag, u32
from tests.support.kcm_fresh import check_cached

ALICE, BOB = principal("alice@R"), principal("bob@R")
TKT, OTHER = b"%d:tkt\0" % UID, b"%d:other\0" % UID
WWW = tag("host/www@R", client="alice@R")
READS = {
    kcm.RETRIEVE: TKT + u32(1) + WWW,
    kcm.GET_PRINCIPAL: TKT,
    kcm.GET_CRED_UUID_LIST: TKT,
    kcm.GET_CRED_BY_UUID: TKT,
    kcm.GET_CACHE_UUID_LIST: b"",
    kcm.GET_CACHE_BY_UUID: b"",
    kcm.GET_DEFAULT_CACHE: b"",
    kcm.GET_KDC_OFFSET: TKT,
    kcm.GET_CRED_LIST: TKT,
}


class Scene:
    """A ccache with two credentials and one with none, and all that can be asked of them."""

    def __init__(self) -> None:
        self.fs = FileSystem()
        self.service = KcmService(self.fs.committer, Owner(UID, UID))
        self.peer = self.connect()
        self.call(kcm.INITIALIZE, TKT + ALICE)
        self.call(kcm.STORE, TKT + credential("krbtgt/R@R"))
        self.call(kcm.STORE, TKT + credential("host/www@R"))
        self.call(kcm.INITIALIZE, OTHER + ALICE)
        (ccache, _) = kcm.uuids(self.call(kcm.GET_CACHE_UUID_LIST, b""))
        (first, _) = kcm.uuids(self.call(kcm.GET_CRED_UUID_LIST, TKT))
        self.reads = dict(READS)
        self.reads[kcm.GET_CRED_BY_UUID] = TKT + first
        self.reads[kcm.GET_CACHE_BY_UUID] = ccache

    def connect(self, pid: int = 1) -> Responder:
        peer = self.service.responder(UID, pid)
        assert peer is not None
        return peer

    def call(self, opcode: int, payload: bytes) -> bytes:
        reply = split(self.peer.answer(request(opcode, payload)[4:]))
        assert reply.status == 0
        return reply.payload

    def ask_all(self, peer: Responder | None = None) -> dict[int, bytes]:
        asked = {opcode: request(opcode, load)[4:] for opcode, load in self.reads.items()}
        return {opcode: (peer or self.peer).answer(data) for opcode, data in asked.items()}


def test_repeatable_requests_are_all_tested() -> None:
    assert set(READS) == {opcode for opcode, row in OPERATIONS.items() if row.cacheable}
    assert not any(row.cacheable and row.changes for row in OPERATIONS.values())


def test_repeated_request_is_answered_from_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service is not called; the request is counted all the same."""
    scene = Scene()
    said = scene.ask_all()
    assert check_cached(scene.peer) == len(READS)
    monkeypatch.setattr("ccfs.kcm.opcodes.name_at", None)
    before = scene.fs.committer.requests["kcm_retrieve"]
    assert scene.ask_all() == scene.ask_all(scene.connect(2)) == said
    assert scene.fs.committer.requests["kcm_retrieve"] == before + 2


def _complete_a_record(scene: Scene) -> None:
    path = "caches/tkt/ccache"
    record, end = credential("host/late@R"), len(scene.fs.read(path))
    handle = scene.fs.open(path, 0o2001)  # O_WRONLY | O_APPEND
    scene.fs.call("write", handle, end, record[:30])
    scene.ask_all()
    scene.fs.call("write", handle, end + 30, record[30:])


def _write_in_place(scene: Scene) -> None:
    path = "caches/tkt/ccache"
    at = scene.fs.read(path).index(b"k" * 32)
    handle = scene.fs.open(path, 0o1)  # O_WRONLY
    scene.fs.call("write", handle, at, b"K" * 32)


def _by_kcm(opcode: int, payload: bytes) -> Callable[[Scene], object]:
    return lambda scene: scene.call(opcode, payload)


CHANGES: dict[str, tuple[Callable[[Scene], object], set[int]]] = {
    "store": (_by_kcm(kcm.STORE, TKT + credential("a@R")), {kcm.GET_CRED_LIST}),
    "remove": (_by_kcm(kcm.REMOVE_CRED, TKT + u32(0) + WWW), {kcm.RETRIEVE, kcm.GET_CRED_LIST}),
    "initialize": (_by_kcm(kcm.INITIALIZE, TKT + BOB), {kcm.GET_PRINCIPAL, kcm.GET_CRED_BY_UUID}),
    "destroy": (_by_kcm(kcm.DESTROY, TKT), {kcm.GET_PRINCIPAL, kcm.GET_CACHE_UUID_LIST}),
    "move": (_by_kcm(kcm.MOVE_CACHE, OTHER + TKT), {kcm.RETRIEVE, kcm.GET_CACHE_UUID_LIST}),
    "default": (_by_kcm(kcm.SET_DEFAULT_CACHE, OTHER), {kcm.GET_DEFAULT_CACHE}),
    "offset": (_by_kcm(kcm.SET_KDC_OFFSET, TKT + u32(7)), {kcm.GET_KDC_OFFSET}),
    "replace": (
        _by_kcm(kcm.REPLACE, TKT + u32(3) + BOB + u32(1) + lengthed(credential())),
        {kcm.GET_PRINCIPAL, kcm.GET_KDC_OFFSET, kcm.GET_CRED_LIST},
    ),
    "a file's unlink": (lambda s: s.fs.unlink("caches/tkt/ccache"), {kcm.GET_PRINCIPAL}),
    "a directory's removal": (lambda s: s.fs.rmdir("caches/tkt"), {kcm.GET_CRED_LIST}),
    "rename": (lambda s: s.fs.rename("caches/tkt", "caches/new"), {kcm.GET_CACHE_BY_UUID}),
    "a credential's unlink": (
        lambda s: s.fs.unlink("caches/tkt/credentials/host%2Fwww@R"),
        {kcm.RETRIEVE, kcm.GET_CRED_UUID_LIST},
    ),
    "kdc_offset": (lambda s: s.fs.write("caches/tkt/kdc_offset", b"9\n"), {kcm.GET_KDC_OFFSET}),
    "principal": (lambda s: s.fs.write("caches/tkt/principal", b"bob@R\n"), {kcm.GET_PRINCIPAL}),
    "a record that completes": (_complete_a_record, {kcm.GET_CRED_LIST, kcm.GET_CRED_UUID_LIST}),
    "a write in place": (_write_in_place, {kcm.GET_CRED_LIST, kcm.GET_CRED_BY_UUID}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_change_invalidates_cached_replies(change: str) -> None:
    """Whatever made it: those that it concerns are others, and all are what the store has."""
    scene = Scene()
    before = scene.ask_all()
    make, concerns = CHANGES[change]
    make(scene)
    assert check_cached(scene.peer) == 0
    after = scene.ask_all()
    assert {opcode for opcode in concerns if before[opcode] == after[opcode]} == set()
    check_cached(scene.peer)


def test_refusal_is_not_cached() -> None:
    scene = Scene()
    refused = request(kcm.GET_PRINCIPAL, b"%d:none\0" % UID)[4:]
    before = check_cached(scene.peer)
    assert split(scene.peer.answer(refused)).status == kcm.NOFILE
    assert check_cached(scene.peer) == before


def test_large_reply_is_not_cached() -> None:
    kept = ReplyCache()
    kept.add(b"a", bytes(reply_cache.LARGEST))
    assert kept.find(b"a") is None


def test_cache_evicts_to_stay_in_its_room() -> None:
    """The newest is kept, and what was there before has made room."""
    kept, piece = ReplyCache(), bytes(reply_cache.LARGEST // 2)
    for number in range(5 * reply_cache.CAPACITY // len(piece)):
        kept.add(b"%d" % number, piece)
        assert kept.find(b"%d" % number) == piece
        assert sum(map(len, kept._replies.values())) <= reply_cache.CAPACITY


def test_cleared_cache_has_all_its_room() -> None:
    kept = ReplyCache()
    for _ in range(3):
        for number in range(reply_cache.CAPACITY // reply_cache.LARGEST):
            kept.add(b"%d" % number, bytes(reply_cache.LARGEST - reply_cache.OVERHEAD - 8))
        assert len(kept._replies) == reply_cache.CAPACITY // reply_cache.LARGEST
        kept.clear()
    assert kept.find(b"0") is None
