# SPDX-License-Identifier: MIT
"""A web server that authenticates clients with SPNEGO (RFC 4559), for tests on loopback.

Prints "port: N" once it listens on 127.0.0.1, and ends with its standard input. GET answers 401
and `WWW-Authenticate: Negotiate`, then 200 with the initiator's name. The keytab is KRB5_KTNAME.
"""

import base64
import http.server
import sys
import threading

import gssapi

SCHEME = "Negotiate"


class Handler(http.server.BaseHTTPRequestHandler):
    """One request; a context that needs more than one step is refused."""

    def do_GET(self) -> None:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if scheme != SCHEME:
            self.answer(401, SCHEME, "")
            return
        try:
            reply, initiator = accept(base64.b64decode(token, validate=True))
        except (gssapi.exceptions.GSSError, ValueError) as error:
            self.answer(403, "", type(error).__name__)
            return
        self.answer(200, f"{SCHEME} {base64.b64encode(reply).decode()}", initiator)

    def answer(self, status: int, authenticate: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        if authenticate:
            self.send_header("WWW-Authenticate", authenticate)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: the test reads the answers."""


def accept(token: bytes) -> tuple[bytes, str]:
    """The acceptor's reply, and the initiator's name."""
    credentials = gssapi.Credentials(usage="accept")
    context = gssapi.SecurityContext(creds=credentials, usage="accept")
    reply = context.step(token)
    if not context.complete:
        raise ValueError("more than one step")
    return reply or b"", str(context.initiator_name)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("port:", server.server_address[1], flush=True)
sys.stdin.read()
server.shutdown()
