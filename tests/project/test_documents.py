# SPDX-License-Identifier: MIT
"""Documents name only what exists: files, modules, classes, tests, headings, make's targets."""

import ast
import builtins
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.paths import PROJECT

GLOBS = ("*.md", "docs/**/*.md", "bench/*.md", "tests/*.md")
DOCUMENTS = sorted(path for pattern in GLOBS for path in PROJECT.glob(pattern))
ABOUT_CODE = [PROJECT / "ARCHITECTURE.md", *PROJECT.glob("docs/developer/*.md")]
TOPS = ("", "ccfs/", "tests/")
"""Directories that a path in a document may be relative to, beside the document's own."""
OTHER_CLASSES = {"Krb5LoginModule", "Locked", "Rss"}

each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=[str(path.relative_to(PROJECT)) for path in DOCUMENTS]
)


def code_spans(document: Path) -> list[str]:
    """The texts between backticks."""
    return re.findall(r"`([^`\n]+)`", document.read_text())


def missing_paths(document: Path) -> Iterator[str]:
    """Paths of Python files, C files and documents in backticks that don't exist."""
    for span in code_spans(document):
        for path in re.findall(r"[\w./-]+\.(?:py|c|h|md)\b", span):
            places = [document.parent / path, *(PROJECT / top / path for top in TOPS)]
            if not any(place.exists() for place in places):
                yield path


@each_document
def test_the_files_of_a_document_exist(document: Path) -> None:
    assert list(missing_paths(document)) == []


def slug(heading: str) -> str:
    """The anchor that a heading gets where Markdown is shown."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings."""
    return {slug(text) for text in re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)}


@each_document
def test_the_links_of_a_document_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if ":" in target:
            continue
        path, _, anchor = target.partition("#")
        file = document.parent / path if path else document
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@cache
def classes() -> dict[str, set[str]]:
    """The classes of ccfs, each with its attributes, those of classes of one name together."""
    found: dict[str, set[str]] = {}
    for module in PROJECT.glob("ccfs/**/*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, set()).update(attributes(node))
    return found


def attributes(definition: ast.ClassDef) -> Iterator[str]:
    """The names that a class defines: methods, fields, and what its methods set on self."""
    for node in ast.walk(definition):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


@pytest.mark.parametrize("document", ABOUT_CODE, ids=[path.stem for path in ABOUT_CODE])
def test_the_classes_of_a_document_exist(document: Path) -> None:
    known = classes()
    for span in code_spans(document):
        found = re.fullmatch(r"([A-Z]+[a-z]+[A-Za-z]*)(?:\.(\w+))?(?:\(\))?", span)
        if found and not hasattr(builtins, found[1]) and found[1] not in OTHER_CLASSES:
            assert found[1] in known, span
            assert found[2] is None or found[2] in known[found[1]], span


def resolves(name: str) -> bool:
    """Whether a dotted name of ccfs, tests, bench or reliability is a module, or a name in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        place = PROJECT.joinpath(*parts[:count])
        file = place.with_suffix(".py") if count < len(parts) or not place.is_dir() else place
        if place.is_dir() and count == len(parts):
            return True
        module = place / "__init__.py" if place.is_dir() else file
        if module.exists():
            rest = parts[count:]
            return (
                not rest or re.search(rf"\b{re.escape(rest[0])}\b", module.read_text()) is not None
            )
    return False


@each_document
def test_the_modules_of_a_document_exist(document: Path) -> None:
    for name in re.findall(
        r"\b(?:ccfs|reliability|bench|tests)(?:\.[A-Za-z_]\w*)+", text(document)
    ):
        if name.rpartition(".")[2] not in {"py", "c", "md", "service", "socket", "conf", "so"}:
            assert resolves(name), name


def text(document: Path) -> str:
    """A document without its links' targets, and without names of file system and packages."""
    shown = re.sub(r"\]\([^)]*\)", "]", document.read_text())
    return re.sub(r"(?:mount|fuse)\.ccfs|\bccfs\.(?:service|socket|conf|1)\b", "", shown)


@each_document
def test_the_tests_of_a_document_exist(document: Path) -> None:
    for path, name in re.findall(r"([\w/]+\.py)::(\w+)", document.read_text()):
        file = next(PROJECT / top / path for top in TOPS if (PROJECT / top / path).exists())
        assert f"def {name}" in file.read_text(), f"{path}::{name}"


def test_the_attacks_exist() -> None:
    source = (PROJECT / "tests/mount/test_attack.py").read_text()
    names = re.findall(r"attack: `(\w+)`", (PROJECT / "docs/developer/attacks.md").read_text())
    assert names
    assert [name for name in names if f'"{name}"' not in source] == []


@each_document
def test_the_targets_of_make_exist(document: Path) -> None:
    targets = re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    spans = [*code_spans(document), *re.findall(r"^    (.*)$", document.read_text(), re.MULTILINE)]
    for span in spans:
        if found := re.match(r"make ([a-z]+)", span):
            assert found[1] in targets, span


def test_documents_that_code_names_exist() -> None:
    """In comments, docstrings and messages."""
    for top in ("ccfs", "tests", "reliability", "bench", "scripts", "mount-helper"):
        for file in (PROJECT / top).rglob("*"):
            if file.suffix in {".py", ".c", ".h", ".conf", ".in", ""} and file.is_file():
                for path in re.findall(r"\bdocs/[\w/-]+\.md", file.read_text(errors="replace")):
                    assert (PROJECT / path).exists(), f"{file}: {path}"
