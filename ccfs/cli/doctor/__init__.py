# SPDX-License-Identifier: MIT
"""`ccfs doctor`: checks of the machine, of ccfsd and of a mount.

`command` runs them.  Each other module holds checks, or what checks have to read.
"""
