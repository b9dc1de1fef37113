# SPDX-License-Identifier: MIT
"""Tests, a folder a layer; README.md says which is where."""
