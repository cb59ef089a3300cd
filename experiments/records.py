"""Records of finished runs: a JSON file with everything that led to a number, and a loss curve."""

import dataclasses
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.training import Fitted


def settings_of(config: Any) -> dict[str, Any]:
    """What a run depends on: its configuration without the files' whereabouts."""
    return {name: value for name, value in dataclasses.asdict(config).items() if name != "run"}


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def surroundings() -> dict[str, str]:
    """When, where and from what a run starts; taken at its start, for files may change under it."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {cores()} cores, {jax.default_backend()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("jax", "jaxlib", "optax")},
        "commit": _commit(),
    }


def write_record(
    path: Path,
    config: Any,
    surroundings: Mapping[str, str],
    fitted: Fitted,
    results: Mapping[str, Any],
) -> None:
    """Writes a run's settings, surroundings, results and loss curve as JSON, atomically."""
    record = {
        "settings": settings_of(config),
        "surroundings": surroundings,
        "results": results,
        "history": fitted.history,
    }
    write_json(path, record)


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Writes JSON, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _commit() -> str:
    """The checkout's commit, with "+" where files differ from it."""
    git = partial(subprocess.run, cwd=Path(__file__).parent, capture_output=True, text=True)
    try:
        commit = git(["git", "rev-parse", "HEAD"]).stdout.strip()
        changed = git(["git", "status", "--porcelain", "--", "../gru_jax", "*.py"]).stdout
    except FileNotFoundError:
        return "unknown"
    return commit + "+" * bool(changed) or "unknown"


def plot_losses(
    path: Path, title: str, fitted: Fitted, baselines: Mapping[str, float], unit: str
) -> None:
    """Draws training and validation loss over the steps, baselines as level lines, to a PNG."""
    from matplotlib.figure import Figure  # without pyplot: no window system is asked for

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    steps = [entry["step"] for entry in fitted.history]
    for name, style in (("training_loss", "C7"), ("validation_loss", "C0")):
        curves = np.array([entry[name] for entry in fitted.history]).reshape(len(steps), -1)
        axes.plot(
            steps, curves, style, label=[name.replace("_", " ")] + [None] * (curves.shape[1] - 1)
        )
    for i, (name, level) in enumerate(baselines.items()):
        axes.axhline(level, color=f"C{i + 1}", linestyle=":", label=f"{name} {level:.3f}")
    axes.set(title=title, xlabel="updates", ylabel=unit)
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp's are for the owner's eyes only
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
