"""Arrays with a leading axis for the layers, as made by `nn.scan` and `nnx.vmap`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from ..cells.gru import GRUParams
from ..stack.params import Bidirectional, GRUStack
from ._entries import read


def each_layer(
    directions: list[tuple[str, Mapping[str, Any]]],
    names: Sequence[str],
    to_params: Callable[[str, list[jax.Array]], GRUParams],
) -> GRUParams | Bidirectional | GRUStack:
    """The parameters of one cell or of two directions; a stack of them if arrays have 3 axes.

    Args:
      directions: the name, for error messages, and the entries of each direction.
      names: the names of the entries, starting with a kernel.
      to_params: converts the arrays of one cell, in the order of the names.

    Raises:
      ValueError: a missing or unknown entry, a wrong shape or dtype, or arrays whose leading axis
        cannot be the layers of a stack.
    """
    cells = [(what, read(what, entries, names)) for what, entries in directions]
    counts = [arrays[0].shape[0] if arrays[0].ndim == 3 else None for _, arrays in cells]
    if counts[0] is None or len(set(counts)) > 1:
        return _one([to_params(what, arrays) for what, arrays in cells])
    for what, arrays in cells:
        for name, array in zip(names, arrays, strict=True):
            if array.ndim < 2 or array.shape[0] != counts[0] or not counts[0]:
                raise ValueError(
                    f"{what}: {name} has shape {array.shape}, but must have {counts[0]} layers, "
                    f"as {names[0]} of shape {arrays[0].shape}."
                )
    layers = [
        _one([to_params(what, [array[i] for array in arrays]) for what, arrays in cells])
        for i in range(counts[0])
    ]
    width = sum(cell.hidden_size for cell in jax.tree.leaves(layers[0], is_leaf=_is_cell))
    inputs = jax.tree.leaves(layers[0], is_leaf=_is_cell)[0].input_size
    if inputs != width:
        raise ValueError(
            f"{cells[0][0]}: {names[0]} has shape {cells[0][1][0].shape}, {counts[0]} cells with "
            f"inputs of {inputs} and outputs of {width}, which cannot be layers of a stack: "
            "convert jax.tree.map(lambda array: array[i], ...) for each i, or under jax.vmap."
        )
    return GRUStack(tuple(layers))


def _one(cells: list[GRUParams]) -> GRUParams | Bidirectional:
    return cells[0] if len(cells) == 1 else Bidirectional(*cells)


def _is_cell(tree: Any) -> bool:
    return isinstance(tree, GRUParams)
