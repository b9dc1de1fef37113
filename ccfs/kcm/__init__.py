# SPDX-License-Identifier: MIT
"""The KCM protocol over the store: the same ccaches for clients of a Unix socket.

Knows messages, names and rules of matching; never FUSE, inodes or the mount.
"""
