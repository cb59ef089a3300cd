"""The attention of single examples, as a figure, and their text."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.harness.figures import saved_figure


def as_text(example: Mapping[str, Any], separators: tuple[str, str]) -> str:
    """A source, what was found, and a right target unless that was it."""
    found = separators[1].join(example["found"])
    right = [separators[1].join(target) for target in example["references"]]
    verdict = "right" if found in right else f"not {' or '.join(right)}"
    return f"{separators[0].join(example['source'])} -> {found} ({verdict})"


def plot(path: Path, examples: Sequence[Mapping[str, Any]]) -> None:
    """Attention matrices, a row for each token that was found and one for the end, to a PNG."""
    rows = -(-len(examples) // 3)
    with saved_figure(path, 13, 4.6 * rows) as figure:
        grid = figure.subplots(rows, 3, squeeze=False).flat
        for axes, example in zip(grid, examples, strict=False):
            axes.imshow(example["attention"], cmap="Greys", vmin=0, vmax=1, aspect="auto")
            for axis, tokens in ((axes.xaxis, example["source"]), (axes.yaxis, example["found"])):
                axis.set_ticks(range(len(tokens) + 1), [*tokens, "end"])
            if any(len(token) > 2 for token in example["source"]):
                axes.tick_params(axis="x", rotation=90)
            right = example["found"] in example["references"]
            axes.set_title("right" if right else "wrong", fontsize=9)
        for axes in figure.axes[len(examples) :]:
            axes.axis("off")
