# SPDX-License-Identifier: MIT
"""The command line of `python -m reliability.takeover`."""

import argparse
import signal
import sys

from reliability.takeover import clients, run
from reliability.takeover.run import Options


def main() -> int:
    """Run, print the figures; 0 only where no client noticed anything."""
    given = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = Options(
        kills=given.kills,
        seed=given.seed,
        every=given.every,
        seconds=given.seconds,
        check_every=given.check_every,
        parts=tuple(given.parts.split(",")),
        writers=tuple(filter(None, given.writers.split(","))),
        others=tuple(name for name in clients.OTHERS if name not in given.without.split(",")),
        rest=given.rest,
        stopped=given.stopped,
        kill_others=given.kill_others,
        command=given.upgrade,
        old_way=given.old_way,
        ccfsd=given.ccfsd,
        user=given.user,
        dying=given.dying,
        program=given.program,
        mount_options=tuple(given.mount_option),
    )
    report = run.run(options)
    for line in report.lines():
        print(line, flush=True)
    return 0 if report.good() else 1


def _parser() -> argparse.ArgumentParser:
    usual = Options()
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--kills", type=int, default=usual.kills, metavar="N")
    add("--seed", type=int, default=usual.seed, help="of the moments and of the writers")
    add("--every", type=float, default=usual.every, metavar="SECONDS", help="most between two")
    add("--seconds", type=float, default=usual.seconds, help="how long with --kills 0")
    add("--check-every", type=int, default=usual.check_every, metavar="KILLS")
    add("--parts", default=",".join(run.PARTS), help="what takes part, with commas")
    add("--writers", default="", help="the names of the writers, with commas; all")
    add("--without", default="", help="java, go")
    add("--rest", type=float, default=usual.rest, help="seconds between two steps of a writer")
    add("--stopped", type=float, default=usual.stopped, help="share stopped before the kill")
    add("--kill-others", type=float, default=0.0, help="share with another child killed first")
    add("--upgrade", metavar="COMMAND", help="in place of a kill; {mount} is the mountpoint")
    add("--old-way", action="store_true", help="errors and what is dead are no failure")
    add("--ccfsd", action="store_true", help="a mount that ccfsd serves to a user")
    add("--user", action="store_true", help="a mount of an ordinary user, by fusermount3")
    add("--dying", action="store_true", help="daemons die around a journal write, by themselves")
    add("--program", default=usual.program, help="the module that `ccfs` is run as")
    add("--mount-option", action="append", default=[], metavar="OPTION", help="of `ccfs mount`")
    return parser


if __name__ == "__main__":
    sys.exit(main())
