"""Keras: the weights of `keras.layers.GRU`, alone or within a `Bidirectional`."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..cells.gru import GRUParams, Reset
from ..stack.params import Bidirectional, GRUStack
from ._arrays import shape_of
from ._entries import biases, checked, hidden_size, negated_z, read, require
from ._find import Cells, Layout, cells_of, check_mapping, flatten, no_gru_at, one_layer, split
from ._formats import FORMATS
from ._keras_file import KerasFile, config_at, read_file, reset_after_of
from ._keras_variables import NAMES, check_one_cell, named_weights


def _is_gru(entries: Mapping[str, Any]) -> bool:
    shape = shape_of(entries.get("recurrent_kernel"))
    return len(shape) == 2 and shape[1] == 3 * shape[0]


_LAYOUT = Layout(
    "weights of keras.layers.GRU", "/", re.compile(r"(?:(.*)/)?recurrent_kernel"), _is_gru
)
_STACKED = re.compile(r"stacked_rnn_cells(_\d+)?|cells")  # the cells of RNN([GRUCell(...), ...])
_KINDS = (
    "{w.path: w for w in layer.weights}, layer.weights, layer.get_weights(), or the path of a "
    ".keras, .weights.h5 or .h5 file"
)


def from_keras(
    weights: Mapping[str, Any] | Sequence[Any] | str | os.PathLike[str],
    *,
    reset_after: bool | None = None,
    prefix: str | None = None,
) -> GRUParams | Bidirectional | GRUStack:
    """Reads the weights of a `keras.layers.GRU`, alone, in a model, or in a file of Keras 3 or 2.

    Keras computes h' = z ∘ h + (1 − z) ∘ n: z is negated; the order of the gates is the same. With
    reset_after=True there are two biases per gate, of which only the sums for z and r matter: they
    are added, and `to_keras` writes the sum to the first. Everything else is lossless.

    The configuration in a `.keras` file and in a whole-model `.h5` file is checked for the
    activations, which must be tanh and sigmoid, for reset_after and for use_bias. Without a
    configuration (`.weights.h5`, arrays, a subclassed model) tanh and sigmoid are assumed. Options
    that do not change the weights are up to the caller: `dropout`, `return_sequences`,
    `go_backwards` (`reverse=True` of `gru_unroll`, with the outputs in their own order), and the
    `merge_mode` of a `Bidirectional`, which is "concat" in `gru_stack_unroll`.

    Args:
      weights: one of

        - {"kernel": `[I, 3H]`, "recurrent_kernel": `[H, 3H]`, "bias": `[2, 3H]`, or `[3H]` with
          reset_after=False, or absent with use_bias=False}; {"forward": such a mapping,
          "backward": another} for a `Bidirectional`;
        - {w.path: w for w in model.weights}, or `model.weights`. In Keras 3 `w.name` is just
          "kernel": {w.name: w} of a `Bidirectional` keeps one direction only, which is refused if
          the values are Keras variables, but cannot be detected in arrays;
        - `layer.get_weights()`: 2 or 3 arrays of a GRU, 4 or 6 of a `Bidirectional`, not those of
          several layers;
        - the path of a `.keras`, `.weights.h5` or whole-model `.h5` file. Needs h5py.

        Float16, bfloat16, float32 or float64.
      reset_after: as given to the layer. None infers it from the configuration, or else from the
        bias; without either it is True, Keras' default.
      prefix: the layer's name, "encoder/gru" or any other consecutive parts of `w.path`; or the
        group "layers/gru_1" in a `.keras` or `.weights.h5` file; files of older versions of Keras
        store no names. None selects the only GRU.

    Returns:
      A `GRUParams` with w_x `[I, 3H]`, w_h `[H, 3H]`, and b `[3H]` and, for reset="after", b_hn
      `[H]`, or None; a `Bidirectional` of two; or a `GRUStack` for `RNN([GRUCell(...), ...])`.

    Raises:
      ValueError: no GRU, several GRUs without a `prefix`, none at the `prefix`, other activations,
        a `reset_after` that is not the layer's, an entry that is missing, unknown or has the wrong
        shape or dtype, or a path that cannot be read.

    >>> import numpy as np
    >>> from gru_jax import convert
    >>> shapes = {"kernel": (3, 15), "recurrent_kernel": (5, 15), "bias": (2, 15)}
    >>> convert.from_keras({name: np.ones(shape) for name, shape in shapes.items()}).hidden_size
    5
    """
    if reset_after is not None and not isinstance(reset_after, (bool, np.bool_)):
        raise ValueError(
            f"reset_after is a {type(reset_after).__name__}, but must be True, False or None."
        )
    file = KerasFile({}, {}, [])
    named: Any = weights
    if isinstance(weights, (str, os.PathLike)):
        file = read_file(weights)
        named = file.weights
    elif isinstance(weights, (list, tuple)):
        named = named_weights(weights)
    check_mapping("weights", named, _KINDS)
    if prefix is None and ("forward" in named or "backward" in named):
        return _both(named, reset_after)
    cells = _select(_cells(named), prefix, file.groups)
    check_one_cell(cells.get((), {}))
    paths = {_LAYOUT.at(path): path for path in cells}

    def params(what: str, entries: Mapping[str, Any]) -> GRUParams:
        return _read(what, entries, reset_after, config_at(what, paths[what], file.configs))

    parents = {path[:-1] for path in cells}
    if len(cells) > 1 and len(parents) == 1 and _STACKED.fullmatch("".join(parents.pop()[-1:])):
        return _stack({what: params(what, cells[path]) for what, path in paths.items()})
    parts = [params(*each) for each in one_layer(_LAYOUT, cells)]
    return parts[0] if len(parts) == 1 else Bidirectional(*parts)


def to_keras(params: GRUParams | Bidirectional) -> dict[str, Any]:
    """Writes the weights of a `keras.layers.GRU` or `Bidirectional`: the inverse of `from_keras`.

    To load them into a built layer with the same reset: `layer.set_weights([np.asarray(w) for w in
    to_keras(params).values()])`; of a `Bidirectional`, into `layer.forward_layer` and
    `layer.backward_layer`.

    Args:
      params: w_x `[I, 3H]`, w_h `[H, 3H]`, and b `[3H]` and b_hn `[H]` or None, with either reset;
        or a `Bidirectional` of two.

    Returns:
      {"kernel": `[I, 3H]`, "recurrent_kernel": `[H, 3H]`, "bias": `[2, 3H]` for reset="after",
      `[3H]` for reset="before"} in the dtype of the parameters; no bias if `params` has none. For
      a `Bidirectional` {"forward": such a mapping, "backward": another}.

    Raises:
      ValueError: another class, or an array of the wrong shape or dtype.

    >>> import jax, gru_jax
    >>> params = gru_jax.init_gru(jax.random.key(0), 3, 5, reset="after")
    >>> {name: array.shape for name, array in gru_jax.convert.to_keras(params).items()}
    {'kernel': (3, 15), 'recurrent_kernel': (5, 15), 'bias': (2, 15)}
    """
    if isinstance(params, Bidirectional):
        parts = {"forward": params.forward, "backward": params.backward}
        return {name: _write(f"params.{name}", part) for name, part in parts.items()}
    return _write("params", params)


def _write(name: str, params: GRUParams) -> dict[str, jax.Array]:
    params = checked(FORMATS["keras"], params, name)
    weights = {"kernel": negated_z(params.w_x), "recurrent_kernel": negated_z(params.w_h)}
    both = biases(params)
    if both is not None and params.reset == "before":
        weights["bias"] = negated_z(both[0])
    elif both is not None:
        inner = jnp.zeros_like(both[0]).at[2 * params.hidden_size :].set(both[1])
        weights["bias"] = jnp.stack([negated_z(both[0]), inner])
    return weights


def _read(
    what: str, entries: Mapping[str, Any], reset_after: bool | None, config: dict[str, Any] | None
) -> GRUParams:
    biased = entries.get("bias") is not None
    if config is not None:
        biased = config.get("use_bias", biased)
        saved = reset_after_of(config)
        if reset_after not in (None, saved):
            raise ValueError(f"reset_after is {reset_after}, but {what} has reset_after={saved}.")
        reset_after = saved
    w_x, w_h, *b = read(what, entries, NAMES if biased else NAMES[:2])
    hidden = hidden_size(what, "recurrent_kernel", w_h, axis=1)
    require(what, "kernel", w_x, (None, 3 * hidden), "(I, 3H)")
    if reset_after is None:
        reset_after = not b or b[0].ndim != 1
    reset: Reset = "after" if reset_after else "before"
    bias = b_hn = None
    if b and b[0].shape == (6 * hidden,):
        raise ValueError(
            f"{what}: bias has shape {b[0].shape} = (6H,), which is a CuDNNGRU's, whose weights "
            "are transposed: let Keras 2 load it into a GRU with reset_after=True, and save that."
        )
    if b and reset_after:
        require(f"{what} with reset_after=True", "bias", b[0], (2, 3 * hidden), "(2, 3H)")
        inner = b[0][1].at[2 * hidden :].set(0)
        bias, b_hn = negated_z(b[0][0] + inner), b[0][1, 2 * hidden :]
    elif b:
        require(f"{what} with reset_after=False", "bias", b[0], (3 * hidden,), "(3H,)")
        bias = negated_z(b[0])
    return GRUParams(negated_z(w_x), negated_z(w_h), bias, b_hn, reset)


def _stack(layers: Mapping[str, GRUParams]) -> GRUStack:
    """The cells of a StackedRNNCells, which must be in order."""
    inputs = None
    for what, layer in layers.items():
        if inputs not in (None, layer.input_size):
            raise ValueError(
                f"{what}: kernel has {layer.input_size} inputs, but the cell before it has "
                f"{inputs} outputs: the cells must come in the order of the layer's weights."
            )
        inputs = layer.hidden_size
    return GRUStack(tuple(layers.values()))


def _both(weights: Mapping[str, Any], reset_after: bool | None) -> Bidirectional:
    if set(weights) != {"forward", "backward"}:
        raise ValueError(
            f"weights of keras.layers.Bidirectional has {sorted(weights, key=str)}, but must have "
            "['backward', 'forward']."
        )
    parts = []
    for name in ("forward", "backward"):
        part = weights[name]
        if isinstance(part, (list, tuple)):
            part = named_weights(part)
        check_mapping(f"weights[{name!r}]", part, "as of a keras.layers.GRU")
        # the mapping names the directions: paths of variables must not be paired by name
        ((_, entries),) = one_layer(_LAYOUT._replace(directions=False), _cells(part))
        parts.append(_read(f"{_LAYOUT.what}, {name},", entries, reset_after, None))
    return Bidirectional(*parts)


def _cells(weights: Mapping[str, Any]) -> Cells:
    entries = flatten(_LAYOUT.what, weights).items()
    return cells_of(_LAYOUT, {name.removesuffix(":0"): value for name, value in entries})


def _select(cells: Cells, prefix: str | None, groups: Mapping[str, str]) -> Cells:
    """The cells whose path contains the prefix, or whose group starts with it."""
    if prefix is None:
        return cells
    wanted = split(_LAYOUT, prefix)
    if wanted in cells:
        return {wanted: cells[wanted]}
    grouped = {split(_LAYOUT, path): split(_LAYOUT, group) for group, path in groups.items()}
    selected = {
        path: entries
        for path, entries in cells.items()
        if grouped.get(path, ())[: len(wanted)] == wanted
        or (
            grouped.get(path) != path  # a path of names, not of groups
            and any(path[i : i + len(wanted)] == wanted for i in range(len(path) + 1))
        )
    }
    if not selected:
        raise no_gru_at(_LAYOUT, prefix, cells)
    return selected
