"""What the benchmark prints and draws."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from experiments.benchmark.ours import OURS
from experiments.benchmark.peers import PEERS
from experiments.benchmark.timing import Entry
from experiments.harness.figures import saved_figure
from experiments.harness.records import markdown_table

SHOWN = ("gru_jax", "gru_jax before", "gru_jax vmap", "gru_jax devices", *PEERS)
"""In tables and figure; what trades memory is in the record."""
DTYPES = ("float32", "bfloat16")


def table(title: str, entries: Mapping[str, Entry]) -> str:
    """One workload and mode, for the terminal."""
    lines = [f"{title:16} {'median ms':>10} {'min ms':>9} {'ratio':>6} {'compile s':>9} {'MB':>7}"]
    for name, entry in entries.items():
        compiling = "" if entry.compile_seconds is None else f"{entry.compile_seconds:.2f}"
        space = "" if entry.temporary_bytes is None else f"{entry.temporary_bytes / 1e6:.1f}"
        lines.append(
            f"{name:16} {entry.median_ms:10.2f} {entry.min_ms:9.2f} {entry.ratio:6.2f} "
            f"{compiling:>9} {space:>7}"
        )
    return "\n".join(lines) + "\n"


def markdown(workloads: Mapping[str, Any], names: Iterable[str] = SHOWN) -> str:
    """The README's table: median milliseconds, training / forward."""
    rows = []
    for name in names:
        cells = [
            " / ".join(
                f"{modes[mode][name]['median_ms']:.1f}" if name in modes[mode] else "–"
                for mode in ("train", "forward")
            )
            for modes in workloads.values()
        ]
        rows.append([name, *cells])
    return markdown_table(["train / forward, ms", *workloads], rows)


def markdown_memory(memory: Mapping[str, Mapping[str, int]]) -> str:
    """The README's table: temporary megabytes by T."""
    lengths = next(iter(memory.values()))
    rows = [[name, *(f"{n / 1e6:.1f}" for n in row.values())] for name, row in memory.items()]
    return markdown_table(["temporary MB", *(f"T = {int(steps):,}" for steps in lengths)], rows)


def markdown_precision(precision: Mapping[str, Mapping[str, float]]) -> str:
    """The README's table: bfloat16 compared with float32."""
    head = "workload", "float32, ms", "bfloat16, ms", "largest error of hs", "of dW_h, relative"
    rows = []
    for name, row in precision.items():
        times = [f"{row[f'train_{d}_ms']:.1f} / {row[f'forward_{d}_ms']:.1f}" for d in DTYPES]
        errors = [f"{row[f'largest_error_of_{x}']:.4f}" for x in ("hs", "dw_h")]
        rows.append([name, *times, *errors])
    return markdown_table(head, rows)


def plot(path: Path, results: Mapping[str, Any]) -> None:
    """Draws the ratios to the fastest peer and, where measured, the growth with each size."""
    names = [name for name in SHOWN if name != "NumPy"]  # far off the scale
    colours = {name: "black" if name in OURS else f"C{i % 10}" for i, name in enumerate(names)}
    workloads, sweep = results["workloads"], results.get("sweep", {})
    with saved_figure(path, 13, 9 if sweep else 5) as figure:
        parts: Any = figure.subfigures(2, 1) if sweep else (figure, figure)
        upper, lower = parts
        panels = upper.subplots(1, 2, sharey=True)
        for axes, mode in zip(panels, ("train", "forward"), strict=True):
            draw_ratios(axes, mode, workloads, colours)
        panels[-1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        if sweep:
            draw_sweep(lower.subplots(1, len(sweep)), sweep, colours)


def plot_models(path: Path, curve: Mapping[str, Any]) -> None:
    """Draws the time of a gradient mapped over models against their number, to a PNG."""
    counts = [int(count) for count in curve]
    with saved_figure(path, 7, 4.2) as figure:
        axes = figure.subplots()
        for name in next(iter(curve.values())):
            if name != "sizes":
                times = [entries[name]["median_ms"] for entries in curve.values()]
                axes.loglog(counts, times, marker=".", label=name)
        sizes = [str(size) for size in next(iter(curve.values()))["sizes"].values()][1:]
        axes.set_xticks(counts, map(str, counts))
        axes.minorticks_off()
        axes.set(
            title=f"gradients mapped over models, T · B · I · H = {' · '.join(sizes)}",
            xlabel="models",
            ylabel="ms",
        )
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)


def draw_ratios(
    axes: Any, mode: str, workloads: Mapping[str, Any], colours: Mapping[str, str]
) -> None:
    """Draws each implementation's median time over the fastest peer's, a row per workload."""
    ours = {"gru_jax": "*", "gru_jax before": "P", "gru_jax vmap": "v", "gru_jax devices": "D"}
    for name, colour in colours.items():
        found = [
            (modes[mode][name]["ratio"], i)
            for i, modes in enumerate(workloads.values())
            if name in modes[mode]
        ]
        if found:
            axes.plot(
                *zip(*found, strict=True),
                ours.get(name, "o"),
                color=colour,
                label=name,
                alpha=0.8,
                markersize=13 if name == "gru_jax" else 8,
            )
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_xscale("log")
    ticks = [0.25, 0.5, 1, 2, 4, 8]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(
        range(len(workloads)),
        [f"{k}\n{'·'.join(map(str, v['shape'].values()))}" for k, v in workloads.items()],
    )
    axes.set(title=mode, xlabel="median time / fastest peer's", ylim=(len(workloads) - 0.5, -0.5))
    axes.grid(alpha=0.3)


def draw_sweep(panels: Any, sweep: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    """Draws the time against each size, one panel each."""
    for axes, (axis, modes) in zip(panels, sweep.items(), strict=True):
        for mode, line in (("train", "-"), ("forward", ":")):
            for name, row in modes[mode].items():
                sizes = [int(size) for size in row]
                label = name if mode == "train" else None
                axes.loglog(
                    sizes, list(row.values()), line, marker=".", color=colours[name], label=label
                )
        axes.set_xticks(sizes, map(str, sizes))
        axes.minorticks_off()
        axes.set(xlabel=axis, ylabel="ms, training (solid), forward (dotted)")
        axes.grid(alpha=0.3)
    panels[-1].legend(frameon=False)
