# SPDX-License-Identifier: MIT
"""Open the ccaches of a residual, whatever its type.

Knows which type is read how; never the mount that the ccaches go to.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ccfs.cli.import_ import residual as residuals
from ccfs.cli.import_.file_source import FileSource, files_of_dir
from ccfs.cli.import_.library_source import LIBRARY_TYPES, Library
from ccfs.cli.import_.source import TYPE_HINT, Source
from ccfs.errors import SourceError
from ccfs.linux import foreign_file


@contextmanager
def open_sources(residual: str, limit: int) -> Iterator[list[Source]]:
    """Open and read the ccaches of a residual, at least one; SourceError.

    `limit`: the most bytes of a file.
    """
    kind, rest = residuals.split(residual)
    with ExitStack() as stack:
        if kind == "FILE":
            path = foreign_file.path_of_residual(os.path.abspath(rest))
            yield [FileSource(stack.enter_context(foreign_file.open_source(path, limit)))]
        elif kind == "DIR":
            sources = [
                FileSource(
                    stack.enter_context(foreign_file.open_source(path, limit)), name, primary
                )
                for path, name, primary in files_of_dir(rest)
            ]
            for source in sources:
                source.check()  # all of them before the first is moved
            yield [*sources]
        elif kind in LIBRARY_TYPES:
            library = Library(kind)
            stack.callback(library.close)
            yield library.collect(f"{kind}:{rest}")
        else:
            shown = foreign_file.printable(residual)
            raise SourceError(f"cannot import {shown}: unknown type", TYPE_HINT)
