"""Programs that attack a real mount for as long as one wants, and say what came of it.

`docs/reliability.md` has their figures, each with the command that made it; the tests run each of
them for a moment.  They know the mount from outside, as its users do.
"""
