# SPDX-License-Identifier: MIT
"""The peers without a server: files on tmpfs, and the kernel's keyrings.

This file knows directories and residuals, never ccache bytes.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from bench.namespace import fresh_session_keyring
from bench.peers.base import MissingError, Server, Workspace


@contextlib.contextmanager
def file_on_tmpfs(workspace: Workspace) -> Iterator[Server]:
    """A file each, in a directory each, as `caches/NAME/ccache` has them."""
    top = workspace.directory / "caches"
    top.mkdir()
    yield Server(
        config=workspace.configuration(),
        residual=lambda name: f"FILE:{top}/{name}/ccache",
        file=lambda name: top / name / "ccache",
        make=lambda name: (top / name).mkdir(exist_ok=True),
    )
    shutil.rmtree(top)


@contextlib.contextmanager
def dir_on_tmpfs(workspace: Workspace) -> Iterator[Server]:
    """A collection of the DIR type."""
    top = workspace.directory / "dir"
    top.mkdir(mode=0o700)
    yield dir_server(workspace, top)
    shutil.rmtree(top)


def dir_server(workspace: Workspace, top: Path) -> Server:
    """What a collection of the DIR type at `top` is to a client."""
    return Server(
        config=workspace.configuration(),
        residual=lambda name: f"DIR::{top}/tkt{name}",
        file=lambda name: top / f"tkt{name}",
    )


@contextlib.contextmanager
def keyring(workspace: Workspace) -> Iterator[Server]:
    """A collection in a session keyring of its own; the kernel drops it with the next one."""
    if not fresh_session_keyring():
        raise MissingError("no session keyring: the kernel gives none")
    yield Server(
        config=workspace.configuration(),
        residual=lambda name: f"KEYRING:session:ccfsbench:{name}",
    )
