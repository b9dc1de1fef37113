# SPDX-License-Identifier: MIT
"""The imports of Python files, read from their text: which file imports which, and circles.

Imports at any depth count, those below `if TYPE_CHECKING` and in functions too: a circle is one for
its reader, whenever it is imported.  A name that a package's `__init__` only passes on counts as an
import of the file it comes from.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

Graph = dict[str, set[str]]


def dotted(file: Path, root: Path) -> str:
    """Return the name of a file below `root` as Python imports it: a package's for its __init__."""
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(source: str, package: str) -> Iterator[tuple[str, str]]:
    """Yield (module, name) for each import in `source`, a file of `package`; "" for no name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                parents = package.split(".")
                parents = parents[: len(parents) - node.level + 1]
                module = ".".join([*parents, *filter(None, [module])])
            yield from ((module, alias.name) for alias in node.names)


class Imports:
    """The files of a source tree and what each imports of the others."""

    def __init__(self, sources: dict[str, str], packages: set[str]) -> None:
        """Read `sources`, the text of each file by dotted name; `packages` are __init__ files."""
        self._names = {
            module: list(
                imported_names(text, module if module in packages else module.rpartition(".")[0])
            )
            for module, text in sources.items()
        }
        self._packages = packages

    def graph(self) -> Graph:
        """Return the files that each file imports, by dotted names."""
        return {
            module: {target for name in names if (target := self._file(*name))} - {module}
            for module, names in self._names.items()
        }

    def _file(self, module: str, name: str) -> str | None:
        """Return the file of ours that an import of `name` from `module` leads to, if any."""
        if f"{module}.{name}" in self._names:
            return f"{module}.{name}"
        if module in self._packages:
            for origin, passed_on in self._names[module]:
                if passed_on == name:
                    return self._file(origin, name)
        return module if module in self._names else None


def circles(graph: Graph) -> list[set[str]]:
    """Return the sets of files that all reach one another (Tarjan's components above one file)."""
    found: list[set[str]] = []
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []

    def visit(module: str) -> None:
        order[module] = lowest[module] = len(order)
        path.append(module)
        for target in sorted(graph[module]):
            if target not in order:
                visit(target)
                lowest[module] = min(lowest[module], lowest[target])
            elif target in path:
                lowest[module] = min(lowest[module], order[target])
        if lowest[module] == order[module]:
            start = path.index(module)
            component = set(path[start:])
            del path[start:]
            if len(component) > 1:
                found.append(component)

    for module in sorted(graph):
        if module not in order:
            visit(module)
    return found


def read_tree(root: Path, *packages: str) -> Imports:
    """Return the imports of every file of `packages`, directories right below `root`."""
    files = [file for package in packages for file in sorted((root / package).rglob("*.py"))]
    inits = {dotted(file, root) for file in files if file.name == "__init__.py"}
    return Imports({dotted(file, root): file.read_text() for file in files}, inits)
