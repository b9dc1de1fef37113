"""The peers without a server: files on tmpfs, and the kernel's keyrings.

This file knows directories and residuals, never ccache bytes.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from bench.peers.base import Server, Site


@contextlib.contextmanager
def file_on_tmpfs(site: Site) -> Iterator[Server]:
    """A file each, in a directory each, as `caches/NAME/ccache` has them."""
    top = site.directory / "caches"
    top.mkdir()
    yield Server(
        config=site.configuration(),
        residual=lambda name: f"FILE:{top}/{name}/ccache",
        file=lambda name: top / name / "ccache",
        make=lambda name: (top / name).mkdir(exist_ok=True),
    )
    shutil.rmtree(top)


@contextlib.contextmanager
def dir_on_tmpfs(site: Site) -> Iterator[Server]:
    """A collection of the DIR type."""
    top = site.directory / "dir"
    top.mkdir(mode=0o700)
    yield dir_server(site, top)
    shutil.rmtree(top)


def dir_server(site: Site, top: Path) -> Server:
    """What a collection of the DIR type at `top` is to a client."""
    return Server(
        config=site.configuration(),
        residual=lambda name: f"DIR::{top}/tkt{name}",
        file=lambda name: top / f"tkt{name}",
    )


@contextlib.contextmanager
def keyring(site: Site) -> Iterator[Server]:
    """A collection in the session keyring, which ends with the benchmark's last process."""
    yield Server(
        config=site.configuration(),
        residual=lambda name: f"KEYRING:session:ccfsbench:{name}",
    )
