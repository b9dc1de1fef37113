# SPDX-License-Identifier: MIT
"""Python's Kerberos modules on the same file: krb5, gssapi, impacket, minikerberos."""

import pytest

from tests.support.ccache_tree import CcacheTree
from tests.support.client_programs import Output, run
from tests.support.clients.python import Programs
from tests.support.kdc import Kdc

AES256 = 18


def kinit(kdc: Kdc, place: CcacheTree, user: str) -> None:
    run(["kinit", "-k", "-t", kdc.keytab, user], kdc.environment(place.file_name))


def klist(kdc: Kdc, place: CcacheTree) -> Output:
    return run(["klist"], kdc.environment(place.file_name))


def test_libkrb5_calls_equal_tmpfs(
    kdc: Kdc, python: Programs, tmpfs: CcacheTree, mounted: CcacheTree
) -> None:
    """An application that initializes, stores, configures, removes and destroys."""
    arguments = (kdc.principal("alice"), kdc.keytab, "HTTP/localhost")
    printed = [
        python.run("libkrb5", *arguments, ccname=place.file_name).stdout
        for place in (tmpfs, mounted)
    ]
    tgt = f"krbtgt/{kdc.realm}@{kdc.realm}"
    assert printed[1] == printed[0]
    assert f"stored: ['{tgt}']" in printed[1]
    assert "removed: []" in printed[1]
    assert f"stored again: ['{tgt}']" in printed[1]


def test_libkrb5_collection_calls_equal_tmpfs(
    kdc: Kdc, python: Programs, tmpfs: CcacheTree, mounted: CcacheTree
) -> None:
    arguments = (kdc.principal("bob"), kdc.keytab, "HTTP/localhost")
    printed = [
        python.run("libkrb5", *arguments, ccname=place.dir_name).stdout
        for place in (tmpfs, mounted)
    ]
    assert printed[1] == printed[0]
    assert f"matched: {kdc.principal('bob')}" in printed[1]


def test_gssapi_handshake(kdc: Kdc, python: Programs, place: CcacheTree) -> None:
    """The initiator's new service ticket is in the ccache afterwards."""
    kinit(kdc, place, "alice")
    printed = python.run("handshake", "HTTP@localhost", ccname=place.file_name).stdout
    assert f"initiator: {kdc.principal('alice')}" in printed
    assert "target: HTTP/localhost@" in printed
    assert "unwrapped: through the context" in printed
    assert f"HTTP/localhost@{kdc.realm}" in klist(kdc, place).stdout


@pytest.mark.parametrize("module", ["with_impacket", "with_minikerberos"])
def test_clients_load_ccache_by_path(
    kdc: Kdc, python: Programs, place: CcacheTree, module: str
) -> None:
    """It takes the bare path, and makes of the TGT what it needs."""
    kinit(kdc, place, "alice")
    run(["kvno", "host/localhost"], kdc.environment(place.file_name))
    printed = python.run(module, "load", place.default).stdout
    assert printed.splitlines() == [
        f"principal: {kdc.principal('alice')}",
        f"ticket: krbtgt/{kdc.realm}@{kdc.realm}",
        f"ticket: host/localhost@{kdc.realm}",
        f"tgt: {kdc.realm} {AES256} {AES256}",
    ]


@pytest.mark.parametrize("module", ["with_impacket", "with_minikerberos"])
def test_clients_save_ccache_by_path(
    kdc: Kdc, python: Programs, place: CcacheTree, module: str
) -> None:
    """It truncates and writes, to a new name and over one that is there; MIT goes on from that."""
    copy = place.ccache("copy")
    environment = kdc.environment(f"FILE:{copy}")
    for user in ("alice", "bob"):
        kinit(kdc, place, user)
        python.run(module, "save", place.default, copy)
        assert f"Default principal: {kdc.principal(user)}" in run(["klist"], environment).stdout
        run(["kvno", "HTTP/localhost"], environment)
        assert f"HTTP/localhost@{kdc.realm}" in run(["klist"], environment).stdout
