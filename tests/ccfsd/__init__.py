# SPDX-License-Identifier: MIT
"""Tests of ccfsd: sessions, supervision, restart, limits; most need root."""
