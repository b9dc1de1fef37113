# SPDX-License-Identifier: MIT
"""What every test may use: mounts, and the rules that no test escapes."""

from collections.abc import Iterator

import pytest

from tests.support.mounting import MakeMount, Mounted, Mounts

pytest_plugins = [
    "tests.support.kdc",
    "tests.support.ccache_tree",
    "tests.support.storing",
    "tests.support.login",
]

MARKERS = {
    "expects_warnings": "the daemon may log warnings and errors in this test",
    "heimdal": "needs Heimdal's programs",
    "java": "needs a JDK",
    "go": "needs Go and gokrb5",
}


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, so that a misspelt one is an error (--strict-markers)."""
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


@pytest.fixture
def make_mount(request: pytest.FixtureRequest) -> Iterator[MakeMount]:
    """`make_mount("--allow-root", ...)` gives a fresh mount made by the real `ccfs mount`."""
    maker = Mounts()
    try:
        yield maker.make
    finally:
        wrong, complaints = maker.close()
    assert not wrong
    if request.node.get_closest_marker("expects_warnings") is None:
        assert not complaints, "the daemon's log complains: " + "\n".join(complaints)


@pytest.fixture
def mount(request: pytest.FixtureRequest, make_mount: MakeMount) -> Mounted:
    """A fresh mount; indirect parameters are options of `ccfs mount`: ["--allow-root"]."""
    return make_mount(*getattr(request, "param", ()))
