# SPDX-License-Identifier: MIT
"""Tests of the CCAPI, v3 and v2, on real mounts."""
