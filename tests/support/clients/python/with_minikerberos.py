# SPDX-License-Identifier: MIT
"""minikerberos with a ccache: `load PATH` or `save PATH COPY`.

`load` prints the principal, the servers, and what minikerberos makes of the TGT. `save` writes
what is in PATH to COPY. Its own requests are for Active Directory alone (MIT's KDC refuses their
checksum), so it asks no KDC here.
"""

import sys

from minikerberos.common.ccache import CCACHE


def load(path: str) -> None:
    ccache = CCACHE.from_file(path)
    principal = ccache.primary_principal.to_spn()
    print("principal:", principal)
    for credential in ccache.credentials:
        print("ticket:", credential.server.to_spn())
    user, _, realm = principal.partition("@")
    tgt, session_key, error = ccache.get_tgt(user, realm)
    assert error is None, error
    ticket = tgt["ticket"]
    print("tgt:", ticket["realm"], ticket["enc-part"]["etype"], session_key["keytype"])


def save(path: str, copy: str) -> None:
    CCACHE.from_file(path).to_file(copy)


{"load": load, "save": save}[sys.argv[1]](*sys.argv[2:])
