# SPDX-License-Identifier: MIT
"""System calls and kernel tables of Linux that Python's library doesn't have.

Nothing here knows what a mount of ccfs holds, or which process uses what.
"""
