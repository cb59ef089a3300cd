"""What a record says of where its numbers come from, and how numbers are written."""

import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np

from experiments.harness.processor import processor

EXPERIMENTS = Path(__file__).resolve().parents[1]


def environment() -> dict[str, str]:
    """When, where and from what a run starts; taken at its start because files may change."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {cores()} cores, {jax.default_backend()}",
        **processor(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("jax", "jaxlib", "optax")},
        **_checkout(),
    }


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(values: Sequence[float], digits: int, *, scale: float = 1.0) -> str:
    """The mean over seeds "± " their standard deviation, both times `scale`; of one seed no ±."""
    scaled = scale * np.array(values)
    mean = f"{scaled.mean():.{digits}f}"
    return mean if len(scaled) == 1 else f"{mean} ± {scaled.std():.{digits}f}"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of a README."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    lines.insert(1, "|" + "---|" * len(head))
    return "\n".join(lines)


def _checkout() -> dict[str, str]:
    """The commit, and whether the code is that commit's: "clean", or the files that are changed."""
    git = partial(subprocess.run, cwd=EXPERIMENTS, capture_output=True, text=True)
    try:
        commit = git(["git", "rev-parse", "HEAD"]).stdout.strip()
        changed = git(["git", "status", "--porcelain", "--", "../gru_jax", "*.py"]).stdout
    except FileNotFoundError:
        commit = ""
    if not commit:
        return {"commit": "unknown", "tree": "unknown"}
    names = ", ".join(line[3:] for line in changed.splitlines())
    return {"commit": commit, "tree": f"changed: {names}" if names else "clean"}
