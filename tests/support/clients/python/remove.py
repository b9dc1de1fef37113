# SPDX-License-Identifier: MIT
"""Removes the credential for a server (HTTP/localhost@REALM) from KRB5CCNAME, as libkrb5 does it.

libkrb5 overwrites the credential in place, so that the ccache keeps its length.
"""

import sys

import krb5

context = krb5.init_context()
ccache = krb5.cc_default(context)
for credential in [each for each in ccache if str(each.server) == sys.argv[1]]:
    krb5.cc_remove_cred(context, ccache, krb5.CredentialsRetrieveFlags.none, credential)
    print("removed:", credential.server)
