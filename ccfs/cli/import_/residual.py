# SPDX-License-Identifier: MIT
"""Residuals, the names of ccaches: `TYPE:REST`, or a path.

Knows their form and where the default comes from; never a ccache.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

from ccfs.cli.import_.library_source import Library
from ccfs.errors import SourceError


def default(environment: Mapping[str, str], uid: int) -> str:
    """Return the residual of Kerberos programs: KRB5CCNAME, or libkrb5's default."""
    if residual := environment.get("KRB5CCNAME"):
        return residual
    with suppress(SourceError):
        return Library().default()
    return f"FILE:/tmp/krb5cc_{uid}"


def split(residual: str) -> tuple[str, str]:
    """Return the type and the rest of a residual; one without a type is a FILE."""
    kind, separator, rest = residual.partition(":")
    return (kind, rest) if separator and kind.isalnum() else ("FILE", residual)


def file_of(kind: str, rest: str) -> str | None:
    """Return the file or directory of a FILE or DIR residual; None for other types."""
    return os.path.abspath(rest.removeprefix(":")) if kind in ("FILE", "DIR") else None
