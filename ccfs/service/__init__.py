# SPDX-License-Identifier: MIT
"""One mount's store as its front ends (FUSE handlers, KCM, imports) use it.

Knows the store, the journal's interface, the clock and the caller; never FUSE, inodes or sockets.
"""
