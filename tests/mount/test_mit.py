# SPDX-License-Identifier: MIT
"""MIT's own programs on FILE: and DIR:, compared with the same run on tmpfs."""

import re
from collections.abc import Sequence

from tests.support.ccache_tree import CcacheTree
from tests.support.client_programs import Step, run, step, transcript
from tests.support.kdc import Kdc

NO_CCACHE = "No credentials cache found"


def kinit(kdc: Kdc, user: str, *options: str) -> Step:
    """A kinit that asks for no password."""
    return step("kinit", *options, "-k", "-t", str(kdc.keytab), user)


def order(argv: Sequence[str], text: str) -> str:
    """Sort what klist prints in the order of a directory."""
    if argv[0] != "klist" or not {"-l", "-A"} & set(argv):
        return text
    if "-l" in argv:
        head, rest = text.splitlines()[:2], text.splitlines()[2:]
        return "\n".join(head + sorted(rest))
    return "\n".join(sorted(re.split(r"(?m)^(?=Ticket cache:)", text)))


def compare(
    kdc: Kdc, ccname: str, places: tuple[CcacheTree, CcacheTree], steps: list[Step]
) -> None:
    """Run the steps in both places; `{place}` in `ccname` is the place's path."""
    printed = [
        transcript(place, kdc.environment(ccname.format(place=place.path)), steps, order)
        for place in places
    ]
    assert printed[1] == printed[0]


def life_of_a_ccache(kdc: Kdc) -> list[Step]:
    """All that MIT's programs do to a ccache from kinit to kdestroy, and a second time."""
    http, host = (f"{name}@{kdc.realm}" for name in ("HTTP/localhost", "host/localhost"))
    alice, bob = kdc.principal("alice"), kdc.principal("bob")
    tgt = f"krbtgt/{kdc.realm}@{kdc.realm}"
    return [
        step("klist", status=1, prints=[NO_CCACHE]),
        step("klist", "-s", status=1),
        kinit(kdc, "alice"),
        step("klist", prints=[f"Default principal: {alice}", tgt, "renew until"]),
        step("kvno", "HTTP/localhost", "host/localhost", prints=[f"{http}: kvno = 1"]),
        step("klist", prints=[http, host]),
        step("klist", "-e", prints=["aes256-cts-hmac-sha1-96"]),
        step("klist", "-f", prints=["Flags: FRIA"]),
        step("klist", "-a", "-n", prints=["(none)"]),
        step("klist", "-C", prints=["config: pa_type"]),
        step("klist", "-A", prints=[http]),
        step("klist", "-l", prints=[alice]),
        step("klist", "-s"),
        step("kvno", "--cached-only", "HTTP/localhost", prints=[f"{http}: kvno = 1"]),
        step("kinit", "-R"),
        step("klist", "-f", prints=[tgt]),
        step("kvno", "HTTP/localhost"),
        step("kinit", bob, stdin=f"{kdc.passwords['bob']}\n", prints=[f"Password for {bob}"]),
        step("klist", prints=[bob]),
        step("kdestroy"),
        step("klist", status=1, prints=[NO_CCACHE]),
        step("klist", "-s", status=1),
        step("kdestroy"),
        kinit(kdc, "alice"),
        step("kvno", "HTTP/localhost", prints=[f"{http}: kvno = 1"]),
        step("kdestroy", "-A"),
        step("klist", "-A", status=1),
    ]


def test_mit_transcript_with_default_file_equals_tmpfs(
    kdc: Kdc, tmpfs: CcacheTree, mounted: CcacheTree
) -> None:
    compare(kdc, "FILE:{place}/default/ccache", (tmpfs, mounted), life_of_a_ccache(kdc))


def test_mit_transcript_with_named_file_equals_tmpfs(
    kdc: Kdc, tmpfs: CcacheTree, mounted: CcacheTree
) -> None:
    for place in (tmpfs, mounted):
        place.ccache("work")
    compare(kdc, "FILE:{place}/caches/work/ccache", (tmpfs, mounted), life_of_a_ccache(kdc))


def test_two_ccaches_do_not_disturb_each_other(
    kdc: Kdc, tmpfs: CcacheTree, mounted: CcacheTree
) -> None:
    """`-c` and KRB5CCNAME name different ccaches; neither disturbs the other."""
    for place in (tmpfs, mounted):
        place.ccache("work")
    work = ("-c", "FILE:{place}/caches/work/ccache")
    steps = [
        kinit(kdc, "alice"),
        kinit(kdc, "bob", *work),
        step("kvno", *work, "host/localhost"),
        step("klist", prints=[kdc.principal("alice")]),
        step("klist", *work, prints=[kdc.principal("bob"), "host/localhost"]),
        step("kdestroy", *work),
        step("klist", *work, status=1, prints=[NO_CCACHE]),
        step("klist", prints=[kdc.principal("alice")]),
    ]
    compare(kdc, "FILE:{place}/default/ccache", (tmpfs, mounted), steps)


def life_of_a_collection(kdc: Kdc) -> list[Step]:
    """Three principals in DIR:, switching, and destroying the primary."""
    alice, bob, carol = (kdc.principal(name) for name in ("alice", "bob", "carol"))
    http = f"HTTP/localhost@{kdc.realm}"
    return [
        step("klist", status=1, prints=[NO_CCACHE]),
        step("klist", "-l", status=1),
        kinit(kdc, "alice"),
        step("klist", prints=[f"Default principal: {alice}"]),
        kinit(kdc, "bob"),
        step("klist", prints=[bob]),
        step("klist", "-l", prints=[alice, bob]),
        step("kvno", "HTTP/localhost"),
        kinit(kdc, "carol"),
        step("klist", "-A", prints=[alice, bob, carol, http]),
        step("kswitch", "-p", alice),
        step("klist", "-e", "-f", prints=[alice]),
        step("kvno", "host/localhost"),
        step("kinit", "-R"),
        kinit(kdc, "alice"),
        step("klist", "-l", prints=[alice, bob, carol]),
        step("kswitch", "-p", bob),
        step("klist", "-s"),
        step("klist", prints=[bob, http]),
        step("kdestroy"),
        step("klist", status=1, prints=[NO_CCACHE]),
        step("klist", "-s", status=1),
        step("klist", "-l", prints=[alice, carol]),
        step("kswitch", "-p", alice),
        step("klist", prints=[alice]),
        step("kdestroy", "-p", carol),
        step("klist", "-l", prints=[alice]),
        step("kswitch", "-p", carol, status=1),
        step("kdestroy", "-A"),
        step("klist", "-l", status=1),
        step("klist", status=1),
        kinit(kdc, "bob"),
        step("klist", prints=[bob]),
    ]


def test_mit_transcript_with_dir_equals_tmpfs(
    kdc: Kdc, tmpfs: CcacheTree, mounted: CcacheTree
) -> None:
    compare(kdc, "DIR:{place}/dir", (tmpfs, mounted), life_of_a_collection(kdc))
    names = [[entry.name for entry in (p.path / "dir").iterdir()] for p in (tmpfs, mounted)]
    assert sorted(map(len, names[1])) == sorted(map(len, names[0]))


def test_dir_subsidiary_names_one_ccache(kdc: Kdc, tmpfs: CcacheTree, mounted: CcacheTree) -> None:
    """`DIR::FILE` names one ccache of the collection."""
    alice, bob = kdc.principal("alice"), kdc.principal("bob")
    named = ("-c", "DIR::{place}/dir/tktwork")
    steps = [
        kinit(kdc, "alice"),
        kinit(kdc, "bob", *named),
        step("klist", *named, prints=[bob]),
        step("klist", prints=[alice]),
        step("klist", "-l", prints=[alice, bob]),
        step("kvno", *named, "HTTP/localhost"),
        step("kswitch", *named),
        step("klist", prints=[bob, "HTTP/localhost"]),
        step("kdestroy", *named),
        step("klist", "-l", prints=[alice]),
    ]
    compare(kdc, "DIR:{place}/dir", (tmpfs, mounted), steps)


def test_ccache_is_shared_by_file_and_dir(kdc: Kdc, mounted: CcacheTree) -> None:
    """A ccache that kinit writes through DIR: is at once the default FILE: ccache, and back."""
    through_dir, through_file = (
        kdc.environment(name) for name in (mounted.dir_name, mounted.file_name)
    )
    run(["kinit", "-k", "-t", kdc.keytab, "alice"], through_dir)
    assert "alice@" in run(["klist"], through_file).stdout
    run(["kvno", "HTTP/localhost"], through_file)
    assert "HTTP/localhost@" in run(["klist"], through_dir).stdout
    run(["kdestroy"], through_file)
    run(["klist"], through_dir, status=1)


def test_kinit_renew_replaces_ccache(kdc: Kdc, place: CcacheTree) -> None:
    """kinit -R really replaces the ccache's bytes, and leaves no scratch file beside it."""
    environment = kdc.environment(place.file_name)
    run(["kinit", "-k", "-t", kdc.keytab, "alice"], environment)
    before = place.default.read_bytes()
    run(["kinit", "-R"], environment)
    assert place.default.read_bytes() != before
    names = [entry.name for entry in place.default.parent.iterdir()]
    assert [name for name in names if name.startswith("ccache")] == ["ccache"]
