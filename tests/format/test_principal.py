# SPDX-License-Identifier: MIT
"""Principals: their two forms against each other and against libkrb5."""

import krb5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfs.format.dialect import DIALECT_V4, Dialect
from ccfs.format.errors import FormatError
from ccfs.format.principal import (
    Principal,
    decode_principal,
    encode_principal,
    parse_name,
    unparse_name,
)
from tests.support.strategies import (
    components,
    dialects,
    names,
    principals,
    quick,
    special,
    thorough,
)

WORDS = st.sampled_from([b"krbtgt", b"WELLKNOWN", b"alice", b"R", b"/", b"@", b"\\", b" "])
texts = (
    st.lists(st.one_of(WORDS, special, st.binary(max_size=2)), max_size=8)
    .map(b"".join)
    .filter(lambda text: b"\0" not in text)
)
CONTEXT = krb5.init_context()
REQUIRE_REALM = krb5.PrincipalParseFlags.require_realm


@pytest.mark.parametrize(
    ("text", "principal"),
    [
        (b"alice@R", Principal(1, b"R", (b"alice",))),
        (b"krbtgt/X@R", Principal(2, b"R", (b"krbtgt", b"X"))),
        (b"krbtgt/X/Y@R", Principal(1, b"R", (b"krbtgt", b"X", b"Y"))),
        (b"krbtgt@R", Principal(1, b"R", (b"krbtgt",))),
        (b"WELLKNOWN/ANONYMOUS@R", Principal(11, b"R", (b"WELLKNOWN", b"ANONYMOUS"))),
        (rb"a\/b\@c\\/\n\t\b\0\x@R", Principal(1, b"R", (b"a/b@c\\", b"\n\t\b\0x"))),
        (b"@R", Principal(1, b"R", (b"",))),
        (b"host/www@", Principal(1, b"", (b"host", b"www"))),
    ],
)
def test_parse_splits_name(text: bytes, principal: Principal) -> None:
    assert parse_name(text) == principal


@pytest.mark.parametrize("text", [b"", b"alice", b"a@b@c", b"a@b/c", b"a@R\\", b"a\0@R", b"\\@R"])
def test_parse_refuses_invalid_names(text: bytes) -> None:
    with pytest.raises(FormatError):
        parse_name(text)


def test_parse_time_is_linear() -> None:
    name = b"\\/x" * 350_000
    assert parse_name(name + b"@R").components == (b"/x" * 350_000,)


@thorough
@given(texts)
def test_parse_agrees_with_libkrb5(text: bytes) -> None:
    assert _ours(text) == _libkrb5(text)


def _ours(text: bytes) -> tuple[int, bytes, tuple[bytes, ...]] | None:
    try:
        principal = parse_name(text)
    except FormatError:
        return None
    return principal.name_type, principal.realm, principal.components


def _libkrb5(text: bytes) -> tuple[int, bytes, tuple[bytes, ...]] | None:
    try:
        principal = krb5.parse_name_flags(CONTEXT, text, REQUIRE_REALM)
    except (krb5.Krb5Error, ValueError):  # ValueError: a message with bytes that aren't UTF-8
        return None
    return int(principal.type), principal.realm, tuple(principal.components)


@thorough
@given(names.filter(bool), components)  # the binding has no empty realm
def test_unparse_agrees_with_libkrb5(realm: bytes, parts: tuple[bytes, ...]) -> None:
    theirs = krb5.unparse_name_flags(CONTEXT, krb5.build_principal(CONTEXT, realm, parts))
    assert unparse_name(Principal(1, realm, parts)) == theirs


@thorough
@given(names, st.lists(names, min_size=1, max_size=4).map(tuple))
def test_parse_undoes_unparse(realm: bytes, parts: tuple[bytes, ...]) -> None:
    parsed = parse_name(unparse_name(Principal(1, realm, parts)))
    assert (parsed.realm, parsed.components) == (realm, parts)


@quick
@given(st.data())
def test_decode_undoes_encode(data: st.DataObject) -> None:
    dialect = data.draw(dialects)
    principal = data.draw(principals(dialect))
    encoded = encode_principal(principal, dialect)
    around = b"\xff" * 3 + encoded + b"\xff"
    assert decode_principal(around, 3, dialect) == (principal, 3 + len(encoded))
    for end in range(len(encoded)):
        with pytest.raises(FormatError):
            decode_principal(encoded[:end], 0, dialect)


def test_version_1_principal_has_no_name_type_and_counts_realm() -> None:
    principal = Principal(0, b"R", (b"a",))
    encoded = bytes.fromhex("00000002 00000001") + b"R" + bytes.fromhex("00000001") + b"a"
    assert encode_principal(principal, Dialect(1, True)) == encoded
    with pytest.raises(FormatError):
        decode_principal(bytes(8), 0, Dialect(1, True))


@pytest.mark.parametrize(
    "principal",
    [Principal(2**31, b"R", (b"a",)), Principal(1, b"R", (b"",) * 65_536)],
    ids=["name type", "count"],
)
def test_encode_refuses_values_out_of_range(principal: Principal) -> None:
    with pytest.raises(FormatError):
        encode_principal(principal, DIALECT_V4)
