# SPDX-License-Identifier: MIT
"""Tests of the take-over of a mount by the next daemon."""
