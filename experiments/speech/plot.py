"""A network's posteriors over a string of digits, above the features."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.harness.figures import saved_figure


class Heard(NamedTuple):
    """A string of recordings, and what was heard in it frame by frame."""

    frames: np.ndarray  # [T, 13]
    ends: list[int]  # where each recording ends; the network is not told
    said: str  # its digits, "3 1 4"
    posteriors: np.ndarray  # [T, 11], of the blank and the ten digits
    digits: list[tuple[int, int]]  # the frame in which each was recognised, and itself


def plot(path: Path, strings: Sequence[Heard]) -> None:
    """Draws each string's posteriors above its features, to a PNG."""
    with saved_figure(path, 11, 3.2 * len(strings)) as figure:
        rows = figure.subplots(2 * len(strings), 1, squeeze=False)[:, 0]
        for upper, lower, string in zip(rows[::2], rows[1::2], strings, strict=True):
            time = np.arange(len(string.frames))
            upper.plot(time, string.posteriors[:, 0], color="0.75", linestyle=":", label="blank")
            for digit in range(string.posteriors.shape[1] - 1):
                probability = string.posteriors[:, digit + 1]
                upper.plot(time, probability, color=f"C{digit}")
                upper.fill_between(time, probability, color=f"C{digit}", alpha=0.3, linewidth=0)
            for frame, digit in string.digits:
                upper.text(frame, 1.04, str(digit), color=f"C{digit}", ha="center", weight="bold")
            heard = " ".join(str(digit) for _, digit in string.digits)
            upper.set_title(f"said {string.said}, heard {heard}", loc="left", size=10, pad=16)
            upper.set(ylim=(0, 1), ylabel="posterior", xticks=[])
            upper.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
            lower.imshow(
                string.frames.T, aspect="auto", origin="lower", vmin=-3, vmax=3, cmap="RdBu_r"
            )
            lower.set(xlabel="frame", ylabel="coefficient")
            starts = [0, *string.ends[:-1]]
            for start, end, word in zip(starts, string.ends, string.said.split(), strict=True):
                lower.axvline(end - 0.5, color="k", linewidth=0.8)
                lower.text((start + end) / 2, 13.2, word, ha="center", size=9)
            for axes in (upper, lower):
                axes.set_xlim(-0.5, len(time) - 0.5)
