"""The descriptors 0 to 2 of a program that may be started with any of them closed or full.

Knows descriptors and encodings; never what is read or written.  Call `prepare` before a program
opens anything: a file that gets the number of a closed stdout would be written to.
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
"""The error handler of the output: the bytes of a file name as they are, the rest as `\\uNNNN`."""


class OutputError(Exception):
    """What was printed can't be written.  `reason`: the text of errno."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Output(io.FileIO):
    """Descriptor 1.  A reader that has gone stays a BrokenPipeError."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write; OutputError where that fails."""
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(error.strerror or str(error)) from None


class _Messages(io.FileIO):
    """Descriptor 2.  A message that can't be written is dropped: there is no place to say so."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write, or pretend to."""
        with suppress(OSError):
            return super().write(data) or 0
        return memoryview(data).nbytes


def prepare() -> None:
    """Open /dev/null at each closed descriptor, and make streams that no text or device breaks.

    Streams that a caller has put in place of the interpreter's own are left alone.
    """
    for number in range(3):
        _occupy(number)
    codecs.register_error(ESCAPED, _escape)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - lasts as long as the process
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(_Output(1, "w", closefd=False), sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = messages = _text(_Messages(2, "w", closefd=False), sys.stderr)
        messages.reconfigure(line_buffering=True)


def finish() -> None:
    """Write what is buffered for stdout; OutputError, BrokenPipeError."""
    sys.stdout.flush()


def give_up() -> None:
    """Have what is still buffered for stdout go nowhere, so that the interpreter's end is quiet."""
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, 1)
    os.close(null)


def _occupy(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)
        os.set_inheritable(number, True)


def _text(raw: io.FileIO, old: TextIO | None) -> io.TextIOWrapper:
    """A text stream over `raw`, in the encoding of the stream in whose place it comes."""
    encoding = old.encoding if old is not None else None
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding, ESCAPED, line_buffering=os.isatty(raw.fileno())
    )


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    return b"".join(map(_escaped, found)), error.end


def _escaped(character: str) -> bytes:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name (PEP 383)
        return bytes([code - 0xDC00])
    return character.encode("ascii", "backslashreplace")
