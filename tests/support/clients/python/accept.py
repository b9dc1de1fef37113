# SPDX-License-Identifier: MIT
"""Accepts a GSS token with MIT's library and says who it came from.

Reads the base64 of an initial token from standard input; the service's keytab is KRB5_KTNAME.
Prints "initiator: NAME". That it can shows that ticket and session key belong together.
"""

import base64
import sys

import gssapi

credentials = gssapi.Credentials(usage="accept")
context = gssapi.SecurityContext(creds=credentials, usage="accept")
context.step(base64.b64decode(sys.stdin.read(), validate=True))
assert context.complete
print("initiator:", context.initiator_name)
