# SPDX-License-Identifier: MIT
"""What the benchmark ran on, without a word that names the machine."""

import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.scale import Scale
from tests.support.paths import PROJECT

PACKAGES = ("krb5-user", "libfuse3-3", "sssd-kcm", "heimdal-kcm")
ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
MODULES = ("ccfs", "pyfuse3", "trio", "krb5")


@dataclass(frozen=True, slots=True)
class Machine:
    """Processor, kernel, versions, load; and how much was measured."""

    date: str
    processor: str
    cores: int
    memory: str
    kernel: str
    system: str
    load: str
    commit: str
    versions: dict[str, str]
    scale: dict[str, object]
    load_after: str = ""


def describe(scale: Scale) -> Machine:
    """This machine, now."""
    cpu = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", cpu, re.MULTILINE)
    total = int(Path("/proc/meminfo").read_text().split()[1])
    release = Path("/etc/os-release").read_text()
    name = re.search(r'^PRETTY_NAME="?([^"\n]*)', release, re.MULTILINE)
    return Machine(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        processor=model.group(1).strip() if model else platform.machine(),
        cores=os.cpu_count() or 0,
        memory=f"{total / 1024 / 1024:.0f} GiB",
        kernel=re.match(r"[\d.]*\d", platform.release())[0],  # type: ignore[index]
        system=name.group(1) if name else platform.system(),
        load=load(),
        commit=_said("git", "rev-parse", "--short", "HEAD"),
        versions={"Python": platform.python_version(), **_modules(), **_packages()},
        scale=asdict(scale),
    )


def load() -> str:
    """The load of the last minute, five and fifteen minutes."""
    return " ".join(f"{load:.2f}" for load in os.getloadavg())


def _modules() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in MODULES}


def _packages() -> dict[str, str]:
    """The installed versions, or those that would be: what is unpacked is apt's candidate."""
    said = _said("apt-cache", "policy", *PACKAGES)
    pattern = r"^(\S+):\n  Installed: (\S+)\n  Candidate: (\S+)"
    found = re.findall(pattern, said, re.MULTILINE)
    return {name: candidate if there == "(none)" else there for name, there, candidate in found}


def _said(*command: str) -> str:
    """What a command prints; empty where it fails."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
            cwd=PROJECT,
            env=ENVIRONMENT,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
