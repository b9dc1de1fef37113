# SPDX-License-Identifier: MIT
"""A mount for all tests of a module, and a context on it that finds it empty."""

import os
from collections.abc import Iterator

import pytest

from ccfs import ccapi as cc
from tests.support.mounting import Mounted, mounts


@pytest.fixture(scope="module")
def served() -> Iterator[Mounted]:
    """One mount for the tests of a module."""
    with mounts() as maker:
        yield maker.make()


@pytest.fixture
def context(served: Mounted) -> Iterator[cc.Context]:
    """A context on an empty collection."""
    links = served.path / "by-id"
    for ident in os.listdir(links):
        (links / ident).unlink()
    made = cc.initialize(mount=served.path)
    with made:
        yield made
