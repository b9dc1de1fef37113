# SPDX-License-Identifier: MIT
"""Codec of the FILE ccache format, versions 1 to 4, and of the texts that ccfs makes from it.

Knows bytes and values; never files, clocks, FUSE or any other part of ccfs.  Bytes and values that
are refused raise `errors.FormatError`.
"""
