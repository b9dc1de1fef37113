# SPDX-License-Identifier: MIT
"""The file tree: what each name in the mount is, and what each file operation does to the store.

Knows nodes, handles and errno values; never the bytes of a ccache.
"""
