# SPDX-License-Identifier: MIT
"""What libkrb5 expects of a collection, by its own calls: names that stay, a default that leads."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.mounting import MakeMount


class Collection:
    """The ccaches that libkrb5 finds by a name."""

    def __init__(self, krb5: Any, name: str) -> None:
        self.krb5 = krb5
        self.name = name.encode()
        self.context = krb5.init_context()
        krb5.cc_set_default_name(self.context, self.name)

    def names(self) -> list[str]:
        return [str(ccache) for ccache in self.krb5.cccol_iter(self.context)]

    def default(self) -> str:
        """Which ccache the collection's name stands for."""
        return str(self.krb5.cc_resolve(self.context, self.name))

    def principal(self, name: str) -> str | None:
        """Whose ccache it is; None for one that isn't initialised."""
        ccache = self.krb5.cc_resolve(self.context, name.encode())
        try:
            return str(self.krb5.cc_get_principal(self.context, ccache))
        except self.krb5.Krb5Error:
            return None

    def match(self, user: str) -> str | None:
        try:
            return str(self.krb5.cc_cache_match(self.context, self._user(user)))
        except self.krb5.Krb5Error:
            return None

    def initialize(self, name: str, user: str) -> None:
        ccache = self.krb5.cc_resolve(self.context, name.encode())
        self.krb5.cc_initialize(self.context, ccache, self._user(user))

    def new(self, user: str) -> str:
        """Initialise a ccache of a new name."""
        ccache = self.krb5.cc_new_unique(self.context, self.name.partition(b":")[0])
        self.krb5.cc_initialize(self.context, ccache, self._user(user))
        return str(ccache)

    def switch(self, name: str) -> None:
        self.krb5.cc_switch(self.context, self.krb5.cc_resolve(self.context, name.encode()))

    def destroy(self, name: str) -> None:
        self.krb5.cc_destroy(self.context, self.krb5.cc_resolve(self.context, name.encode()))

    def _user(self, user: str) -> Any:
        return self.krb5.parse_name_flags(self.context, user.encode())


@pytest.fixture(params=["KCM:", "DIR:{}/dir"])
def collection(
    request: pytest.FixtureRequest,
    make_mount: MakeMount,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Collection:
    krb5 = pytest.importorskip("krb5")
    conf, socket = tmp_path / "krb5.conf", tmp_path / "kcm"
    conf.write_text(f"[libdefaults]\n\tdefault_realm = R\n\tkcm_socket = {socket}\n")
    monkeypatch.setenv("KRB5_CONFIG", str(conf))
    mounted = make_mount("--kcm-socket", str(socket), "--no-journal")
    return Collection(krb5, request.param.format(mounted.path))


def test_empty_default_keeps_its_name(collection: Collection) -> None:
    """By KCM the first that is initialised is the default; DIR's `primary` libkrb5 writes."""
    first = collection.default()
    assert first.encode() != collection.name
    assert collection.names() == []
    assert collection.principal(first) is None
    one, two = collection.new("one@R"), collection.new("two@R")
    assert len({first, one, two}) == 3
    assert collection.default() == (one if first.startswith("KCM:") else first)
    assert sorted(collection.names()) == sorted([one, two])
    collection.initialize(first, "first@R")
    collection.switch(first)
    assert collection.default() == first
    assert collection.names()[0] == first
    assert sorted(collection.names()) == sorted([first, one, two])
    assert collection.principal(collection.name.decode()) == "first@R"


def test_switched_ccache_comes_first(collection: Collection) -> None:
    names = [collection.new(f"{user}@R") for user in ("one", "two", "three")]
    for name, user in zip(names * 2, ["one@R", "two@R", "three@R"] * 2, strict=True):
        collection.switch(name)
        assert collection.default() == name
        assert collection.names()[0] == name
        assert sorted(collection.names()) == sorted(names)
        assert collection.principal(collection.name.decode()) == user
        assert collection.match(user) == name


def test_destroyed_default_stays_empty(collection: Collection) -> None:
    first = collection.default()
    collection.initialize(first, "first@R")
    one, two = collection.new("one@R"), collection.new("two@R")
    collection.destroy(first)
    assert collection.default() == first
    assert collection.principal(first) is None
    assert collection.match("first@R") is None
    assert sorted(collection.names()) == sorted([one, two])
    collection.switch(one)
    assert collection.names() == [one, two]
    collection.destroy(two)
    assert (collection.default(), collection.names()) == (one, [one])
    collection.destroy(one)
    assert (collection.default(), collection.names()) == (one, [])
    assert collection.principal(collection.name.decode()) is None
