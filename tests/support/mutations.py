# SPDX-License-Identifier: MIT
"""Changes of random bytes, for the fuzzers: one function an edit.

Knows bytes and a random generator; never what the bytes mean.
"""

import random
from collections.abc import Callable, Sequence

Change = Callable[[bytearray, int, random.Random], None]
"""Changes data in place at an offset."""


def big_endian(*values: int) -> list[bytes]:
    """Lengths and counts as the formats hold them: 32 bits, big-endian."""
    return [value.to_bytes(4, "big") for value in values]


def mutate(data: bytearray, chance: random.Random, changes: Sequence[Change]) -> None:
    """Change `data` in place at a random offset, by one of `changes`."""
    at = chance.randrange(len(data) + 1)
    changes[chance.randrange(len(changes))](data, at, chance)


def replace_byte(data: bytearray, at: int, chance: random.Random) -> None:
    """Put a random byte in place of one."""
    data[at : at + 1] = chance.randbytes(1)


def truncate(data: bytearray, at: int, _: random.Random) -> None:
    """Cut the data off."""
    del data[at:]


def overwrite(values: Sequence[bytes]) -> Change:
    """Put one of `values` in place of as many bytes."""

    def change(data: bytearray, at: int, chance: random.Random) -> None:
        value = chance.choice(values)
        data[at : at + len(value)] = value

    return change


def remove(lengths: Sequence[int]) -> Change:
    """Take out as many bytes as one of `lengths`."""

    def change(data: bytearray, at: int, chance: random.Random) -> None:
        del data[at : at + chance.choice(lengths)]

    return change


def insert(values: Sequence[bytes]) -> Change:
    """Put one of `values` in."""

    def change(data: bytearray, at: int, chance: random.Random) -> None:
        data[at:at] = chance.choice(values)

    return change


def insert_random(lengths: Sequence[int]) -> Change:
    """Put random bytes in, as many as one of `lengths`."""

    def change(data: bytearray, at: int, chance: random.Random) -> None:
        data[at:at] = chance.randbytes(chance.choice(lengths))

    return change


def splice(pool: Sequence[bytes], length: int) -> Change:
    """Put a part of one of `pool` in, shorter than `length`."""

    def change(data: bytearray, at: int, chance: random.Random) -> None:
        other = chance.choice(pool)
        begin = chance.randrange(len(other) + 1)
        data[at:at] = other[begin : begin + chance.randrange(length)]

    return change
