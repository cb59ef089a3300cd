"""The words that a classifier decided by, as a figure and in a terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.harness.figures import saved_figure


def _shares(weights: Sequence[float]) -> list[float]:
    """Weights between −1 and 1."""
    greatest = max(map(abs, weights), default=0.0) or 1.0
    return [weight / greatest for weight in weights]


def as_text(sentence: Mapping[str, Any], classes: Sequence[str]) -> str:
    """A sentence with its three words of the highest weights marked, and its classes."""
    weights = sentence["weights"]
    marked = sorted(range(len(weights)), key=lambda i: -weights[i])[:3]
    words = [f"[{w}]" if i in marked else w for i, w in enumerate(sentence["words"])]
    found, right = classes[sentence["found"]], classes[sentence["right"]]
    return f"{found} ({'right' if found == right else f'is {right}'}): {' '.join(words)}"


def plot(path: Path, sentences: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> None:
    """Sentences with words for the class that was found in red and against it in blue, to a PNG."""
    from matplotlib import colormaps

    longest = max(sum(len(word) + 1.2 for word in sentence["words"]) for sentence in sentences)
    height = 0.45 * len(sentences) + 0.3
    text = {"family": "monospace", "size": 8, "va": "center"}
    with saved_figure(path, 0.08 * (28 + longest), height) as figure:
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, 28 + longest), ylim=(-0.5, len(sentences)))
        axes.axis("off")
        for row, sentence in enumerate(reversed(sentences)):
            found, right = classes[sentence["found"]], classes[sentence["right"]]
            head = found if found == right else f"{found} (is {right})"
            axes.text(1, row, head, weight="bold", **text)
            place = 26.0
            for word, share in zip(sentence["words"], _shares(sentence["weights"]), strict=True):
                colour = colormaps["bwr"](0.5 + 0.35 * share)  # light enough for black letters
                background = {"facecolor": colour, "linewidth": 0, "pad": 2}
                axes.text(place, row, word, bbox=background, alpha=0.9, **text)
                place += len(word) + 1.2
