# SPDX-License-Identifier: MIT
"""Codec of the control protocol: one message is one packet.

    request = WORD [KEY=VALUE]...          reply = ok [KEY=VALUE]...  |  error TEXT

Fields are separated by single spaces, values are percent-encoded.  A packet is one message of an
AF_UNIX SOCK_SEQPACKET socket.  Knows bytes; never what a word means, nor any socket.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

MESSAGE_MAX = 4096
"""Bytes of a message."""
OK = "ok"
ERROR = "error"

_WORD = re.compile(rb"[a-z][a-z_-]*")
_VALUE = re.compile(rb"(?:[!-$&-~]|%[0-9A-F]{2})*")
_UNQUOTED = frozenset(range(0x21, 0x7F)) - {0x25}
_NOT_ASCII_TEXT = re.compile(r"[^ -~]")


class MalformedError(ValueError):
    """Bytes that are no message.  The text says what is wrong and quotes none of them."""


class RefusedError(Exception):
    """The reply was `error TEXT`; the exception's text is that TEXT."""


@dataclass(frozen=True, slots=True)
class Message:
    """A request or an `ok` reply.  Values are any bytes, as text with "surrogateescape"."""

    word: str
    values: Mapping[str, str] = field(default_factory=dict)

    def number(self, key: str, most: int = (1 << 63) - 1) -> int:
        """Return the value of a key as a decimal number from 0 to `most`; MalformedError."""
        text = self.values.get(key, "")
        if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= most):
            raise MalformedError(f"{key} is not a number")
        return int(text)


def encode(word: str, **values: str | int) -> bytes:
    """Encode a request or an `ok` reply; MalformedError if it exceeds MESSAGE_MAX."""
    parts = [word.encode("ascii")]
    parts += [key.encode("ascii") + b"=" + _quote(str(value)) for key, value in values.items()]
    data = b" ".join(parts)
    if len(data) > MESSAGE_MAX:
        raise MalformedError("the message is too long")
    return data


def refusal(text: str) -> bytes:
    """Encode the reply `error TEXT`: one line of printable ASCII, cut at MESSAGE_MAX."""
    return f"{ERROR} {_NOT_ASCII_TEXT.sub('?', text)}".encode("ascii")[:MESSAGE_MAX]


def decode(data: bytes) -> Message:
    """Decode a request or an `ok` reply; MalformedError."""
    if not 0 < len(data) <= MESSAGE_MAX:
        raise MalformedError("the message is empty" if not data else "the message is too long")
    word, *pairs = data.split(b" ")
    if not _WORD.fullmatch(word):
        raise MalformedError("the message has no word")
    values: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition(b"=")
        if not (equals and _WORD.fullmatch(key) and _VALUE.fullmatch(value)):
            raise MalformedError("not key=value")
        if (name := key.decode("ascii")) in values:
            raise MalformedError(f"the key {name} is repeated")
        values[name] = _unquote(value)
    return Message(word.decode("ascii"), values)


def decode_reply(data: bytes) -> Message:
    """Decode a reply; RefusedError for `error TEXT`, MalformedError."""
    if data.startswith(b"error "):
        raise RefusedError(data[6:].decode("ascii", "replace"))
    reply = decode(data)
    if reply.word != OK:
        raise MalformedError("the reply is neither ok nor error")
    return reply


def _quote(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return b"".join(bytes([b]) if b in _UNQUOTED else b"%%%02X" % b for b in data)


def _unquote(value: bytes) -> str:
    raw = re.sub(rb"%(..)", lambda match: bytes([int(match[1], 16)]), value)
    return raw.decode("utf-8", "surrogateescape")
