# SPDX-License-Identifier: MIT
"""KCM of a real mount beside all else: other writers, refreshes, daemons that die."""

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import kcm
from tests.support.background_mount import background_mount
from tests.support.ccache_interfaces import WRITERS, ByKcm, KcmMount, empty, kcm_mount, seen_in
from tests.support.ccfsd import CcfsdHost
from tests.support.ccfsd_fixtures import KCM, USER, host, python_command, shared_host
from tests.support.client_programs import run
from tests.support.kcm import Client, credential, lengthed, principal, tag, u32
from tests.support.kdc import Kdc
from tests.support.mounting import MakeMount, first_line, until_killed
from tests.support.shell import wait_until

__all__ = ["empty", "host", "kcm_mount", "shared_host"]

SECONDS = 60.0
BEGUN = 50
"""Bytes of a record that has been begun."""
TKT, OTHER = (f"{os.geteuid()}:{name}".encode() + b"\0" for name in ("tkt", "other"))
CHANGES: dict[str, tuple[int, bytes, list[str] | None, bool]] = {
    "store": (kcm.STORE, TKT + credential("b@R"), ["a@R", "b@R"], True),
    "remove": (kcm.REMOVE_CRED, TKT + u32(0) + tag("a@R"), [], True),
    "offset": (kcm.SET_KDC_OFFSET, TKT + u32(9), ["a@R"], True),
    "initialize": (kcm.INITIALIZE, TKT + principal("bob@R"), [], False),
    "replace": (
        kcm.REPLACE,
        TKT + u32(0) + principal("bob@R") + u32(1) + lengthed(credential("c@R")),
        ["c@R"],
        False,
    ),
    "destroy": (kcm.DESTROY, TKT, None, False),
    "move": (kcm.MOVE_CACHE, TKT + OTHER, None, False),
    "move onto": (kcm.MOVE_CACHE, OTHER + TKT, ["z@R"], False),
}
"""What is asked for, what is in the ccache then (None: there is none), and whether it is the one
that is written to still."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kcm"


@pytest.fixture(scope="module")
def client(kcm_mount: KcmMount) -> Iterator[Client]:
    with Client(kcm_mount.socket) as made:
        yield made


def through_kcm(client: Client) -> list[bytes] | None:
    """The credentials of the ccache; None where there is none."""
    reply = client.ask(kcm.GET_CRED_LIST, TKT)
    assert reply.status in (0, kcm.NOFILE)
    return None if reply.status else kcm.entries(reply.payload)


def through_file(ccache: Path) -> list[bytes] | None:
    """The same as a FILE reader finds them."""
    if not ccache.exists():
        return None
    data = ccache.read_bytes()
    servers = seen_in(data).servers
    found = [credential(server) for server in servers]
    assert data.endswith(b"".join(found))
    return found


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("completed", [True, False])
def test_kcm_change_beside_incomplete_record_stands(
    empty: KcmMount, client: Client, change: str, completed: bool
) -> None:
    """Through the kernel: it stands at once, the record follows or is dropped, no client waits."""
    client.replace("tkt", [credential("a@R")])
    client.replace("other", [credential("z@R")])
    ccache = empty.top / "caches/tkt/ccache"
    opcode, payload, servers, stays = CHANGES[change]
    after = None if servers is None else [credential(server) for server in servers]
    record = credential("written@R")
    writer = os.open(ccache, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(writer, record[:BEGUN])
        client.call(opcode, payload)
        assert through_kcm(client) == after
        if completed:
            os.write(writer, record[BEGUN:])
    finally:
        os.close(writer)
    if completed and stays:
        assert after is not None
        after.append(record)
    assert through_kcm(client) == after
    assert through_file(ccache) == after


@pytest.mark.parametrize("remover", WRITERS)
def test_iteration_by_uuid_continues_over_removals(
    empty: KcmMount, client: Client, remover: str
) -> None:
    """Heimdal's clients ask for one credential after another, while others remove some."""
    names = [f"host/h{n}@R" for n in range(5)]
    ByKcm(empty).create("tkt", "alice@R", *names)
    listed = kcm.uuids(client.call(kcm.GET_CRED_UUID_LIST, TKT))
    found = [client.ask(kcm.GET_CRED_BY_UUID, TKT, listed[0])]
    for gone in (names[0], names[3]):
        WRITERS[remover](empty).remove("tkt", gone)
    found += [client.ask(kcm.GET_CRED_BY_UUID, TKT, one) for one in listed[1:]]
    assert [one.status for one in found] == [0, 0, 0, kcm.END, 0]
    left = [one.payload for one in (found[1], found[2], found[4])]
    assert client.records("tkt") == left


@pytest.fixture
def krb5(path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """libkrb5 in this process, which finds KCM at `path`."""
    found = pytest.importorskip("krb5")
    conf = path.with_name("krb5.conf")
    conf.write_text(f"[libdefaults]\n\tdefault_realm = R\n\tkcm_socket = {path}\n")
    monkeypatch.setenv("KRB5_CONFIG", str(conf))
    monkeypatch.setenv("KRB5CCNAME", "KCM:")
    return found


def test_open_kcm_ccache_outlives_daemon(krb5: Any, path: Path) -> None:
    """MIT's library connects again by itself, for each ccache that it has open."""
    with background_mount() as here:
        here.mount("--kcm-socket", str(path))
        with Client(path) as client:
            client.replace("tkt", [credential("host/a@R"), credential("host/b@R")])
        context = krb5.init_context()
        ccaches = [krb5.cc_default(context) for _ in range(3)]
        assert {str(krb5.cc_get_principal(context, one)) for one in ccaches} == {"alice@R"}
        old = here.info()
        os.kill(int(old["pid"]), signal.SIGKILL)
        here.come_back(old["server_id"])
        for one in ccaches:
            assert [str(found.server) for found in one] == ["host/a@R", "host/b@R"]


IMPATIENT = """
import sys, krb5
context = krb5.init_context()
ccaches = [krb5.cc_default(context) for _ in range(3)]
krb5.cc_initialize(context, ccaches[0], krb5.parse_name_flags(context, b"alice@R"))
for _ in range(2):
    print("kill", flush=True)
    sys.stdin.readline()
    for one in ccaches:
        print(krb5.cc_get_principal(context, one), flush=True)
"""


def test_open_kcm_ccache_waits_for_next_daemon(host: CcfsdHost) -> None:
    """ccfsd listens, so that clients can connect between two daemons."""
    pytest.importorskip("krb5")
    conf = host.directory / "kcm.conf"
    conf.write_text(f"[libdefaults]\n\tdefault_realm = R\n\tkcm_socket = {KCM}\n")
    conf.chmod(0o644)
    command = python_command(host, "-c", IMPATIENT, KRB5_CONFIG=str(conf), KRB5CCNAME="KCM:")
    killed = 0
    with host.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        for _ in range(2):
            assert first_line(client.stdout, SECONDS) == "kill\n"
            wait_until(lambda old=killed: host.daemon(USER) not in (0, old), "no daemon")
            killed = host.daemon(USER)
            ended = os.pidfd_open(killed)
            os.kill(killed, signal.SIGKILL)  # which its user may not
            assert select.select([ended], [], [], SECONDS)[0]
            os.close(ended)
            client.stdin.write("\n")
            client.stdin.flush()
            said = [first_line(client.stdout, SECONDS) for _ in range(3)]
            assert said == ["alice@R\n"] * 3
        assert client.wait(SECONDS) == 0


def test_libkrb5_reads_long_list_and_large_ticket(
    krb5: Any, path: Path, make_mount: MakeMount
) -> None:
    """A list of more than it takes at a time, which it asks for one by one; a ticket of 1 MB."""
    make_mount("--kcm-socket", str(path), "--no-journal", "--max-ccache-size", "16M")
    names = [f"host/h{number}@R" for number in range(2000)]
    with Client(path) as client:
        client.replace("tkt", [credential(name, ticket=bytes(5500)) for name in names])
        assert client.ask(kcm.GET_CRED_LIST, TKT).status == kcm.INTERNAL
        context = krb5.init_context()
        assert [str(one.server) for one in krb5.cc_default(context)] == names
        client.replace("tkt", [credential("large@R", ticket=bytes(1 << 20))])
    (large,) = krb5.cc_default(context)
    assert large.ticket == bytes(1 << 20)


READER = """
import select, sys, krb5
name, wanted, looks = sys.argv[1].encode(), sys.argv[2], 0
while not select.select([sys.stdin], [], [], 0)[0]:
    context = krb5.init_context()
    ccache = krb5.cc_resolve(context, name)
    servers = [str(one.server) for one in ccache]
    assert wanted in servers, servers
    assert str(krb5.cc_get_principal(context, ccache)).startswith("alice@")
    looks += 1
    if looks == 1:
        print("begun", flush=True)
print(looks)
"""


def test_readers_during_kinit_always_see_tgt(kdc: Kdc, make_mount: MakeMount, path: Path) -> None:
    """Eight readers of their own processes, which never see a ccache without its TGT."""
    pytest.importorskip("krb5")
    mounted = make_mount("--kcm-socket", str(path))
    conf = path.with_name("krb5.conf")
    conf.write_text(f"[libdefaults]\n\tkcm_socket = {path}\n")
    environment = kdc.environment("KCM:")
    environment["KRB5_CONFIG"] = f"{conf}:{environment['KRB5_CONFIG']}"
    kinit = ["kinit", "-k", "-t", kdc.keytab, "alice"]
    run(kinit, environment)  # type: ignore[arg-type]
    names = ["KCM:", f"FILE:{mounted.path}/default/ccache", f"DIR:{mounted.path}/dir", "KCM:"] * 2
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(reading(name, environment)) for name in names]
        for _ in range(20):
            run(kinit, environment)  # type: ignore[arg-type]
        for reader in readers:
            said, complaint = reader.communicate(timeout=SECONDS)
            assert reader.returncode == 0, complaint
            assert int(said) > 1


@contextlib.contextmanager
def reading(name: str, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process that looks at a ccache again and again, until its stdin is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", READER, name, "krbtgt/KRBTEST.COM@KRBTEST.COM"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with until_killed(process, "begun", SECONDS):
        yield process
