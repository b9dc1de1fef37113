"""What outlives a daemon, so that the next one can go on with the same mount.

The FUSE connection, the page of memory that says which request is being carried out, the
connections of KCM clients, the process that daemons are forked from, and the process that
makes file operations on the mount.  Knows descriptors and processes; never the store.
"""
