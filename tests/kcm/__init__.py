# SPDX-License-Identifier: MIT
"""Tests of the KCM server, most without a mount."""
