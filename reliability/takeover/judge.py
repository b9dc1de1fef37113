# SPDX-License-Identifier: MIT
"""Read the writers' logs, and compare what they say was acknowledged with what is in the mount.

Knows only the logs and the ccaches' bytes: it judges independently of what a writer believed.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from reliability.takeover import contents, log
from reliability.takeover.contents import Servers
from reliability.takeover.log import Entry
from reliability.takeover.recorder import OWN


@dataclass
class Account:
    """What must be in one ccache by one writer's log.  `pending`: asked, and not answered."""

    servers: Servers = None
    pending: list[object] | None = None


@dataclass
class Accounts:
    """What one writer's log comes to."""

    own: Account = field(default_factory=Account)
    shared: Account = field(default_factory=lambda: Account(servers=[]))
    acknowledged: int = 0
    ended: bool = False

    def read(self, entry: Entry) -> None:
        """Take a line into account."""
        if entry.kind == log.DONE:
            self.ended = True
        if entry.kind not in (log.ASK, log.ACK, log.FOUND):
            return
        account = self.own if entry.what[0] == OWN else self.shared
        if entry.kind == log.ASK:
            account.pending = entry.what[2]
            return
        if entry.kind == log.FOUND:
            account.servers = entry.what[2]
        elif account.pending is not None:
            account.servers = applied(account.servers, account.pending)
            self.acknowledged += 1
        account.pending = None


def applied(servers: Servers, change: list[object]) -> Servers:
    """A list after a change as recorder.change() writes it."""
    kind, what = change
    if kind == "replace":
        return list(what) if isinstance(what, list) else None
    have = servers or []
    return [*have, str(what)] if kind == "store" else [name for name in have if name != what]


def accounts(entries: Iterable[Entry], names: Iterable[str]) -> dict[str, Accounts]:
    """The accounts of the writers of these names."""
    found = {name: Accounts() for name in names}
    for entry in entries:
        if entry.who in found:
            found[entry.who].read(entry)
    return found


def verdicts(
    found: dict[str, Accounts], look: Callable[[str], Servers], shared: list[str]
) -> Iterator[tuple[str, str]]:
    """(category, text) for everything that is not as the logs say."""
    for name, account in found.items():
        there = look(name)
        for category, text in _differences(account.own, there):
            yield category, f"{name}: {text}"
    for name in found:
        prefix = f"host/shared-{name}-"
        there = [server for server in shared if server.startswith(prefix)]
        for category, text in _differences(found[name].shared, there):
            yield category, f"{name} in the shared ccache: {text}"
    strange = [s for s in shared if not s.startswith(tuple(f"host/shared-{n}-" for n in found))]
    for server in strange:
        yield contents.TORN, f"{server} in the shared ccache, which no writer stored"


def _differences(account: Account, there: Servers) -> Iterator[tuple[str, str]]:
    possible = [account.servers]
    if account.pending is not None:
        possible.append(applied(account.servers, account.pending))
    if there not in possible:
        yield from contents.differences(account.servers, there)


def events(lines: list[str]) -> Iterator[tuple[str, str]]:
    """(category, text) for numbers that are missing or twice, and steps that were told twice."""
    last, told = 0, set[tuple[str, ...]]()
    for line in lines:
        number, _, what, *rest = line.split("\t")
        if not number.isdigit():
            continue  # "some are gone"
        if int(number) <= last:
            yield contents.DOUBLED, f"event {number} after event {last}"
        elif last and int(number) != last + 1:
            yield contents.LOST, f"events {last + 1} to {int(number) - 1}"
        last = max(last, int(number))
        step = (what, *rest[:2])
        if what in ("stored", "removed") and rest[1].startswith("host%2F"):
            if step in told:
                yield contents.DOUBLED, f"told twice: {' '.join(step)}"
            told.add(step)
