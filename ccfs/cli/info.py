# SPDX-License-Identifier: MIT
"""Parse the `info` files of a mount and of its ccaches.

Knows their `key: value` lines and which keys are numbers or flags; never how they are read.
"""

from __future__ import annotations

from collections.abc import Iterator

Value = str | int | bool | None

_MOUNT_NUMBERS = {
    "pid",
    "keeper",
    "start_time",
    "change_time",
    "ccaches",
    "credentials",
    "bytes",
    "limit_ccaches",
    "limit_ccache_bytes",
    "limit_total_bytes",
    "limit_credentials",
    "limit_events",
    "limit_handles",
}
_CCACHE_NUMBERS = {
    "version",
    "change_time",
    "last_default_time",
    "credentials",
    "config_entries",
    "bytes",
}
_CCACHE_FLAGS = {"initialised", "default"}


def lines(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield the keys and values of an `info` file in its order; skip lines without a colon."""
    for line in data.decode(errors="surrogateescape").split("\n"):
        key, separator, value = line.partition(":")
        if separator:
            yield key, value.removeprefix(" ")


def of_mount(data: bytes) -> dict[str, Value]:
    """Parse the mount's own `info`; numbers are converted."""
    return {key: _number(key, value, _MOUNT_NUMBERS) for key, value in lines(data)}


def of_ccache(data: bytes) -> dict[str, Value]:
    """Parse a ccache's `info`; `yes` and `no` become booleans, an empty value None."""
    return {key: _ccache_value(key, value) for key, value in lines(data)}


def _ccache_value(key: str, value: str) -> Value:
    if key in _CCACHE_FLAGS:
        return value == "yes"
    return _number(key, value, _CCACHE_NUMBERS) if value else None


def _number(key: str, value: str, numbers: set[str]) -> Value:
    return int(value) if key in numbers and value.isascii() and value.isdigit() else value
