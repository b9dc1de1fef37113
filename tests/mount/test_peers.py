# SPDX-License-Identifier: MIT
"""What the suites of other projects do with ccaches, in the forms that once found a fault here.

kstart's options for modes and owners, MIT's t_crossrealm with its copies beside a ccache, and what
Heimdal's check-cc does with an empty DIR.
"""

import os
import shutil
from pathlib import Path

import pytest

from tests.support.client_programs import run
from tests.support.kdc import Kdc
from tests.support.mounting import MakeMount
from tests.support.require import require

HTTP = "HTTP/localhost@KRBTEST.COM"


@pytest.fixture
def top(make_mount: MakeMount) -> Path:
    return make_mount().path


K5START = [
    ((), 0),
    (("-m", "600"), 0),
    (("-o", str(os.geteuid())), 0),
    (("-H", "60"), 0),
    (("-m", "640"), 1),
    (("-o", "65534"), 1),
    (("-g", "65534"), 1),
]


@pytest.mark.parametrize(("options", "status"), K5START, ids=lambda value: "".join(str(value)))
@pytest.mark.parametrize("name", ["default/ccache", "caches/work/ccache", "dir/tkt.work"])
def test_k5start_reports_refusals_and_leaves_nothing(
    kdc: Kdc, top: Path, name: str, options: tuple[str, ...], status: int
) -> None:
    """A refused operation gives its error, and leaves no file beside the ccache."""
    k5start = require("kstart", "apt-get install kstart", ["k5start"])["k5start"]
    (top / "caches/work").mkdir()
    command = [k5start, "-f", str(kdc.keytab), "-U", "-k", str(top / name), *options]
    done = run(command, kdc.environment(), status=status)
    directory = (top / name).parent
    assert not [one for one in os.listdir(directory) if one.startswith(f"{Path(name).name}_")]
    if status:
        assert "Operation not permitted" in done.stderr
        return
    run(["kvno", HTTP], kdc.environment(f"FILE:{top / name}"))
    assert HTTP in run(["klist"], kdc.environment(f"FILE:{top / name}")).stdout


def test_t_crossrealm_copies_beside_ccache(kdc: Kdc, top: Path) -> None:
    """t_crossrealm puts a ccache aside, loses it on purpose, and copies it back."""
    for name in ("a", "b"):
        (top / "caches" / name).mkdir()
    ccache, other = top / "caches/a/ccache", top / "caches/b/ccache"
    copy = ccache.with_suffix(".copy")
    environment = kdc.environment(f"FILE:{ccache}")
    run(["kinit", "-k", "-t", str(kdc.keytab), "alice"], environment)
    shutil.copyfile(ccache, copy)
    os.rename(ccache, other)
    assert copy.exists()
    assert not ccache.exists()
    run(["klist"], kdc.environment(f"FILE:{other}"))
    shutil.copyfile(copy, ccache)
    run(["kvno", HTTP], environment)
    run(["klist"], kdc.environment(f"FILE:{copy}"))
    shutil.copy2(copy, ccache)
    assert HTTP not in run(["klist"], environment).stdout


def test_heimdal_kinit_creates_primary(kdc: Kdc, top: Path) -> None:
    """Heimdal's kinit makes a ccache of a name of its own, and the primary one if need be."""
    primary, directory = top / "dir/primary", f"DIR:{top}/dir"

    def kinit(name: str, user: str) -> None:
        there = f"DIR::{top}/dir/{name}"
        run(["kinit", "-c", there, "-k", "-t", str(kdc.keytab), user], kdc.environment(there))
        if not primary.exists() or not primary.stat().st_size:
            primary.write_text(f"{name}\n")

    assert not primary.exists()
    kinit("tktalice", "alice")
    kinit("tktbob", "bob")
    assert primary.read_text() == "tktalice\n"
    assert "principal: alice" in run(["klist"], kdc.environment(directory)).stdout
    run(["kswitch", "-p", "bob"], kdc.environment(directory))
    assert primary.read_text() == "tktbob\n"
    run(["kdestroy", "-A"], kdc.environment(directory))
    run(["kinit", "-k", "-t", str(kdc.keytab), "alice"], kdc.environment(directory))
    assert "principal: alice" in run(["klist"], kdc.environment(directory)).stdout


@pytest.mark.parametrize("length", [62, 63, 100, 251, 252, 255])
def test_default_of_any_name_keeps_dir_usable(kdc: Kdc, top: Path, length: int) -> None:
    """libkrb5 refuses all of a DIR whose primary one has a name that it doesn't take."""
    for name in ("n" * length, r"back\slash"):
        (top / "caches" / name).mkdir()
        ccache = f"FILE:{top}/caches/{name}/ccache"
        run(["kinit", "-c", ccache, "-k", "-t", str(kdc.keytab), "alice"], kdc.environment(ccache))
        run(["ln", "-sfn", f"caches/{name}", str(top / "default")], kdc.environment())
        environment = kdc.environment(f"DIR:{top}/dir")
        assert "principal: alice" in run(["klist"], environment).stdout
        run(["kvno", HTTP], environment)
        assert HTTP in run(["klist"], kdc.environment(ccache)).stdout
        assert "alice@KRBTEST.COM" in run(["klist", "-l"], environment).stdout
        assert os.readlink(top / "default") == f"caches/{name}"
