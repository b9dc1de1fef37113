# SPDX-License-Identifier: MIT
"""The JDK's own Kerberos reads a ccache and uses it."""

import pytest

from tests.support.ccache_tree import CcacheTree
from tests.support.client_programs import run
from tests.support.clients.java import Java
from tests.support.clients.python import Programs
from tests.support.kdc import Kdc

pytestmark = pytest.mark.java


def test_java_uses_the_default_ccache(
    kdc: Kdc, java: Java, python: Programs, place: CcacheTree
) -> None:
    """It logs in from the TGT, and takes a service ticket that is there from the ccache."""
    run(["kinit", "-k", "-t", kdc.keytab, "alice"], kdc.environment(place.file_name))
    run(["kvno", "host/localhost"], kdc.environment(place.file_name))
    printed = java.run(place.default, "HTTP@localhost").stdout
    assert f"principal: {kdc.principal('alice')}" in printed
    assert f"ticket: krbtgt/{kdc.realm}@{kdc.realm}" in printed
    assert f"ticket: HTTP/localhost@{kdc.realm}" in printed
    assert python.initiator_of(printed) == kdc.principal("alice")


def test_java_reads_past_removed_credential(
    kdc: Kdc, java: Java, python: Programs, place: CcacheTree
) -> None:
    """Java reads on behind what libkrb5 leaves where a credential was."""
    environment, gone = kdc.environment(place.file_name), f"host/localhost@{kdc.realm}"
    run(["kinit", "-k", "-t", kdc.keytab, "alice"], environment)
    run(["kvno", "host/localhost", "HTTP/localhost"], environment)
    assert python.run("remove", gone, ccname=place.file_name).stdout == f"removed: {gone}\n"
    assert gone not in run(["klist"], environment).stdout
    printed = java.run(place.default, "HTTP@localhost").stdout
    assert python.initiator_of(printed) == kdc.principal("alice")


def test_java_without_a_ccache(java: Java, place: CcacheTree) -> None:
    assert "LoginException" in java.run(place.default, "HTTP@localhost", status=1).stderr
