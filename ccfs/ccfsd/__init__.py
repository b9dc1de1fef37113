# SPDX-License-Identifier: MIT
"""ccfsd: root's process that mounts, forks and supervises one daemon for each user of the host.

Knows sockets, processes and the mount table; never FUSE's protocol, nor the bytes of a ccache.  It
asks no name service, and opens no file on a file system that a user may have mounted: its one
thread never blocks.
"""
