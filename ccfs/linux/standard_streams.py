# SPDX-License-Identifier: MIT
"""Descriptors 0 to 2 of a program that may be started with any of them closed, or on a full disk.

Call `prepare` before the program opens anything: a file that gets the number of a closed stdout
would be written to.

Knows descriptors and encodings; never what is read or written.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

ESCAPED = "ccfs-escaped"
"""The error handler of the output: bytes of file names as they are, the rest as `\\uNNNN`."""


class OutputError(Exception):
    """Output can't be written.  `reason`: the text of errno."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Output(io.FileIO):
    """Descriptor 1.  A closed pipe stays a BrokenPipeError."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write; raises OutputError where that fails."""
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(error.strerror or str(error)) from None


class _Messages(io.FileIO):
    """Descriptor 2.  A message that can't be written is dropped: it can't be reported either."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write; failures are ignored."""
        with suppress(OSError):
            return super().write(data) or 0
        return memoryview(data).nbytes


def prepare() -> None:
    """Open /dev/null at each closed descriptor, and make streams that encode any text.

    Streams that a caller has put in place of the interpreter's own stay.
    """
    for number in range(3):
        _open_if_closed(number)
    codecs.register_error(ESCAPED, _escape)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - lasts as long as the process
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(_Output(1, "w", closefd=False), sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = messages = _text(_Messages(2, "w", closefd=False), sys.stderr)
        messages.reconfigure(line_buffering=True)


def flush() -> None:
    """Flush stdout.  Raises OutputError, BrokenPipeError."""
    sys.stdout.flush()


def discard() -> None:
    """Send what is still buffered for stdout to /dev/null, so that the exit prints no error."""
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, 1)
    os.close(null)


def _open_if_closed(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)
        os.set_inheritable(number, True)


def _text(raw: io.FileIO, old: TextIO | None) -> io.TextIOWrapper:
    """A text stream over `raw`, in the encoding of the stream that it replaces."""
    encoding = old.encoding if old is not None else None
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding, ESCAPED, line_buffering=os.isatty(raw.fileno())
    )


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return b"".join(map(_escape_one, characters)), error.end


def _escape_one(character: str) -> bytes:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name (PEP 383)
        return bytes([code - 0xDC00])
    return character.encode("ascii", "backslashreplace")
