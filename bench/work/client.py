# SPDX-License-Identifier: MIT
"""A client in this process: libkrb5 and one peer.

This file knows libkrb5 by python-krb5, never the peer's kind.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import krb5

from bench import credentials
from bench.peers.base import Server

FILL_SECONDS = 12.0
BATCH = 100


class TooSlowError(Exception):
    """A ccache could not be filled within FILL_SECONDS."""


@dataclass
class Client:
    """A context of libkrb5 for a peer, and what it needs over and over."""

    server: Server
    context: krb5.Context = field(init=False)
    principal: krb5.Principal = field(init=False)
    _made: dict[int, krb5.Creds] = field(default_factory=dict)
    _filled: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        with environment(KRB5_CONFIG=str(self.server.config)):
            self.context = krb5.init_context()
        name = b"@".join((credentials.CLIENT, credentials.REALM))
        self.principal = krb5.parse_name_flags(self.context, name)

    def resolve(self, name: str) -> krb5.CCache:
        """A handle on a ccache."""
        return krb5.cc_resolve(self.context, self.server.residual(name).encode())

    def credential(self, number: int) -> krb5.Creds:
        """The synthetic credential of this number."""
        if number not in self._made:
            self._learn(number)
        return self._made[number]

    def _learn(self, number: int) -> None:
        """Get a batch of them into libkrb5's hands, by way of a file."""
        first = number - number % BATCH
        image = credentials.HEADER + credentials.principal(
            credentials.NT_PRINCIPAL, credentials.CLIENT
        )
        numbers = range(first, first + BATCH)
        image += b"".join(credentials.credential(credentials.server(n)) for n in numbers)
        with tempfile.NamedTemporaryFile() as file:
            file.write(image)
            file.flush()
            ccache = krb5.cc_resolve(self.context, f"FILE:{file.name}".encode())
            self._made.update(zip(numbers, ccache, strict=True))

    def fill(self, name: str, count: int) -> None:
        """Have a ccache with exactly so many credentials; TooSlowError where that takes long."""
        self.server.make(name)
        self.server.choose(name)
        if self.server.file is not None:
            write_whole(self.server.file(name), credentials.ccache(count))
            return
        ccache = self.resolve(name)
        krb5.cc_initialize(self.context, ccache, self.principal)
        deadline = time.monotonic() + FILL_SECONDS
        for number in range(count):
            krb5.cc_store_cred(self.context, ccache, self.credential(number))
            if time.monotonic() > deadline:
                raise TooSlowError(f"{number + 1} stored after {FILL_SECONDS:.0f} s")

    def filled(self, name: str, count: int) -> None:
        """Have a ccache that is filled once and only read then."""
        if name not in self._filled:
            self.fill(name, count)
            self._filled.add(name)

    def operation(self, work: str, name: str, count: int) -> Callable[[], object]:
        """What one of OPERATIONS does to a ccache of `count` credentials, its name resolved anew.

        So an application does that wants one thing of its ccache; with KCM that is a connection.
        """
        context, residual = self.context, self.server.residual(name).encode()
        if work == "principal":
            return lambda: krb5.cc_get_principal(context, krb5.cc_resolve(context, residual))
        if work == "iterate":
            return lambda: [None for _ in krb5.cc_resolve(context, residual)]
        if work == "retrieve":
            wanted, flags = self.credential(count - 1), krb5.CredentialsRetrieveFlags.none
            return lambda: krb5.cc_retrieve_cred(
                context, krb5.cc_resolve(context, residual), flags, wanted
            )
        if work == "initialize":
            return lambda: krb5.cc_initialize(
                context, krb5.cc_resolve(context, residual), self.principal
            )
        new = self.credential(count)
        return lambda: krb5.cc_store_cred(context, krb5.cc_resolve(context, residual), new)


OPERATIONS = ("principal", "iterate", "retrieve", "initialize", "store")


def write_whole(path: Path, image: bytes) -> None:
    """Put a whole ccache into a file that may be there already, as `cp` does."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        view = memoryview(image)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set variables for libkrb5 to read."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
