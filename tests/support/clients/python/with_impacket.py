# SPDX-License-Identifier: MIT
"""impacket with a ccache: `load PATH` or `save PATH COPY`.

`load` prints the principal, the servers, and what impacket makes of the TGT. `save` writes what
is in PATH to COPY. impacket's own requests are for Active Directory alone (MIT's KDC refuses
their checksum), so it asks no KDC here.
"""

import sys

from impacket.krb5.asn1 import AS_REP
from impacket.krb5.ccache import CCache, Header
from pyasn1.codec.der import decoder


def load(path: str) -> None:
    ccache = CCache.loadFile(path)
    principal = ccache.principal.prettyPrint().decode()
    print("principal:", principal)
    for credential in ccache.credentials:
        print("ticket:", credential["server"].prettyPrint().decode())
    realm = principal.partition("@")[2]
    tgt = ccache.getCredential(f"krbtgt/{realm}@{realm}").toTGT()
    ticket = decoder.decode(tgt["KDC_REP"], asn1Spec=AS_REP())[0]["ticket"]
    print("tgt:", ticket["realm"], ticket["enc-part"]["etype"], tgt["sessionKey"].enctype)


def save(path: str, copy: str) -> None:
    ccache = CCache.loadFile(path)
    if not ccache.headers:
        ccache.headers = [no_offset()]
    ccache.saveFile(copy)


def no_offset() -> Header:
    """The header tag that impacket's getTGT.py writes; without one its files are broken."""
    header = Header()
    header["tag"] = 1
    header["taglen"] = 8
    header["tagdata"] = b"\xff\xff\xff\xff\x00\x00\x00\x00"
    return header


{"load": load, "save": save}[sys.argv[1]](*sys.argv[2:])
