# SPDX-License-Identifier: MIT
"""`ccfs import`: move ccaches from elsewhere into a mount.

`command` runs it; `sources` opens a residual; `file_source` and `library_source` are its two kinds.
"""
