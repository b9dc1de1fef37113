# SPDX-License-Identifier: MIT
"""The command `ccfs`: one module a command, each with `run(arguments) -> exit status`.

Knows the command line, the mount table and the files of a mount; never the store, the format of a
ccache, or FUSE.  Imports are few on purpose, since shells run `ccfs env` as they start: a command
imports what it needs, and trio and pyfuse3 are imported only by the process that serves.
"""
