# SPDX-License-Identifier: MIT
"""File names: one encoding for each name, and nothing else decodes."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfs.format.errors import FormatError
from ccfs.format.names import decode_name, encode_name
from tests.support.strategies import names, thorough

ENCODED = [
    (b"tkt", "tkt"),
    (b"", "%00"),
    (b".", "%2E"),
    (b"..", "%2E."),
    (b".a.b", "%2Ea.b"),
    (b"a/b", "a%2Fb"),
    (b"100%", "100%25"),
    (b"a~b", "a%7Eb"),
    (b"a\nb\x7f", "a%0Ab%7F"),
    (b"\x01\x1f ", "%01%1F "),
    ("Jürgen€".encode(), "Jürgen€"),
    (b"\xff\xc3", "%FF%C3"),
    (b"\xed\xa0\x80", "%ED%A0%80"),
    (b"HTTP/www.example.com@R", "HTTP%2Fwww.example.com@R"),
    (b"a\\/b@R", "a\\%2Fb@R"),
]


@pytest.mark.parametrize(("raw", "text"), ENCODED)
def test_name_is_percent_encoded(raw: bytes, text: str) -> None:
    assert encode_name(raw) == text
    assert decode_name(text) == raw


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        ".a",
        "a/b",
        "a~b",
        "a\nb",
        "%",
        "%2",
        "%2f",
        "%2G",
        "%41",
        "a%2E",
        "%00a",
        "a%00",
        "%00%00",
        "\0",
        "%C3%BC",
        "\udcff",
        "a\ud800",
        "%+2",
        "% 2",
    ],
)
def test_decode_refuses_noncanonical_encoding(text: str) -> None:
    with pytest.raises(FormatError):
        decode_name(text)


@pytest.mark.parametrize("raw", [b"\0", b"a\0b"])
def test_name_with_nul_is_refused(raw: bytes) -> None:
    with pytest.raises(FormatError):
        encode_name(raw)


@thorough
@given(st.one_of(names, st.binary(max_size=12)).filter(lambda raw: b"\0" not in raw))
def test_decode_undoes_encode(raw: bytes) -> None:
    text = encode_name(raw)
    assert decode_name(text) == raw
    assert os.fsencode(text).decode("utf-8") == text
    assert not set(text) & set("/~\n\0")
    assert text not in ("", ".", "..")


@thorough
@given(st.text(st.sampled_from("%0123456789abcdefABCDEF.~/ü\n\udcff"), max_size=8))
def test_encode_undoes_decode(text: str) -> None:
    try:
        raw = decode_name(text)
    except FormatError:
        return
    assert encode_name(raw) == text
