"""The codec: the FILE ccache format, versions 1 to 4, and the text of what it holds.

This package knows bytes and values.  It never knows files, clocks, FUSE or any other part of ccfs.
Everything it refuses, it refuses with `errors.FormatError`.
"""
