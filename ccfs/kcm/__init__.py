"""The KCM protocol over the store: what a client of a Unix socket sees of the same ccaches.

Knows messages, names and rules of matching; never FUSE, inodes or the mount.
"""
