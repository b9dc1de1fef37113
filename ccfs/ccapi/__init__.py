# SPDX-License-Identifier: MIT
"""The CCAPI for clients in Python, implemented by file operations on a mount.

    with initialize() as context:
        for ccache in context.new_ccache_iterator():
            print(ccache.get_name(), ccache.get_principal(cc_credentials_v5))

Methods have the names of the functions in the header's tables, and take their arguments in the same
order, without the object and without the out parameters, whose values they return.  Every failure
is a CCAPIError with the header's number and name.  `ccfs.ccapi.v2` has the calls of version 2.

Knows the mount's files and the format, never the store.
"""

from ccfs.ccapi import constants
from ccfs.ccapi.ccache import CCache
from ccfs.ccapi.constants import *  # noqa: F403 - the header's names, all of them
from ccfs.ccapi.context import CCacheIterator, Context, initialize
from ccfs.ccapi.credentials import Credentials, CredentialsIterator
from ccfs.ccapi.values import cc_credentials_union, cc_credentials_v5_t, cc_data

__all__ = [
    "CCache",
    "CCacheIterator",
    "Context",
    "Credentials",
    "CredentialsIterator",
    "cc_credentials_union",
    "cc_credentials_v5_t",
    "cc_data",
    "initialize",
]
__all__ += constants.__all__
