"""The command `ccfs`: one module a command, each with `run(arguments) -> exit status`.

Knows the command line, the mount table and the files of a mount; never the store, the format of a
ccache, or FUSE. It is light on purpose: what a command doesn't need it doesn't import, and trio and
pyfuse3 are loaded only in the process that serves.
"""
