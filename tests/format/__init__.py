# SPDX-License-Identifier: MIT
"""Tests of the codecs: bytes and values, no file."""
