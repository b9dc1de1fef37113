# SPDX-License-Identifier: MIT
"""curl --negotiate with a ccache against a web server on loopback."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ccache_tree import CcacheTree
from tests.support.client_programs import Output, run
from tests.support.clients.python import PROGRAMS, Programs
from tests.support.kdc import Kdc, await_line
from tests.support.require import require

INSTALL = "apt-get install curl"
STOP_SECONDS = 10


@pytest.fixture(scope="module")
def url(python: Programs) -> Iterator[str]:
    """Where a web server listens that asks for SPNEGO."""
    process = subprocess.Popen(
        [sys.executable, PROGRAMS / "spnego.py"],
        env=python.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        port = await_line(process, b"\n").removeprefix(b"port: ").strip()
        yield f"http://localhost:{port.decode()}/"
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.communicate(timeout=STOP_SECONDS)
        process.kill()
        process.wait()


def curl(kdc: Kdc, place: CcacheTree, url: str, *options: str | Path) -> Output:
    """curl's answer body and, on a line of its own, the status."""
    program = require("curl", INSTALL, ["curl"])["curl"]
    argv = [program, "-sS", "--noproxy", "*", "-w", "\n%{http_code}", *options, url]
    return run(argv, kdc.environment(place.file_name))


def test_curl_negotiates_with_ccache(kdc: Kdc, place: CcacheTree, url: str) -> None:
    """The server sees the principal; the one ticket curl got for that is in the ccache."""
    environment = kdc.environment(place.file_name)
    run(["kinit", "-k", "-t", kdc.keytab, "alice"], environment)
    for _ in range(2):
        answer = curl(kdc, place, url, "--negotiate", "-u", ":")
        assert answer.stdout.splitlines() == [kdc.principal("alice"), "200"]
    assert run(["klist"], environment).stdout.count(f"HTTP/localhost@{kdc.realm}") == 1
    if place.ccfs:
        # GSS doesn't say the service's realm: libkrb5 stores the name with an empty one
        text = (place.default.parent / "credentials/HTTP%2Flocalhost@").read_text()
        assert f"Client: {kdc.principal('alice')}\n" in text


def test_curl_without_ccache_gets_401(kdc: Kdc, place: CcacheTree, url: str) -> None:
    """Without tickets the server's 401 stands."""
    answer = curl(kdc, place, url, "--negotiate", "-u", ":")
    assert answer.stdout.splitlines()[-1] == "401"
