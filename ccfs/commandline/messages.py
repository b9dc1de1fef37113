# SPDX-License-Identifier: MIT
"""Messages on stderr in one voice: `PROGRAM: KIND: TEXT`, lower case, one line, no full stop.

Knows stderr and the policy for exceptions (ccfs.errors.redaction); never what a message is about.
"""

from __future__ import annotations

import sys

from ccfs.errors import Exit, UserError, redaction


def say(kind: str, text: str, program: str = "ccfs") -> None:
    """Print a line; `kind` is `error`, `hint` or `notice`."""
    print(f"{program}: {kind}: {printable(text)}", file=sys.stderr)


def fail(error: UserError, program: str = "ccfs") -> int:
    """Print an error and its hint; return the exit status."""
    say("error", error.reason, program)
    if error.hint:
        say("hint", error.hint, program)
    return int(error.status)


def crash(error: Exception, *, debug: bool, program: str = "ccfs") -> int:
    """Print that an unexpected exception ended the program; return the exit status.

    `debug` adds the tracebacks.  The exception's message is not printed: it may hold a secret.
    """
    if debug:
        print(redaction.tracebacks(error), end="", file=sys.stderr)
    say("error", f"unexpected failure: {redaction.describe(error)}", program)
    if not debug:
        say("hint", "run it with --debug to see the traceback", program)
    return int(Exit.UNEXPECTED)


def printable(text: str) -> str:
    r"""Return `text` with characters that could steer a terminal as `\xNN` or `\uNNNN`."""
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
