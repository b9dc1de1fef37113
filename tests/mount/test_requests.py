# SPDX-License-Identifier: MIT
"""How often libkrb5 has to ask the daemon: what the kernel can know by itself it knows.

The client waits for each of these; releases and forgets, which no client awaits, are not counted.
Through `default` each walk of the path costs one readlink more.
"""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import krb5
import pytest

from tests.support.mounting import Mounted
from tests.support.storing import prefix, record

NOT_WAITED_FOR = {"release", "releasedir", "forget"}
IMAGE = prefix() + b"".join(record(b"host/%d@R" % n, endtime=1 << 31) for n in range(42))
TIMES = 3

Context: TypeAlias = Any
Ccache: TypeAlias = Any
Credential: TypeAlias = Any
"""krb5's classes: the module has no types."""
Operation = Callable[[Context, Ccache, Credential], object]


def principal(context: Context, ccache: Ccache, _: Credential) -> None:
    krb5.cc_get_principal(context, ccache)


def iterate(context: Context, ccache: Ccache, _: Credential) -> None:
    assert sum(1 for _ in ccache) == 42


def store(context: Context, ccache: Ccache, credential: Credential) -> None:
    krb5.cc_store_cred(context, ccache, credential)


def initialize(context: Context, ccache: Ccache, _: Credential) -> None:
    krb5.cc_initialize(context, ccache, krb5.parse_name_flags(context, b"alice@R"))


WANTED: tuple[tuple[Operation, dict[str, int], int], ...] = (
    (principal, {"open": 1}, 1),
    (iterate, {"open": 1}, 1),
    (store, {"open": 1, "getattr": 1, "read": 1, "write": 1}, 1),
    (initialize, {"unlink": 1, "lookup": 1, "create": 1, "setattr": 1, "write": 1}, 2),
)


def asked(mount: Mounted) -> Counter[str]:
    """The requests so far; to ask for them is some more, as many each time."""
    told = json.loads((mount.path / "stats").read_bytes())["requests"]
    return Counter({name: n for name, n in told.items() if name not in NOT_WAITED_FOR})


@pytest.fixture
def krb5_context(monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setenv("KRB5_CONFIG", "/dev/null")
    return krb5.init_context()


def resolve(context: Context, path: Path) -> Ccache:
    return krb5.cc_resolve(context, b"FILE:" + str(path).encode())


@pytest.mark.parametrize("place", ["caches/tkt/ccache", "default/ccache"])
@pytest.mark.parametrize(("operation", "wanted", "walks"), WANTED)
def test_operation_makes_expected_requests(
    mount: Mounted,
    krb5_context: Context,
    operation: Operation,
    wanted: dict[str, int],
    walks: int,
    place: str,
) -> None:
    path, context = mount.path / place, krb5_context
    path.write_bytes(IMAGE)
    ccache = resolve(context, path)
    credential = next(iter(ccache))
    operation(context, ccache, credential)
    first, before = asked(mount), asked(mount)
    for _ in range(TIMES):
        operation(context, ccache, credential)
    made = asked(mount) - before - (before - first)
    links = {"readlink": walks} if place.startswith("default") else {}
    assert made == Counter({name: TIMES * n for name, n in (wanted | links).items()})
