# SPDX-License-Identifier: MIT
"""The one error of this package.

Knows an offset and what was expected there, never the bytes: they may be part of a key.
"""


class FormatError(ValueError):
    """Bytes, or values, that no ccache holds.

    `offset`: in bytes from the start of the input; `expected`: what was expected there.
    """

    def __init__(self, offset: int, expected: str) -> None:
        super().__init__(offset, expected)
        self.offset = offset
        self.expected = expected

    def __str__(self) -> str:
        return f"offset {self.offset}: expected {self.expected}"
