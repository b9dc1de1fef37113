# SPDX-License-Identifier: MIT
"""The C library, for calls that Python lacks: the one handle of it, and errors as OSError.

Knows calling conventions; never what a call is for.
"""

from __future__ import annotations

import ctypes
import os

Argument = int | bytes | None | ctypes.Array[ctypes.c_uint64]
"""What `syscall` takes: a number, a C string, NULL, or a structure of 64-bit fields."""

libc = ctypes.CDLL(None, use_errno=True)
libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]


def check(result: int, path: str | None = None) -> int:
    """Return the result of a call; raise OSError by errno where it is negative.

    `path`: the file name of the OSError.
    """
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result


def syscall(number: int, *arguments: Argument, path: str | None = None) -> int:
    """Make a system call that the C library has no function for.  Raises OSError.

    syscall(2) is variadic, so that each argument is given the width of a register here.
    """
    registers = [_register(argument) for argument in arguments]
    return check(int(libc.syscall(ctypes.c_long(number), *registers)), path)


def prctl(option: int, value: int = 0) -> int:
    """prctl(2) with one argument.  Raises OSError."""
    return check(int(libc.prctl(option, value, 0, 0, 0)))


def _register(argument: Argument) -> object:
    if argument is None or isinstance(argument, bytes):
        return ctypes.c_char_p(argument)
    if isinstance(argument, int):
        return ctypes.c_long(argument)
    return argument  # an array goes as a pointer to it
