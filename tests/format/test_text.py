# SPDX-License-Identifier: MIT
"""The text of a credential: what docs/user/credential-text.md promises; it can't be forged."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfs.format.ccache import decode_ccache
from ccfs.format.credential import Credential, Keyblock, Times, TypedData
from ccfs.format.enctypes import TICKET_FLAGS, enctype_name, flag_names
from ccfs.format.principal import Principal
from ccfs.format.text import credential_text, principal_text, timestamp
from tests.support.paths import PROJECT
from tests.support.strategies import thorough, written_credentials
from tests.support.vectors import GOOD, vector

MIT = decode_ccache(vector("mit-v4")).credentials
KEYS = re.findall(
    r"\S+",
    """Id Client Server Auth-Time Start-Time End-Time Renew-Till Flags Session-Enctype
Ticket-Enctype Ticket-Kvno Ticket-Size Second-Ticket-Size Is-Skey Addresses Authdata""",
)
CONTRACT = PROJECT / "docs/user/credential-text.md"


def fields(credential: Credential) -> dict[str, str]:
    lines = credential_text(credential, "1f").decode().splitlines()
    return dict(re.fullmatch(r"([A-Z][A-Za-z-]*):(?: (.+))?", line).groups("") for line in lines)  # type: ignore[union-attr]


def test_text_of_a_service_ticket() -> None:
    times = Times(1795298691, 1795298692, 1795327491, 0)
    assert credential_text(replace(MIT[-2], times=times), "1f").decode() == (
        "Id: 1f\n"
        "Client: user@KRBTEST.COM\n"
        "Server: host/www.krbtest.com@KRBTEST.COM\n"
        "Auth-Time: 2026-11-21T22:04:51Z\n"
        "Start-Time: 2026-11-21T22:04:52Z\n"
        "End-Time: 2026-11-22T06:04:51Z\n"
        "Renew-Till:\n"
        "Flags: forwardable renewable transit-policy-checked enc-pa-rep\n"
        "Session-Enctype: aes256-cts-hmac-sha1-96 (18)\n"
        "Ticket-Enctype: aes256-cts-hmac-sha1-96 (18)\n"
        "Ticket-Kvno: 1\n"
        "Ticket-Size: 466\n"
        "Second-Ticket-Size: 0\n"
        "Is-Skey: 0\n"
        "Addresses:\n"
        "Authdata:\n"
    )


def test_document_has_every_key() -> None:
    documented = re.findall(r"^\| `([A-Z][A-Za-z-]*)` \|", CONTRACT.read_text(), re.MULTILINE)
    assert documented == KEYS
    assert list(fields(MIT[1])) == KEYS


def test_text_escapes_odd_names() -> None:
    assert fields(MIT[-1])["Server"] == r"odd\/name\@with\ttab/and\\more@KRBTEST.COM"


def test_text_without_ticket() -> None:
    shown = fields(MIT[0])
    assert shown["Session-Enctype"] == "null (0)"
    assert (shown["Ticket-Enctype"], shown["Ticket-Kvno"], shown["Ticket-Size"]) == ("", "", "3")
    assert (shown["Auth-Time"], shown["End-Time"], shown["Flags"]) == ("", "", "")


def test_text_of_user_to_user_ticket() -> None:
    shown = fields(decode_ccache(vector("mit-second-ticket")).credentials[-1])
    assert shown["Second-Ticket-Size"] == "428"
    assert shown["Is-Skey"] == "8"
    assert (shown["Ticket-Kvno"], shown["Ticket-Enctype"]) == ("", enctype_name(18))


def test_text_shows_addresses() -> None:
    shown = fields(decode_ccache(vector("mit-addresses")).credentials[-1])
    assert shown["Addresses"] == "192.0.2.7 2001:db8::7"
    odd = (TypedData(2, b"abc"), TypedData(24, b""), TypedData(20, b"NETBIOS NAME    "))
    assert fields(replace(MIT[1], addresses=odd))["Addresses"] == "2:3 24:0 20:16"


def test_text_shows_authdata_types_and_sizes() -> None:
    shown = fields(replace(MIT[1], authdata=(TypedData(1, b"secret"), TypedData(512, b""))))
    assert shown["Authdata"] == "1:6 512:0"


def test_text_names_flags() -> None:
    assert flag_names(0) == []
    assert flag_names(0x50C00001) == [
        "forwardable",
        "proxiable",
        "renewable",
        "initial",
        "0x00000001",
    ]
    assert flag_names(0xFFFFFFFF)[-1] == f"{0xFFFFFFFF & ~sum(bit for bit, _ in TICKET_FLAGS):#x}"
    postdated = decode_ccache(vector("mit-postdated")).credentials[-1]
    assert fields(postdated)["Flags"].split()[:5] == [
        "forwardable",
        "proxiable",
        "may-postdate",
        "postdated",
        "invalid",
    ]


@pytest.mark.parametrize(
    ("number", "name"),
    [(18, "aes256-cts-hmac-sha1-96 (18)"), (-133, "unknown (-133)"), (999, "unknown (999)")],
)
def test_text_names_enctypes(number: int, name: str) -> None:
    assert enctype_name(number) == name
    assert fields(replace(MIT[1], keyblock=Keyblock(number, b"")))["Session-Enctype"] == name


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, ""),
        (1, "1970-01-01T00:00:01Z"),
        (2**31, "2038-01-19T03:14:08Z"),
        (2**32 - 1, "2106-02-07T06:28:15Z"),
    ],
)
def test_timestamp_is_utc(seconds: int, text: str) -> None:
    assert timestamp(seconds) == text


@pytest.mark.parametrize(
    ("component", "text"),
    [
        (b"a\nFlags: initial", r"a\nFlags: initial@R"),
        (b"a\r\x1b[2J\x7f", r"a\x0d\x1b[2J\x7f@R"),
        (b"\xff\xc3(", r"\xff\xc3(@R"),
        ("ü\x85\u2028€".encode(), r"ü\x85\u2028€@R"),
        (rb"\x0d", r"\\x0d@R"),
    ],
)
def test_text_escapes_line_breaks_in_names(component: bytes, text: str) -> None:
    assert principal_text(Principal(1, b"R", (component,))) == text


LINE = re.compile(r"[A-Z][A-Za-z-]*:( [^\x00-\x1f\x7f-\x9f\u2028\u2029]+)?")


@thorough
@given(written_credentials(), st.sampled_from([b"\n", b"\r\n", b"\x85", b"\xe2\x80\xa8", b"\x1b"]))
def test_text_has_one_line_for_each_key(written: tuple[object, Credential], newline: bytes) -> None:
    credential = written[1]
    forged = (*credential.server.components, newline + b"Flags: initial")
    server = replace(credential.server, components=forged)
    text = credential_text(replace(credential, server=server), "1").decode("utf-8")
    lines = text.splitlines()
    assert [line.split(":")[0] for line in lines] == KEYS
    assert all(LINE.fullmatch(line) for line in lines)


@pytest.mark.parametrize("name", GOOD)
def test_text_contains_no_secret(name: str) -> None:
    shown = 0
    for credential in decode_ccache(vector(name)).credentials:
        text = credential_text(credential, "1")
        # The names at the beginning of a ticket are no secret, what it encrypts is.
        for secret in (credential.keyblock.contents, credential.ticket[200:]):
            pieces = [secret[at : at + 8] for at in range(0, len(secret) - 7, 8)]
            assert not any(piece in text or piece.hex().encode() in text for piece in pieces)
            shown += len(pieces)
    assert shown > 20
