"""The one error of this package.

It knows where the bytes stop making sense and what should stand there, never the bytes themselves:
they may be part of a key.
"""


class FormatError(ValueError):
    """Bytes, or values, that no ccache holds.

    `offset`: bytes from the start of the input; `wanted`: what should stand there.
    """

    def __init__(self, offset: int, wanted: str) -> None:
        super().__init__(offset, wanted)
        self.offset = offset
        self.wanted = wanted

    def __str__(self) -> str:
        return f"offset {self.offset}: wanted {self.wanted}"
