"""Lists and names of the variables of Keras' layers."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ._arrays import shape_of

NAMES = "kernel", "recurrent_kernel", "bias"  # of a cell, in Keras' order


def named_weights(weights: Sequence[Any]) -> dict[str, Any]:
    """A list of variables by path, or of the arrays of one layer by name."""
    if weights and all(hasattr(weight, "path") for weight in weights):
        named = {weight.path: weight for weight in weights}
        if len(named) < len(weights):
            raise ValueError("weights has variables of the same path, but must have one of each.")
        return named
    count = len(weights)
    if count in (2, 3):
        return dict(zip(NAMES, weights, strict=False))
    first, second = weights[: count // 2], weights[count // 2 :]
    if count not in (4, 6) or list(map(shape_of, first)) != list(map(shape_of, second)):
        raise ValueError(
            f"weights is a list of {count}, but must have 2 or 3 arrays of a GRU, or 4 or 6 of a "
            "Bidirectional with equal shapes, as layer.get_weights() of one layer gives them: "
            "of several layers use {w.path: w for w in model.weights}."
        )
    return {
        name: dict(zip(NAMES, half, strict=False))
        for name, half in (("forward", first), ("backward", second))
    }


def check_one_cell(entries: Mapping[str, Any]) -> None:
    """Raises `ValueError` for variables by plain name if a `Bidirectional` has two of each."""
    paths = [str(value.path) for value in entries.values() if hasattr(value, "path")]
    cells = {path.rpartition("/")[0] for path in paths}
    directed = any(re.search(r"/(forward|backward)_[^/]*/", path) for path in paths)
    if len(cells) > 1 or directed:
        raise ValueError(
            f"weights has plain names for {sorted(paths)}, of which a Bidirectional has two each: "
            "use {w.path: w for w in layer.weights}, or layer.weights, for both directions, and "
            "arrays, as in {w.name: np.asarray(w) for w in cell.weights}, for one of them."
        )
