# SPDX-License-Identifier: MIT
"""Does with a ccache what an application does that links libkrb5, in one process.

Arguments: the principal, its keytab, the service (HTTP/localhost); the ccache is KRB5CCNAME.
Prints a line for each step.
"""

import sys

import krb5

principal_name, keytab_name, service = (argument.encode() for argument in sys.argv[1:])
context = krb5.init_context()
principal = krb5.parse_name_flags(context, principal_name)
ccache = krb5.cc_default(context)


def servers() -> list[str]:
    """The servers of the credentials, configuration entries left out."""
    names = [str(credential.server) for credential in ccache]
    return sorted(name for name in names if "X-CACHECONF" not in name)


credentials = krb5.get_init_creds_keytab(
    context,
    principal,
    krb5.get_init_creds_opt_alloc(context),
    krb5.kt_resolve(context, keytab_name),
)
krb5.cc_initialize(context, ccache, principal)
print("initialized:", krb5.cc_get_principal(context, ccache), servers())

krb5.cc_store_cred(context, ccache, credentials)
print("stored:", servers())

krb5.cc_set_config(context, ccache, None, b"proxy_impersonator", b"\x00\xffvalue")
print("config:", krb5.cc_get_config(context, ccache, None, b"proxy_impersonator"))
krb5.cc_set_config(context, ccache, None, b"proxy_impersonator", b"another")
print("config again:", krb5.cc_get_config(context, ccache, None, b"proxy_impersonator"))

found = krb5.cc_retrieve_cred(context, ccache, krb5.CredentialsRetrieveFlags.none, credentials)
print("retrieved:", found.server, found.ticket == credentials.ticket)

krb5.cc_remove_cred(context, ccache, krb5.CredentialsRetrieveFlags.none, credentials)
print("removed:", servers())

krb5.cc_store_cred(context, ccache, credentials)
print("stored again:", servers())
matching = krb5.cc_cache_match(context, principal)
print("matched:", krb5.cc_get_principal(context, matching), matching.cache_type)

krb5.cc_initialize(context, ccache, principal)
print("initialized again:", servers())
krb5.cc_destroy(context, ccache)
try:
    print("destroyed:", krb5.cc_get_principal(context, krb5.cc_default(context)))
except krb5.Krb5Error as error:
    print("destroyed:", type(error).__name__, error.err_code)
