"""The figures: accuracy over training and by pixels seen, and the belief in an image's digits."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.harness.figures import saved_figure
from experiments.pixels.data import PIXELS, ROW

COLOURS = {"sequential": "C0", "permuted": "C1"}
SEEN = np.arange(ROW, PIXELS + 1, ROW)
"""Pixels after which a belief is known."""


class Followed(NamedTuple):
    """An image, and the belief in each digit after 28, 56, ... 784 pixels."""

    title: str
    image: np.ndarray  # [28, 28]
    belief: np.ndarray  # [28, 10]


def plot(path: Path, orders: Mapping[str, Any]) -> None:
    """Draws validation error by updates, and test accuracy by the pixels seen, to a PNG."""
    with saved_figure(path, 11, 4.2) as figure:
        left, right = figure.subplots(1, 2)
        for order, found in orders.items():
            colour = COLOURS[order]
            steps = [entry["step"] for entry in found["history"]]
            errors = [entry["validation_loss"] for entry in found["history"]]
            left.semilogy(steps, 100 * np.array(errors, float), color=colour)
            curves = 100 * np.array(found["accuracy_after_rows"]).T
            label = f"{order}, {curves[-1].mean():.2f} % at the end"
            labels = [label] + [None] * (curves.shape[1] - 1)
            right.plot(SEEN, curves, ".-", color=colour, label=labels)
        left.set(xlabel="updates", ylabel="validation, % wrong", title="training")
        left.yaxis.set_major_formatter("{x:g}")
        left.yaxis.set_minor_formatter("{x:g}")
        right.set(xlabel="pixels seen", ylabel="test, % right", title="images cut off")
        right.set(xlim=(0, PIXELS), ylim=(0, 100), xticks=range(0, PIXELS + 1, PIXELS // 7))
        right.legend(frameon=False, loc="lower right")
        for axes in (left, right):
            axes.grid(alpha=0.3)


def plot_beliefs(path: Path, images: Sequence[Followed]) -> None:
    """Draws for each image the belief in the ten digits by the pixels seen, to a PNG."""
    with saved_figure(path, 11, 1.9 * len(images)) as figure:
        grid = figure.subplots(len(images), 2, squeeze=False, width_ratios=(1, 6))
        for (left, right), each in zip(grid, images, strict=True):
            left.imshow(each.image, cmap="gray_r")
            left.set_axis_off()
            for digit, belief in enumerate(each.belief.T):
                right.plot(SEEN, belief, color=f"C{digit}", label=str(digit))
                right.fill_between(SEEN, belief, color=f"C{digit}", alpha=0.3, linewidth=0)
            right.set(xlim=(0, PIXELS), ylim=(0, 1), ylabel="probability")
            right.set_xticks(range(0, PIXELS + 1, PIXELS // 7))
            right.set_title(each.title, loc="left", size=10)
            right.grid(alpha=0.3)
        labelled = grid[0, 1].get_legend_handles_labels()
        figure.legend(*labelled, frameon=False, loc="outside right upper")
        grid[-1, 1].set_xlabel("pixels seen")
