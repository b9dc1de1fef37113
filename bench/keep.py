# SPDX-License-Identifier: MIT
"""Results as files: all samples as JSON, tables as Markdown, plots as PNG and SVG.

This file knows paths and formats, never what a number means.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path

from bench.machine import Machine, load
from bench.measure import Cell, Results
from bench.report import document


def save(directory: Path, results: Results, machine: Machine) -> None:
    """Write what there is, texts in one step each."""
    directory.mkdir(parents=True, exist_ok=True)
    now = replace(machine, load_after=load())
    whole(directory / "results.json", encoded(results, now))
    whole(directory / "results.md", document(results, now))


def whole(path: Path, text: str) -> None:
    """Replace a file in one step."""
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.replace(path)
    path.chmod(0o644)


def encoded(results: Results, machine: Machine) -> str:
    """All of it, a line for each cell."""
    head = {"machine": asdict(machine), "missing": results.missing}
    rows = [
        json.dumps({**asdict(cell), "samples": [float(f"{value:.4g}") for value in samples]})
        for cell, samples in results.samples.items()
    ]
    failures = [json.dumps({**asdict(c), "why": why}) for c, why in results.failures.items()]
    cut = [json.dumps(asdict(cell)) for cell in sorted(results.cut)]
    parts = {"cells": rows, "failures": failures, "cut": cut}
    lines = ['"' + key + '": [\n' + ",\n".join(rows) + "\n]" for key, rows in parts.items()]
    return f"{json.dumps(head, indent=1)[:-2]},\n" + ",\n".join(lines) + "\n}\n"


def read(path: Path) -> tuple[Results, Machine]:
    """Read what `save` wrote."""
    kept = json.loads(path.read_text())
    results = Results(missing=kept["missing"])
    for row in kept["cells"]:
        results.samples[_cell(row)] = row["samples"]
    for row in kept["failures"]:
        results.failures[_cell(row)] = row["why"]
    results.cut = {_cell(row) for row in kept["cut"]}
    return results, Machine(**kept["machine"])


def _cell(row: dict[str, object]) -> Cell:
    return Cell(*(row[name] for name in ("part", "work", "size", "peer")))  # type: ignore[arg-type]
