# SPDX-License-Identifier: MIT
"""Heimdal's programs on FILE: and DIR:, compared with the same run on tmpfs.

With KRB5CCNAME=DIR:... the programs of Heimdal 7.8 (Debian 12) crash on any file system where they
go through the collection (heimdal/heimdal#1080: kinit, klist -l, kswitch -p). Those steps have no
status of their own here; they must end in a mount as they do on tmpfs, and kinit gets its tickets
through the FILE: name of a file in the collection.
"""

import pytest

from tests.support.ccache_tree import CcacheTree
from tests.support.client_programs import Step, run, step
from tests.support.clients.heimdal import Heimdal
from tests.support.kdc import Kdc

pytestmark = pytest.mark.heimdal

ANY = None


def kinit(kdc: Kdc, user: str, *options: str) -> Step:
    """A kinit that asks for no password."""
    return step("kinit.heimdal", *options, "-k", "-t", str(kdc.keytab), user)


def klist(*options: str, status: int | None = 0, prints: tuple[str, ...] = ()) -> Step:
    return step("heimtools", "klist", *options, status=status, prints=prints)


def life_of_a_ccache(kdc: Kdc) -> list[Step]:
    """All that Heimdal's programs do to a ccache from kinit to kdestroy, and a second time."""
    alice, bob = kdc.principal("alice"), kdc.principal("bob")
    http, host = (f"{name}@{kdc.realm}" for name in ("HTTP/localhost", "host/localhost"))
    return [
        klist(status=1, prints=("No ticket file",)),
        klist("-t", status=1),
        kinit(kdc, "alice"),
        klist(prints=(f"Principal: {alice}", f"krbtgt/{kdc.realm}@{kdc.realm}")),
        klist("-t"),
        step("kgetcred", "HTTP/localhost"),
        step("kgetcred", "host/localhost"),
        klist(prints=(http, host)),
        klist("-v", prints=("aes256-cts-hmac-sha1-96, kvno 1", "Cache version: 4")),
        klist("-f", prints=("FRIA",)),
        klist("-A", prints=(http,)),
        klist("-l", prints=(alice,)),
        klist("--hidden", prints=(http,)),
        step("kdestroy.heimdal", f"--credential={http}"),
        klist(prints=(host,)),
        step("kgetcred", "HTTP/localhost"),
        klist(prints=(http, host)),
        step("kinit.heimdal", "-R"),
        klist("-f", prints=("FRIAT",)),
        kinit(kdc, "bob"),
        klist(prints=(bob,)),
        step("heimtools", "kswitch", "-p", bob),
        step("heimtools", "kswitch", "-p", alice, status=1),
        step("kdestroy.heimdal"),
        klist(status=1, prints=("No ticket file",)),
        step("kdestroy.heimdal", status=ANY),
        kinit(kdc, "alice"),
        step("kdestroy.heimdal", "-A", status=ANY),
        klist(status=1),
    ]


@pytest.mark.parametrize("name", ["default", "caches/work"])
def test_heimdal_transcript_with_file_equals_tmpfs(
    heimdal: Heimdal, tmpfs: CcacheTree, mounted: CcacheTree, name: str
) -> None:
    for place in (tmpfs, mounted):
        place.ccache("work")
    ccname, steps = f"FILE:{{place}}/{name}/ccache", life_of_a_ccache(heimdal.kdc)
    printed = [heimdal.transcript(place, ccname, steps) for place in (tmpfs, mounted)]
    assert printed[1] == printed[0]


def life_of_a_collection(kdc: Kdc) -> list[Step]:
    """Two ccaches of DIR:, each named by itself, and the collection's primary.

    kinit stands last as a step that may end anyhow: it leaves an empty ccache when it crashes.
    """
    alice, bob = kdc.principal("alice"), kdc.principal("bob")
    http = f"HTTP/localhost@{kdc.realm}"
    first, second = ("-c", "DIR::{place}/dir/tkt"), ("-c", "DIR::{place}/dir/tktbob")
    return [
        klist(status=1),
        kinit(kdc, "alice", "-c", "FILE:{place}/dir/tkt"),
        klist(prints=(f"Principal: {alice}",)),
        step("kgetcred", "HTTP/localhost"),
        klist("-v", prints=(http, "aes256-cts-hmac-sha1-96, kvno 1")),
        kinit(kdc, "bob", "-c", "FILE:{place}/dir/tktbob"),
        klist(*second, prints=(bob,)),
        klist(prints=(alice,)),
        step("heimtools", "kswitch", *second, status=ANY),
        step("heimtools", "kswitch", "-p", bob, status=ANY),
        klist("-l", status=ANY),
        klist(),
        step("kinit.heimdal", "-R", *first),
        klist(*first, "-f", prints=(alice, "FRIAT")),
        step("kgetcred", *second, "host/localhost"),
        step("kgetcred", *second, "HTTP/localhost"),
        step("kdestroy.heimdal", f"--credential={http}", *second),
        klist(*second, prints=("host/localhost",)),
        step("kdestroy.heimdal", *second, status=ANY),
        klist(*second, status=1),
        klist(*first, prints=(alice,)),
        step("kdestroy.heimdal", *first, status=ANY),
        klist(status=1),
        step("kinit.heimdal", "-k", "-t", str(kdc.keytab), "alice", status=ANY),
    ]


def test_heimdal_transcript_with_dir_equals_tmpfs(
    heimdal: Heimdal, tmpfs: CcacheTree, mounted: CcacheTree
) -> None:
    steps = life_of_a_collection(heimdal.kdc)
    printed = [heimdal.transcript(place, "DIR:{place}/dir", steps) for place in (tmpfs, mounted)]
    assert printed[1] == printed[0]


def test_heimdal_and_mit_share_a_file(heimdal: Heimdal, place: CcacheTree) -> None:
    """Each reads and extends what the other wrote."""
    kdc, ccname = heimdal.kdc, place.file_name
    mit = kdc.environment(ccname)
    run(["kinit", "-k", "-t", kdc.keytab, "alice"], mit)
    heimdal.run(ccname, "kgetcred", "HTTP/localhost")
    run(["kvno", "host/localhost"], mit)
    for listing in (heimdal.run(ccname, "heimtools", "klist").stdout, run(["klist"], mit).stdout):
        assert "HTTP/localhost@" in listing
        assert "host/localhost@" in listing
    heimdal.run(ccname, "kinit.heimdal", "-k", "-t", str(kdc.keytab), "bob")
    run(["kvno", "HTTP/localhost"], mit)
    assert "bob@" in run(["klist"], mit).stdout
    run(["kdestroy"], mit)
    heimdal.run(ccname, "heimtools", "klist", status=1)


def test_heimdal_follows_the_primary(heimdal: Heimdal, place: CcacheTree) -> None:
    """DIR: is the primary's ccache to Heimdal, whichever MIT's kswitch made that."""
    kdc, ccname = heimdal.kdc, place.dir_name
    mit = kdc.environment(ccname)
    for user in ("alice", "bob"):
        run(["kinit", "-k", "-t", kdc.keytab, user], mit)
    for user in ("alice", "bob"):
        run(["kswitch", "-p", user], mit)
        assert f"{user}@" in heimdal.run(ccname, "heimtools", "klist").stdout
        heimdal.run(ccname, "kgetcred", "HTTP/localhost")
        assert "HTTP/localhost@" in run(["klist"], mit).stdout
