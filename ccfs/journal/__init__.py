"""The journal of a store: a log of its steps in one file, in memory that is not swapped.

Knows files and the store; never FUSE, nor who asked for a step.
"""
