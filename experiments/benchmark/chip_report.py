"""The tables and the figure of programs for GPUs and TPUs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.benchmark.chips import CHIPS
from experiments.benchmark.report import markdown
from experiments.harness.figures import saved_figure
from experiments.harness.records import markdown_table

MODES = ("train", "forward")


def table(title: str, entries: Mapping[str, Any], steps: int) -> str:
    """One workload and mode on one chip, for the terminal."""
    lines = [f"{title:24} {'launches':>8} {'per step':>8} {'MB':>7} {'compile s':>9}"]
    for name, entry in entries.items():
        lines.append(
            f"{name:24} {entry['launches']:8} {entry['launches'] / steps:8.1f} "
            f"{entry['temporary_bytes'] / 1e6:7.1f} {entry['compile_seconds']:9.1f}"
        )
    return "\n".join(lines) + "\n"


def tables(results: Mapping[str, Any]) -> dict[str, str]:
    """The tables that the page shows."""
    chips = results["chips"]
    shown = {f"launches on {chip}": markdown_launches(chip, chips[chip]) for chip in chips}
    if chips:
        shown["needs"] = markdown_needs(chips)
        shown["kernels"] = markdown_kernels(chips)
    if "device" in results:
        kind, workloads = results["device"]["kind"], results["device"]["workloads"]
        times = markdown(workloads, _names(workloads))
        shown["times"] = times.replace("train / forward, ms", f"{kind}: train / forward, ms", 1)
        rows = {
            name: [_error(modes["largest_errors"].get(name)) for modes in workloads.values()]
            for name in _names(workloads)
            if any(name in modes["largest_errors"] for modes in workloads.values())
        }
        if rows:
            shown["errors"] = _markdown(f"{kind}: largest relative error", workloads, rows)
    return shown


def _error(error: float | None) -> str:
    return "–" if error is None else f"{error:.1e}"


def markdown_launches(chip: str, workloads: Mapping[str, Any]) -> str:
    """Launches per step, and per call, on one chip; operations, where nothing is launched."""
    unit = "operations" if CHIPS[chip].platform == "tpu" else "launches"
    rows = {
        name: [
            " / ".join(_launches(modes["shape"]["steps"], modes[mode].get(name)) for mode in MODES)
            for modes in workloads.values()
        ]
        for name in _names(workloads)
    }
    return _markdown(f"{chip}: {unit} per step (per call), train / forward", workloads, rows)


def _launches(steps: int, entry: Mapping[str, Any] | None) -> str:
    return "–" if entry is None else f"{entry['launches'] / steps:.1f} ({entry['launches']:,})"


def markdown_needs(chips: Mapping[str, Any]) -> str:
    """Temporary memory and compile time of training, for the first workload."""
    workload = _first(chips)
    rows = {
        name: [
            f"{entry['temporary_bytes'] / 1e6:.1f} ({entry['compile_seconds']:.1f})"
            if (entry := workloads[workload]["train"].get(name))
            else "–"
            for workloads in chips.values()
        ]
        for name in _names({chip: workloads[workload] for chip, workloads in chips.items()})
    }
    return _markdown(f"{workload}, train: temporary MB (seconds to compile)", chips, rows)


def markdown_kernels(chips: Mapping[str, Any]) -> str:
    """Registers, spills and memory of every kernel."""
    memory = "shared memory or VMEM, kB"
    head = "kernel", "chip", "workload", "registers", "spilled bytes", memory
    rows = []
    for chip, workloads in chips.items():
        for workload, mode in ((w, m) for w in workloads for m in MODES):
            for name, entry in workloads[workload][mode].items():
                for kernel in entry["kernels"]:
                    counts = [kernel["registers"], kernel["spilled_bytes"]]
                    cells = [
                        *(f"{name}: {kernel['name']}", chip, f"{workload} {mode}"),
                        *("–" if count is None else str(count) for count in counts),
                        f"{kernel['memory_bytes'] / 1e3:.1f}",
                    ]
                    rows.append(cells)
    return markdown_table(head, rows)


def plot(path: Path, chips: Mapping[str, Any]) -> None:
    """Draws the launches per step of the first workload on every chip, to a PNG."""
    workload = _first(chips)
    here = {chip: workloads[workload] for chip, workloads in chips.items()}
    with saved_figure(path, 11, 4.5) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, mode in zip(panels, MODES, strict=True):
            for i, name in enumerate(_names(here)):
                found = [
                    (at, modes[mode][name]["launches"] / modes["shape"]["steps"])
                    for at, modes in enumerate(here.values())
                    if name in modes[mode]
                ]
                if found:
                    ours = name.startswith("gru_jax")
                    axes.semilogy(
                        *zip(*found, strict=True),
                        ("D" if "pallas" in name else "*") if ours else "o",
                        color="black" if ours else f"C{i}",
                        markersize=10 if ours else 7,
                        fillstyle="none" if "before" in name else "full",
                        label=name,
                    )
            axes.set_xticks(range(len(chips)), chips)
            axes.set(title=f"{workload}, {mode}: compiled, not run", ylabel="launches per step")
            axes.grid(alpha=0.3)
        panels[-1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def _first(chips: Mapping[str, Any]) -> str:
    """The first workload."""
    return str(next(iter(next(iter(chips.values())))))


def _names(workloads: Mapping[str, Any]) -> list[str]:
    """All implementations that any workload has in any mode, in their order."""
    return list(dict.fromkeys(n for modes in workloads.values() for m in MODES for n in modes[m]))


def _markdown(corner: str, columns: Any, rows: Mapping[str, list[str]]) -> str:
    return markdown_table([corner, *columns], [[name, *cells] for name, cells in rows.items()])
