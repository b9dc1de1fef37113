"""What may be told of an exception that nobody foresaw.

Knows where it came from and of which kind it is; never its message, which might hold a secret.
"""

from __future__ import annotations

import traceback


def describe(error: BaseException) -> str:
    """Its type, and the functions and lines it came through, innermost first; one line.

    Of a group, which task groups raise, the first one in it.
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(error).__name__} at {where}"
