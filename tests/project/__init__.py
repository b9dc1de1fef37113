# SPDX-License-Identifier: MIT
"""Tests of the repository: layers, scripts, packaging."""
