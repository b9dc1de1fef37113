"""The host's spawner: a root process that mounts, forks and supervises one daemon for each user.

Knows sockets, processes and the mount table; never FUSE's protocol, nor the bytes of a ccache.  It
asks no name service and touches no file system that it hasn't mounted: nothing in it can wait.
"""
