"""Records of finished runs: a JSON file with everything that led to a number."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.harness.command_line import settings_of
from experiments.harness.files import replacing
from experiments.harness.processor import processor

EXPERIMENTS = Path(__file__).resolve().parents[1]


def write_record(
    path: Path,
    config: Any,
    environment: Mapping[str, str],
    results: Mapping[str, Any],
    **more: Any,
) -> dict[str, Any]:
    """Writes a run's settings, environment and results as JSON, whole or not at all.

    Args:
      path: of the file.
      config: the run's configuration; its field `run` is left out.
      environment: what `environment` returned when the run began.
      results: what was found.
      **more: further entries, such as the history of training.

    Returns:
      The record.
    """
    record = {"settings": settings_of(config), "environment": environment, "results": results}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(record | more, indent=1) + "\n", encoding="utf-8")
    return record | more


def environment() -> dict[str, str]:
    """When, where and from what a run starts; taken at its start because files may change."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {cores()} cores, {jax.default_backend()}",
        **processor(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("jax", "jaxlib", "optax")},
        "commit": _commit(),
    }


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(values: Sequence[float], digits: int, *, scale: float = 1.0) -> str:
    """The mean over seeds "± " their standard deviation, both times `scale`."""
    scaled = scale * np.array(values)
    return f"{scaled.mean():.{digits}f} ± {scaled.std():.{digits}f}"


def _commit() -> str:
    """The checkout's commit, with "+" where files differ from it."""
    git = partial(subprocess.run, cwd=EXPERIMENTS, capture_output=True, text=True)
    try:
        commit = git(["git", "rev-parse", "HEAD"]).stdout.strip()
        changed = git(["git", "status", "--porcelain", "--", "../gru_jax", "*.py"]).stdout
    except FileNotFoundError:
        return "unknown"
    return commit + "+" * bool(changed) or "unknown"
