# SPDX-License-Identifier: MIT
"""The policy for texts of exceptions, on stderr, in logs, in replies and in events.

An exception's message may hold a secret: Python puts values into messages (`KeyError: KEY`,
`UnicodeDecodeError` with the bytes), and libraries do.  Therefore:

- A UserError's `reason` and `hint` are printed: they are written for users, and hold no secret.
- The text of an exception of this project is printed if it is made of constants, names, paths and
  numbers: FormatError, StoreError, DamagedError, MalformedError, RefusedError, UnreachableError,
  CCAPIError, OutputError.
- Of an OSError that was expected, errno, the text of strerror(3) and the path are printed.  Of
  libkrb5's Krb5Error, its message: libkrb5 writes names of ccaches and principals there, never
  keys.
- Of any other exception only the type and the places in the code are printed, by `describe` and,
  with --debug, `tracebacks`.  Never its message, its arguments or its notes.

Knows types and code places; never a message.
"""

from __future__ import annotations

import errno


class ChildError(RuntimeError):
    """An unexpected exception of a child process; the text is its description by `describe`."""


def describe(error: BaseException) -> str:
    """Return an exception's type, and the functions and lines of its traceback, innermost first.

    One line.  An OSError's errno is added by name.  Of an exception group, which trio's nurseries
    raise, its first exception is described.
    """
    import traceback  # here: no command needs it; daemons have it by logging

    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frames = traceback.extract_tb(error.__traceback__)
    places = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
    return f"{_name(error)} at {places}"


def tracebacks(error: BaseException) -> str:
    """Return the tracebacks of an exception and of those that led to it, without their messages.

    Lines of source code are in it, values are not.  The exception itself comes last.
    """
    import traceback

    parts: list[str] = []
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        parts.insert(0, "".join(traceback.format_tb(current.__traceback__)) + _name(current) + "\n")
        if isinstance(current, BaseExceptionGroup):
            current = current.exceptions[0]
        elif current.__cause__ is not None or current.__suppress_context__:
            current = current.__cause__
        else:
            current = current.__context__
    return "".join(parts)


def _name(error: BaseException) -> str:
    name = type(error).__name__
    if isinstance(error, ChildError):
        return f"{name}: {error}"
    number = error.errno if isinstance(error, OSError) else None
    return f"{name} ({errno.errorcode[number]})" if number and number in errno.errorcode else name
