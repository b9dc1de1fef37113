# SPDX-License-Identifier: MIT
"""A KDC whose clock is ten minutes off: MIT's and Heimdal's clients by every face.

A KDC refuses what is over five minutes old.  What its clock is off by is in the ccache, and each
client has to come across it there before it asks for its next ticket.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ccfs import ccapi as cc
from tests.support.client_programs import Output, run
from tests.support.clients.heimdal import Heimdal
from tests.support.kdc import MIT_INSTALL, PROGRAMS, Kdc, running_kdc
from tests.support.mounting import MakeMount
from tests.support.require import require

NAMES = ["FILE:{}/default/ccache", "FILE:{}/caches/t/ccache", "DIR:{}/dir", "KCM:", "KCM:{uid}:t"]
SERVICES = ("HTTP/localhost", "host/localhost")
WELL_KNOWN = "/run/.heim_org.h5l.kcm-socket"
IN_A_NAMESPACE = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]


@pytest.fixture(scope="module", params=[600, -600], ids=["ahead", "behind"])
def off(request: pytest.FixtureRequest) -> Iterator[Kdc]:
    programs = require("MIT Kerberos", MIT_INSTALL, PROGRAMS)
    with running_kdc(programs["krb5kdc"], "-T", str(request.param)) as kdc:
        yield kdc


def place(make_mount: MakeMount, tmp_path: Path, name: str) -> tuple[str, Path]:
    """A mount with a KCM socket: the ccache's name there, and the socket."""
    socket = tmp_path / "kcm"
    mounted = make_mount("--kcm-socket", str(socket))
    (mounted.path / "caches/t").mkdir()
    return name.replace("{uid}", str(os.geteuid())).format(mounted.path), socket


@pytest.mark.parametrize("name", NAMES)
def test_mit_applies_kdc_offset(off: Kdc, make_mount: MakeMount, tmp_path: Path, name: str) -> None:
    ccname, socket = place(make_mount, tmp_path, name)
    conf = tmp_path / "kcm.conf"
    conf.write_text(f"[libdefaults]\n\tkcm_socket = {socket}\n")
    environment = off.environment(ccname)
    environment["KRB5_CONFIG"] = f"{conf}:{environment['KRB5_CONFIG']}"

    def mit(*argv: str) -> Output:
        return run(argv, environment)

    mit("kinit", "-c", ccname, "-k", "-t", str(off.keytab), "alice")
    for service in SERVICES:
        mit("kvno", service)
        mit("kvno", service)
    assert all(service in mit("klist").stdout for service in SERVICES)


@pytest.mark.heimdal
@pytest.mark.parametrize("name", NAMES)
def test_heimdal_applies_kdc_offset(
    off: Kdc, heimdal: Heimdal, make_mount: MakeMount, tmp_path: Path, name: str
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: Heimdal's socket is fixed, so it needs a mount namespace")
    ccname, socket = place(make_mount, tmp_path, name)
    environment = replace(heimdal, kdc=off).environment(ccname)
    environment["PATH"] += ":/usr/sbin:/sbin"
    there = f'mount -t tmpfs none /run && ln -s {socket} {WELL_KNOWN} && exec "$@"'

    def client(*argv: str) -> Output:
        return run([*IN_A_NAMESPACE, there, "sh", *argv], environment)

    client("kinit.heimdal", "-c", ccname, "-k", "-t", str(off.keytab), "alice")
    for service in SERVICES:
        client("kgetcred", service)
        client("kgetcred", service)
    assert all(service in client("heimtools", "klist").stdout for service in SERVICES)


def test_ccapi_reports_kdc_offset(off: Kdc, make_mount: MakeMount, tmp_path: Path) -> None:
    ccname, _ = place(make_mount, tmp_path, "FILE:{}/default/ccache")
    command = ("kinit", "-k", "-t", str(off.keytab), "alice")
    run(command, off.environment(ccname))
    mountpoint = Path(ccname.removeprefix("FILE:")).parents[1]
    with cc.initialize(mount=mountpoint) as context:
        offset = context.open_default_ccache().get_kdc_time_offset(cc.cc_credentials_v5)
    assert 590 <= min(offset, 2**32 - offset) <= 610
