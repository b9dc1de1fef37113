# SPDX-License-Identifier: MIT
"""Where ccfsd listens, and where it mounts.  Knows paths; never what is there."""

RUNTIME = "/run/ccfs"
"""ccfsd's runtime directory; the mount of a user is `RUNTIME/UID`."""
CONTROL_SOCKET = RUNTIME + "/control"
