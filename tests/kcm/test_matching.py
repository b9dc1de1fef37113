# SPDX-License-Identifier: MIT
"""Which credentials a tag means: the rules of MIT's cc_retr.c and Heimdal's creds.c, as a table."""

from typing import Any

import pytest

from ccfs.format.errors import FormatError
from ccfs.kcm import matching
from ccfs.kcm.matching import Matcher, decode_tag
from tests.support import kcm

TIMES = (10, 20, 3000, 4000)
HAVE: dict[str, Any] = {
    "server": "host/www@R",
    "client": "alice@R",
    "enctype": 18,
    "times": TIMES,
    "flags": 0b0110,
    "authdata": [(1, b"one"), (2, b"two")],
    "second": b"second",
}
PRINCIPALS = {"server": "host/www@R", "client": "alice@R"}


def matches(tag: dict[str, Any], flags: int = 0, *, with_skeys: bool = False, **have: Any) -> bool:
    record = kcm.credential(**{**HAVE, **have})
    found = [
        Matcher(decode_tag(data, at), flags, with_skeys=with_skeys)(held, offset)
        for data, at in ((kcm.tag(**tag), 0), (b"0:x\0" + kcm.tag(**tag) + b"trailing", 4))
        for held, offset in ((record, 0), (bytearray(b"###" + record + record), 3))
    ]
    assert len(set(found)) == 1
    return found[0]


@pytest.mark.parametrize(
    ("tag", "flags", "wanted"),
    [
        (PRINCIPALS, 0, True),
        ({}, 0, True),
        ({"server": "host/www@R"}, 0, True),
        ({"client": "alice@R"}, 0, True),
        ({**PRINCIPALS, "server": "host/ww@R"}, 0, False),
        ({**PRINCIPALS, "server": "host/wwww@R"}, 0, False),
        ({**PRINCIPALS, "server": "host@R"}, 0, False),
        ({**PRINCIPALS, "server": "host/www/x@R"}, 0, False),
        ({**PRINCIPALS, "server": "host/www@S"}, 0, False),
        ({**PRINCIPALS, "client": "bob@R"}, 0, False),
        ({**PRINCIPALS, "client": "alic@R"}, 0, False),
        ({"server": "host/ww@R"}, 0, False),
        ({"client": "alice@S"}, 0, False),
        # realms
        ({**PRINCIPALS, "server": "host/www@OTHER"}, matching.MATCH_SRV_NAMEONLY, True),
        ({**PRINCIPALS, "server": "host/ww@OTHER"}, matching.MATCH_SRV_NAMEONLY, False),
        ({**PRINCIPALS, "server": "host@OTHER"}, matching.MATCH_SRV_NAMEONLY, False),
        ({**PRINCIPALS, "client": "alice@OTHER"}, matching.MATCH_SRV_NAMEONLY, False),
        ({**PRINCIPALS, "client": "alice@OTHER"}, matching.DONT_MATCH_REALM, True),
        ({"client": "alice@XX", "server": "host/www@YY"}, matching.DONT_MATCH_REALM, True),
        ({"client": "bob@XX", "server": "host/www@YY"}, matching.DONT_MATCH_REALM, False),
        # what counts only when it is asked for
        ({**PRINCIPALS, "enctype": 17}, 0, True),
        ({**PRINCIPALS, "enctype": 17}, matching.MATCH_KEYTYPE, False),
        ({**PRINCIPALS, "enctype": 18}, matching.MATCH_KEYTYPE, True),
        ({**PRINCIPALS, "flags": 0b0010}, matching.MATCH_FLAGS, True),
        ({**PRINCIPALS, "flags": 0b1010}, matching.MATCH_FLAGS, False),
        ({**PRINCIPALS, "flags": 0b0010}, matching.MATCH_FLAGS_EXACT, False),
        ({**PRINCIPALS, "flags": 0b0110}, matching.MATCH_FLAGS_EXACT, True),
        ({**PRINCIPALS, "times": (0, 0, 3000, 4000)}, matching.MATCH_TIMES, True),
        ({**PRINCIPALS, "times": (0, 0, 3001, 0)}, matching.MATCH_TIMES, False),
        ({**PRINCIPALS, "times": (0, 0, 0, 4001)}, matching.MATCH_TIMES, False),
        ({**PRINCIPALS, "times": (99, 99, 0, 0)}, matching.MATCH_TIMES, True),
        ({**PRINCIPALS, "times": TIMES}, matching.MATCH_TIMES_EXACT, True),
        ({**PRINCIPALS, "times": (11, *TIMES[1:])}, matching.MATCH_TIMES_EXACT, False),
        ({**PRINCIPALS, "authdata": HAVE["authdata"]}, matching.MATCH_AUTHDATA, True),
        ({**PRINCIPALS, "authdata": [(1, b"one")]}, matching.MATCH_AUTHDATA, False),
        (PRINCIPALS, matching.MATCH_AUTHDATA, False),
        ({**PRINCIPALS, "second": b"second"}, matching.MATCH_2ND_TKT, True),
        ({**PRINCIPALS, "second": b"other"}, matching.MATCH_2ND_TKT, False),
        ({**PRINCIPALS, "ticket": b"any"}, 1, True),
        ({**PRINCIPALS, "is_skey": 1}, matching.MATCH_IS_SKEY, False),
        (PRINCIPALS, matching.MATCH_IS_SKEY, True),
    ],
)
def test_credential_matches_tag(tag: dict[str, Any], flags: int, wanted: bool) -> None:
    assert matches(tag, flags) is wanted


def test_matching_ignores_name_types() -> None:
    record = kcm.principal("alice@R", 1) + kcm.principal("host/www@R", 3)
    record += kcm.credential(**HAVE)[len(record) :]
    matcher = Matcher(decode_tag(kcm.tag(**PRINCIPALS), 0), 0, with_skeys=False)  # type: ignore[arg-type]
    assert matcher(record, 0)


@pytest.mark.parametrize(
    ("flags", "is_skey", "with_skeys", "wanted"),
    [
        (0, 0, False, False),
        (0, 0, True, True),
        (matching.MATCH_IS_SKEY, 1, False, True),
        (matching.MATCH_IS_SKEY, 0, False, False),
    ],
)
def test_user_to_user_ticket_matches_only_if_asked_for(
    flags: int, is_skey: int, with_skeys: bool, wanted: bool
) -> None:
    """MIT has to ask for it, Heimdal gets it."""
    tag = {**PRINCIPALS, "is_skey": is_skey}
    assert matches(tag, flags, with_skeys=with_skeys, is_skey=1) is wanted


FULL = kcm.tag(
    "host/www@R",
    client="alice@R",
    enctype=18,
    authdata=[(1, b"one")],
    ticket=b"ticket",
    second=b"second",
)


@pytest.mark.parametrize("size", range(len(FULL)))
def test_cut_tag_is_refused(size: int) -> None:
    with pytest.raises(FormatError):
        decode_tag(FULL[:size], 0)


def test_tag_is_decoded_with_all_fields() -> None:
    addresses = kcm.u32(0x41) + kcm.principal("alice@R") + bytes(21) + kcm.typed([(2, b"addr")])
    assert decode_tag(addresses, 0).client == kcm.principal("alice@R")[4:]
    tag = decode_tag(FULL, 0)
    assert (tag.enctype, tag.second_ticket) == (18, b"second")
    assert [(one.type, one.contents) for one in tag.authdata] == [(1, b"one")]
    assert "second" not in repr(tag)


@pytest.mark.parametrize("count", [b"\0\1\0\0", b"\xff\xff\xff\xff"])
def test_impossible_count_is_refused_at_once(count: bytes) -> None:
    """A count is refused at once where it is more than the bytes can hold."""
    with pytest.raises(FormatError):
        decode_tag(kcm.u32(1) + kcm.u32(1) + count + bytes(40), 0)
    with pytest.raises(FormatError):
        decode_tag(kcm.u32(0x40) + bytes(21) + count, 0)
