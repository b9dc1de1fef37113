# SPDX-License-Identifier: MIT
"""The command: `python -m bench`, as root."""

import sys

from bench import namespace
from bench.options import options

if __name__ == "__main__":
    given = options(sys.argv[1:])
    if namespace.inside():
        from bench.plan import carry_out

        sys.exit(namespace.run(lambda: carry_out(given)))
    sys.exit(namespace.enter(sys.argv[1:]))
