# SPDX-License-Identifier: MIT
"""The journal of a store: a log of its steps in one file, in memory that is not swapped.

    location      where the file is: chosen, checked, wiped
    open_journal  a mount's journal: made anew, read back, or converted from an earlier version
    lazy_journal  one that is made at the first step that has to last
    journal       one open journal: load, commit, and the log that takes the place of a grown one
    writer        a step's effects as a frame            replay     all frames as values of a store
    entries       what a frame says, as bytes            log_index  where in the log each thing is
    effects_codec what a step made stale, as bytes       log        frames in a file
    legacy_log, legacy_sqlite   journals of versions 6 and 4: read once

Knows files and the store; never FUSE, nor the clients of a step.
"""
