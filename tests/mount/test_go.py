# SPDX-License-Identifier: MIT
"""gokrb5 loads a ccache and gets a service ticket with it."""

import pytest

from tests.support.ccache_tree import CcacheTree
from tests.support.client_programs import run
from tests.support.clients.go import Go
from tests.support.clients.python import Programs
from tests.support.kdc import Kdc

pytestmark = pytest.mark.go


def test_go_uses_the_default_ccache(kdc: Kdc, go: Go, python: Programs, place: CcacheTree) -> None:
    environment = kdc.environment(place.file_name)
    run(["kinit", "-k", "-t", kdc.keytab, "bob"], environment)
    run(["kvno", "host/localhost"], environment)
    printed = go.run(place.default, "HTTP/localhost").stdout
    assert f"principal: {kdc.principal('bob')}" in printed
    assert f"ticket: host/localhost@{kdc.realm}" in printed
    assert python.initiator_of(printed) == kdc.principal("bob")


def test_go_uses_a_cached_ticket(kdc: Kdc, go: Go, python: Programs, place: CcacheTree) -> None:
    environment = kdc.environment(place.file_name)
    run(["kinit", "-k", "-t", kdc.keytab, "bob"], environment)
    run(["kvno", "HTTP/localhost"], environment)
    printed = go.run(place.default, "HTTP/localhost").stdout
    assert f"ticket: HTTP/localhost@{kdc.realm}" in printed
    assert python.initiator_of(printed) == kdc.principal("bob")


def test_go_without_a_ccache(go: Go, place: CcacheTree) -> None:
    assert "no such file" in go.run(place.default, "HTTP/localhost", status=1).stderr
