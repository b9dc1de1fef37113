"""The words that ccfsd, its daemons and their clients say to each other: the codec, and a client.

Knows one message, one socket and a deadline; never what a word means.  A message is one packet of
an AF_UNIX SOCK_SEQPACKET socket: `WORD key=value key=value`, single spaces, values percent-encoded.
Replies are `ok key=value ...` or `error TEXT`.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType

from ccfs.linux.peer_credentials import Peer as Peer
from ccfs.linux.peer_credentials import peer as peer

RUNTIME = "/run/ccfs"
CONTROL = RUNTIME + "/control"
MESSAGE_MAX = 4096
"""Bytes of a message."""
OK = "ok"
ERROR = "error"
SECONDS = 1.0
"""How long a client waits that has no better idea."""
AGAIN = 0.005
"""Seconds until the next try to connect."""

_WORD = re.compile(rb"[a-z][a-z_-]*")
_VALUE = re.compile(rb"(?:[!-$&-~]|%[0-9A-F]{2})*")
_PLAIN = frozenset(range(0x21, 0x7F)) - {0x25}
_TEXT = re.compile(r"[^ -~]")


class MalformedError(ValueError):
    """What came is no message.  The text says what is wrong with it and quotes nothing of it."""


class RefusedError(Exception):
    """The other side said `error`; the text is its own."""


class UnreachableError(Exception):
    """There is nobody to ask, or no reply in time, or not one to be trusted."""


@dataclass(frozen=True, slots=True)
class Message:
    """A request or a reply.  Values are text as file names are: any bytes, surrogate-escaped."""

    word: str
    values: Mapping[str, str] = field(default_factory=dict)

    def number(self, key: str, most: int = (1 << 63) - 1) -> int:
        """The value of a key as a decimal number from 0 to `most`.  Raises MalformedError."""
        text = self.values.get(key, "")
        if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= most):
            raise MalformedError(f"{key} is not a number")
        return int(text)


def encode(word: str, **values: str | int) -> bytes:
    """A message; MalformedError where it is longer than MESSAGE_MAX."""
    parts = [word.encode("ascii")]
    parts += [key.encode("ascii") + b"=" + _quoted(str(value)) for key, value in values.items()]
    data = b" ".join(parts)
    if len(data) > MESSAGE_MAX:
        raise MalformedError("the message is too long")
    return data


def refusal(text: str) -> bytes:
    """The reply `error TEXT`: one line of plain ASCII."""
    return f"{ERROR} {_TEXT.sub('?', text)}".encode("ascii")[:MESSAGE_MAX]


def decode(data: bytes) -> Message:
    """A request or an `ok` reply.  Raises MalformedError."""
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
            raise MalformedError(f"{name} is there twice")
        values[name] = _unquoted(value)
    return Message(word.decode("ascii"), values)


def decode_reply(data: bytes) -> Message:
    """The values of an `ok`.  Raises RefusedError for `error TEXT`, MalformedError."""
    if data.startswith(b"error "):
        raise RefusedError(data[6:].decode("ascii", "replace"))
    reply = decode(data)
    if reply.word != OK:
        raise MalformedError("the reply is neither ok nor error")
    return reply


def listener(path: str) -> int | None:
    """The pid of who listens at a stream socket; None for nobody, 0 where that can't be told.

    It can't where so many wait there that there is no place for another.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        try:
            client.connect(path)
        except BlockingIOError:
            return 0
        except OSError:
            return None
        return peer(client).pid


class Client:
    """A connection to somebody who listens at a path; use it in a `with`.

    Raises UnreachableError where nobody does, or who does isn't root: only root may say where a
    user's mount is.
    """

    def __init__(self, path: str = CONTROL, seconds: float = SECONDS) -> None:
        self._deadline = time.monotonic() + seconds
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._connect(path)
        except BaseException:
            self._socket.close()
            raise

    def ask(self, word: str, **values: str | int) -> Message:
        """One request, its reply.  Raises RefusedError, UnreachableError."""
        try:
            self._socket.settimeout(self._left())
            self._socket.send(encode(word, **values))
            self._socket.settimeout(self._left())
            data = self._socket.recv(MESSAGE_MAX + 1)
            return decode_reply(data)
        except TimeoutError:
            raise UnreachableError("no reply in time") from None
        except OSError as error:
            raise UnreachableError(f"no reply: {error.strerror or error}") from None
        except MalformedError as error:
            raise UnreachableError(f"no reply that can be understood: {error}") from None

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _connect(self, path: str) -> None:
        try:
            self._socket.settimeout(self._left())
            while not self._is_let_in(path):
                time.sleep(AGAIN)
        except OSError as error:
            raise UnreachableError(f"cannot connect to {path}: {error.strerror}") from None
        if peer(self._socket).uid != 0:
            raise UnreachableError(f"who listens at {path} is not root")

    def _is_let_in(self, path: str) -> bool:
        """Connect; False where so many wait there that there is no place for another (unix(7))."""
        try:
            self._socket.connect(path)
        except BlockingIOError:
            if time.monotonic() > self._deadline:
                raise
            return False
        return True

    def _left(self) -> float:
        """Seconds; at least one millisecond, since none would mean not to wait at all."""
        return max(self._deadline - time.monotonic(), 0.001)


def own_mount(path: str = CONTROL, seconds: float = SECONDS) -> str | None:
    """Where ccfsd has the caller's mount, which it makes if there is none.

    None where no ccfsd is to be asked; RefusedError with what it says against it.
    """
    try:
        with Client(path, seconds) as client:
            return client.ask("mount", deadline=int(seconds * 1000)).values.get("path")
    except UnreachableError:
        return None


def _quoted(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return b"".join(bytes([b]) if b in _PLAIN else b"%%%02X" % b for b in data)


def _unquoted(value: bytes) -> str:
    plain = re.sub(rb"%(..)", lambda found: bytes([int(found[1], 16)]), value)
    return plain.decode("utf-8", "surrogateescape")
