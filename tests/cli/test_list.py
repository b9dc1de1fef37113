"""`ccfs list` on ccaches of a mount."""

import json

from ccfs.format.ccache import Ccache, Header, encode_ccache
from ccfs.format.credential import Credential, Keyblock, Times
from ccfs.format.dialect import DIALECT_V4
from ccfs.format.principal import Principal
from tests.support.mounting import Mounted

PAST, FUTURE = 946684800, 4102444800


def principal(*components: str) -> Principal:
    return Principal(1, b"EXAMPLE.COM", tuple(part.encode() for part in components))


def ccache(user: str, *ends: int) -> bytes:
    """A ccache of `user` with a TGT for each time at which one ends."""
    client = principal(user)
    credentials = tuple(
        Credential(
            client=client,
            server=principal("krbtgt", "EXAMPLE.COM"),
            keyblock=Keyblock(18, bytes(32)),
            times=Times(end - 3600, end - 3600, end, 0),
            is_skey=0,
            ticket_flags=0,
            addresses=(),
            authdata=(),
            ticket=b"\x00" * 40,
            second_ticket=b"",
        )
        for end in ends
    )
    return encode_ccache(Ccache(Header(DIALECT_V4), client, credentials))


def fill(mount: Mounted) -> None:
    """alice in the default ccache, bob's tickets expired in `my%2Fwork`, nobody in `empty`."""
    (mount.path / "default" / "ccache").write_bytes(ccache("alice", FUTURE, PAST))
    for name in ("my%2Fwork", "empty"):
        (mount.path / "caches" / name).mkdir()
    (mount.path / "caches" / "my%2Fwork" / "ccache").write_bytes(ccache("bob\x1b[2J", PAST))


def test_the_table(mount: Mounted) -> None:
    fill(mount)
    done = mount.ccfs("list")
    assert (done.returncode, done.stderr) == (0, "")
    header, *lines = done.stdout.splitlines()
    assert header.split() == ["NAME", "PRINCIPAL", "CREDENTIALS", "EXPIRES"]
    assert [line.split() for line in lines] == [
        ["*", "tkt", "alice@EXAMPLE.COM", "2", "2100-01-01T00:00:00Z"],
        ["my%2Fwork", "bob\\x1b[2J@EXAMPLE.COM", "1", "2000-01-01T00:00:00Z", "(expired)"],
    ]


def test_as_json(mount: Mounted) -> None:
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
