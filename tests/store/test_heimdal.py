# SPDX-License-Identifier: MIT
"""Heimdal removes a credential by clearing its end time in place: the store sees that it is gone.

The two ccaches are Heimdal's own, before and after `kdestroy --credential`.
"""

from ccfs.store import Client, Limits, Stamp, Store
from tests.support.paths import VECTORS

AT = Stamp(1_000_000.0, Client(1000, 42, "kdestroy"))


def test_in_place_removal_by_heimdal() -> None:
    """Written over the ccache as Heimdal writes it, in place, the credential is gone."""
    before = (VECTORS / "heimdal.ccache").read_bytes()
    after = (VECTORS / "heimdal-removed.ccache").read_bytes()
    store = Store(Limits(), AT)
    ccache = store.collection.default
    generation = store.contents.start(ccache, AT)
    file = store.open_files.open(generation, AT.client, writes=True, append=False)
    store.open_files.write(file, 0, before, 1.0)
    assert list(ccache.credentials) == [
        "krbtgt%2FKRBTEST.COM@KRBTEST.COM",
        "host%2Fwww.krbtest.com@KRBTEST.COM",
    ]
    changed = [at for at, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]]
    store.open_files.write(file, changed[0], after[changed[0] : changed[-1] + 1], 2.0)
    assert list(ccache.credentials) == ["krbtgt%2FKRBTEST.COM@KRBTEST.COM"]
    assert bytes(generation.data) == after
