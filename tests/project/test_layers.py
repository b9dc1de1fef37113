# SPDX-License-Identifier: MIT
"""Imports go one way: cli -> daemon -> ops -> store -> format.

A part is a package or module right below ccfs/. The table says what each may import of ccfs and of
the libraries that bind it to FUSE; a part that isn't in it fails, so that a new one gets a place.
"""

import ast
import importlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import ccfs
from tests.support.imports import Imports, circles, dotted, imported_names, read_tree
from tests.support.paths import PROJECT

ROOT = Path(ccfs.__file__).parent

ALLOWED: dict[str, set[str]] = {
    "__init__": set(),
    "__main__": {"cli"},
    "errors": set(),
    "commandline": {"errors"},
    "linux": {"errors"},
    "control": {"linux"},
    "format": set(),
    "store": {"format"},
    "journal": {"errors", "format", "linux", "store"},
    "mounting": {"errors", "linux"},
    "takeover": {"errors", "linux"},
    "service": {"errors", "format", "store", "takeover"},
    "ops": {"errors", "format", "service", "store", "takeover"},
    "kcm": {"errors", "format", "linux", "service", "store", "takeover"},
    "ccapi": {"control", "format", "linux"},
    "supervisor": {"errors", "kcm", "linux", "mounting", "takeover"},
    "daemon": {
        "control",
        "errors",
        "format",
        "journal",
        "kcm",
        "linux",
        "mounting",
        "ops",
        "service",
        "store",
        "takeover",
    },
    "ccfsd": {
        "commandline",
        "control",
        "daemon",
        "errors",
        "journal",
        "linux",
        "mounting",
        "takeover",
    },
    "cli": {
        "ccfsd",
        "commandline",
        "control",
        "daemon",
        "errors",
        "journal",
        "kcm",
        "linux",
        "mounting",
        "supervisor",
    },
}

# What of the command speaks to the layers below the daemon: limits are passed on, and a ccache that
# is imported gets the name of a file.
EXTRA = {
    "cli/mount_job.py": {"store"},
    "cli/import_/file_source.py": {"format"},
    "cli/import_/source.py": {"format"},
}

FUSE = {"pyfuse3"}
MAY_FUSE = {"ops", "daemon"}
EVENT_LOOP = {"trio"}
MAY_LOOP = {"ops", "daemon", "kcm", "ccfsd"}
ONLY_COMPUTE = {"format", "store"}
NEVER_TO_COMPUTE = {"os", "socket", "select", "subprocess", "pathlib", "io", "logging"}
CLOCKS = {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "localtime", "sleep"}


def modules() -> list[Path]:
    """Every module of the package."""
    return sorted(ROOT.rglob("*.py"))


def part_of(module: Path) -> str:
    """The name right below ccfs/ that `module` belongs to."""
    return module.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(source: str, package: str) -> list[str]:
    """The dotted names that `source` (a file of `package`) imports, at any depth."""
    return [
        f"{module}.{name}" if name else module for module, name in imported_names(source, package)
    ]


def of_ccfs(names: Iterable[str]) -> set[str]:
    """The parts of ccfs among imported names; a name of ccfs/__init__.py counts as that."""
    paths = [name.split(".") for name in names]
    parts = {path[1] if len(path) > 1 else "__init__" for path in paths if path[0] == "ccfs"}
    return {part if part in ALLOWED else "__init__" for part in parts}


def imported(module: Path) -> list[str]:
    """What the file `module` imports."""
    return imports(module.read_text(), dotted(module.parent, ROOT.parent))


def each_module() -> pytest.MarkDecorator:
    """Run a test for every module."""
    names = [str(module.relative_to(ROOT)) for module in modules()]
    return pytest.mark.parametrize("module", modules(), ids=names)


def test_parts_are_all_in_the_table() -> None:
    """A new package or module has to be put into the table."""
    assert {part_of(module) for module in modules()} <= set(ALLOWED)


TESTS = read_tree(PROJECT, "tests", "reliability", "bench").graph()


@pytest.mark.parametrize("module", sorted(TESTS))
def test_tests_share_support_only(module: str) -> None:
    """No test module is imported, and of tests/ bench and reliability import `support` alone."""
    part = module.split(".")[0]
    for target in TESTS[module]:
        assert not target.rpartition(".")[2].startswith(("test_", "conftest"))
        support = target.startswith("tests.support.")
        if module.startswith("tests.support."):
            assert support, target
        else:
            assert support or part == "tests" or part == target.split(".")[0], target


@each_module()
def test_imports_go_one_way(module: Path) -> None:
    """A module imports of ccfs only its own part and what the table allows."""
    part = part_of(module)
    allowed = {part, "__init__"} | ALLOWED[part] | EXTRA.get(str(module.relative_to(ROOT)), set())
    assert of_ccfs(imported(module)) <= allowed


@each_module()
def test_fuse_is_imported_by_ops_and_daemon_only(module: Path) -> None:
    """pyfuse3 and the event loop stay where they belong."""
    libraries = {name.partition(".")[0] for name in imported(module)}
    part = part_of(module)
    assert part in MAY_FUSE or not libraries & FUSE
    assert part in MAY_LOOP or not libraries & EVENT_LOOP


@each_module()
def test_format_and_store_do_no_io(module: Path) -> None:
    """No file, socket, environment or clock in `format` and `store`: time is passed in."""
    if part_of(module) in ONLY_COMPUTE:
        names = imported(module)
        assert not {name.partition(".")[0] for name in names} & NEVER_TO_COMPUTE
        assert not clocks(module.read_text())


def clocks(source: str) -> set[str]:
    """The uses of a clock in `source`: `time.time()`, `from time import monotonic`."""
    used = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used.add(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            used |= {f"time.{alias.name}" for alias in node.names}
    return used & {f"time.{clock}" for clock in CLOCKS}


def test_clocks_finds_uses_of_clocks() -> None:
    """Converting a time is fine, asking for it isn't."""
    assert clocks("import time\ntime.gmtime(5); time.strftime('%Y')") == set()
    assert clocks("import time\ntime.time()") == {"time.time"}
    assert clocks("from time import monotonic") == {"time.monotonic"}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from ccfs.store import limits", {"store"}),
        ("import ccfs.format.ccache as c", {"format"}),
        ("from ccfs import __version__", {"__init__"}),
        ("from ccfs import daemon", {"daemon"}),
        ("from ..format import text", {"format"}),
        ("from . import node", {"ops"}),
        ("def f():\n    from ccfs.cli.main import main", {"cli"}),
        ("import os, ccfsx", set()),
    ],
)
def test_imports_reads_every_form(source: str, found: set[str]) -> None:
    """However an import is written, and wherever it stands, it is seen."""
    assert of_ccfs(imports(source, "ccfs.ops")) == found


def test_no_circle_of_files() -> None:
    """No file of ccfs is in a circle of imports; those in functions and for types count."""
    assert circles(read_tree(ROOT.parent, "ccfs").graph()) == []


def test_circles_finds_components() -> None:
    """Two circles are told apart; a chain, and a file that only leads to a circle, are none."""
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": {"e"}, "e": {"f"}, "f": {"d"}}
    assert sorted(map(sorted, circles(graph))) == [["b", "c"], ["d", "e", "f"]]
    assert circles({"a": {"b"}, "b": set[str]()}) == []


def test_imports_below_type_checking_count() -> None:
    """An import for the type checker alone makes a circle, and so does one in a function."""
    sources = {
        "p": "",
        "p.a": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.b import B",
        "p.b": "def f():\n    from . import a",
    }
    assert circles(Imports(sources, {"p"}).graph()) == [{"p.a", "p.b"}]


def test_names_passed_on_count_as_their_own_file() -> None:
    """`from p import A` is an import of the file that p/__init__.py has A from."""
    sources = {"p": "from p.a import A\nfrom p.b import B", "p.a": "", "p.b": "from p import A"}
    assert Imports(sources, {"p"}).graph()["p.b"] == {"p.a"}


CODE = re.compile(r"^(?:from (ccfs[\w.]*) import ([\w, ]+)|import (ccfs[\w.]*))", re.MULTILINE)


def programs() -> Iterator[tuple[Path, str]]:
    """Each string of a test or measurement that has lines of Python which import from ccfs."""
    for folder in ("tests", "reliability", "bench"):
        for file in sorted((PROJECT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield file, node.value.replace("; ", "\n")


def test_programs_in_strings_import_what_exists() -> None:
    """Neither mypy nor ruff look into the programs that tests run in processes of their own."""
    missing = []
    for file, text in programs():
        if file.name == "test_layers.py":
            continue
        for package, names, module in CODE.findall(text):
            for name in filter(None, names.split(", ")):
                target = f"{package}.{name.split(' as ')[0]}"
                if not exists(target):
                    missing.append((str(file), target))
            if module and not exists(module):
                missing.append((str(file), module))
    assert not missing


def exists(name: str) -> bool:
    """Whether a dotted name is that of a module, or of something in a module."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return bool(module) and hasattr(importlib.import_module(module), attribute)
    return True
