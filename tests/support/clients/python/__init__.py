# SPDX-License-Identifier: MIT
"""The Python clients: small programs that run as processes of their own, like any other client.

This file knows how to start them, never what they do.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.client_programs import Output, run
from tests.support.kdc import Kdc

PROGRAMS = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs of this directory, as clients and services of a KDC."""

    kdc: Kdc

    def environment(self, ccname: str | None = None) -> dict[str, str]:
        keytab = f"FILE:{self.kdc.service_keytab}"
        return {**self.kdc.environment(ccname), "KRB5_KTNAME": keytab}

    def run(
        self,
        program: str,
        *arguments: str | Path,
        ccname: str | None = None,
        stdin: str = "",
        status: int | None = 0,
    ) -> Output:
        """Run `program` ("handshake"); KRB5CCNAME is `ccname`, KRB5_KTNAME the services' keys."""
        argv = [sys.executable, PROGRAMS / f"{program}.py", *arguments]
        return run(argv, self.environment(ccname), stdin=stdin, status=status)

    def initiator_of(self, printed: str) -> str:
        """The initiator of the token in a client's "token: BASE64" line, as an acceptor sees it."""
        token = printed.partition("token: ")[2].split()[0]
        return self.run("accept", stdin=token).stdout.removeprefix("initiator: ").strip()


@pytest.fixture(scope="session")
def python(kdc: Kdc) -> Programs:
    """The Python clients of the session's KDC."""
    return Programs(kdc)
