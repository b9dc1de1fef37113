# SPDX-License-Identifier: MIT
"""`ccfs list` on ccaches of a mount."""

import json

from tests.support.dated_ccaches import FUTURE, PAST, ccache
from tests.support.mounting import Mounted


def fill(mount: Mounted) -> None:
    """alice in the default ccache, bob's tickets expired in `my%2Fwork`, none in `empty`."""
    (mount.path / "default" / "ccache").write_bytes(ccache("alice", FUTURE, PAST))
    for name in ("my%2Fwork", "empty"):
        (mount.path / "caches" / name).mkdir()
    (mount.path / "caches" / "my%2Fwork" / "ccache").write_bytes(ccache("bob\x1b[2J", PAST))


def test_list_prints_table(mount: Mounted) -> None:
    fill(mount)
    done = mount.ccfs("list")
    assert (done.returncode, done.stderr) == (0, "")
    header, *lines = done.stdout.splitlines()
    assert header.split() == ["NAME", "PRINCIPAL", "CREDENTIALS", "EXPIRES"]
    assert [line.split() for line in lines] == [
        ["*", "tkt", "alice@EXAMPLE.COM", "2", "2100-01-01T00:00:00Z"],
        ["my%2Fwork", "bob\\x1b[2J@EXAMPLE.COM", "1", "2000-01-01T00:00:00Z", "(expired)"],
    ]


def test_list_json_has_all_info_keys(mount: Mounted) -> None:
    """Every key of a ccache's `info`, numbers and flags as such."""
    fill(mount)
    first, second = json.loads(mount.ccfs("list", "--json").stdout)
    info = (mount.path / "caches" / "tkt" / "info").read_text()
    assert list(first) == [line.split(":")[0] for line in info.splitlines()]
    shown = {key: first[key] for key in ("name", "principal", "default", "credentials", "version")}
    assert shown == {
        "name": "tkt",
        "principal": "alice@EXAMPLE.COM",
        "default": True,
        "credentials": 2,
        "version": 4,
    }
    assert first["expires"] == "2100-01-01T00:00:00Z"
    assert (second["name"], second["default"]) == ("my%2Fwork", False)
