# SPDX-License-Identifier: MIT
"""Argument parser and argument types of ccfs and ccfsd.

Knows argparse and numbers as a user types them; never which options there are.  argparse and not
click or typer: each shell that runs `ccfs env` would import them, and they check no more.
"""

from __future__ import annotations

import argparse
from typing import NoReturn

from ccfs.errors import UsageError

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class ArgumentParser(argparse.ArgumentParser):
    """An argparse parser that raises UsageError, with a hint, in place of printing the usage."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(message, f"see '{self.prog} --help'")


def size(text: str) -> int:
    """Parse a size in bytes: a whole number, with K, M or G (also KiB, MiB, GiB) for 1024^N."""
    plain = text.strip().upper().removesuffix("IB").removesuffix("B")
    number = plain.rstrip("KMG")
    unit = plain[len(number) :]
    if not (number.isascii() and number.isdigit()) or unit not in _UNITS:
        raise argparse.ArgumentTypeError(f"not a size: {text!r}, write 8M or 8388608")
    return _check_positive(int(number) * _UNITS[unit], text)


def count(text: str) -> int:
    """Parse a whole number from 1."""
    return _check_positive(whole_number(text), text)


def whole_number(text: str) -> int:
    """Parse a whole number from 0 to 999,999,999."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"not a number: {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """Parse a positive number of seconds below 1e9."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a number: {text!r}") from None
    if not 0.0 < number < 1e9:
        raise argparse.ArgumentTypeError(f"not a time: {text!r}")
    return number


def _check_positive(number: int, text: str) -> int:
    if number < 1:
        raise argparse.ArgumentTypeError(f"too small: {text!r}")
    return number
