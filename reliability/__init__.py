# SPDX-License-Identifier: MIT
"""Programs that attack a real mount for as long as one wants, and say what came of it.

`docs/developer/reliability.md` has their figures, each with its command; the tests run each of
them for a moment.  They know the mount from outside, as its users do.
"""
