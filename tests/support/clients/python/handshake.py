# SPDX-License-Identifier: MIT
"""A whole GSS handshake between an initiator and an acceptor, with mutual authentication.

The initiator uses KRB5CCNAME, the acceptor KRB5_KTNAME; the argument is the service
(HTTP@localhost). Prints "initiator: NAME", "target: NAME" and what came through wrapped.
"""

import sys

import gssapi

service = gssapi.Name(sys.argv[1], gssapi.NameType.hostbased_service)
initiator = gssapi.SecurityContext(
    name=service, usage="initiate", flags=gssapi.RequirementFlag.mutual_authentication
)
acceptor = gssapi.SecurityContext(creds=gssapi.Credentials(usage="accept"), usage="accept")

token: bytes | None = None
for _ in range(4):
    token = initiator.step(token)
    if token is not None:
        token = acceptor.step(token)
    if initiator.complete and acceptor.complete:
        break

print("initiator:", acceptor.initiator_name)
print("target:", initiator.target_name)
sealed = initiator.wrap(b"through the context", encrypt=True).message
print("unwrapped:", acceptor.unwrap(sealed).message.decode())
