"""ONNX: the weights of a GRU node, and whole models, read and written."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ..cells.gru import GRUParams
from ..stack.params import Bidirectional, GRUStack
from ._onnx_layer import checked_layer, connected, directions, layer_of, node_of
from ._onnx_read import Direction, inputs_of, read_attributes, read_model, sized
from ._onnx_write import write_model


def from_onnx(
    weights: Any,
    *,
    linear_before_reset: int | None = None,
    direction: Direction | None = None,
    node: Any = None,
) -> GRUParams | Bidirectional | GRUStack:
    """Reads a GRU from an ONNX model, or from the inputs W, R and B of an ONNX GRU node.

    ONNX computes h' = (1 − z) ∘ n + z ∘ h: z is negated; the order of the gates is the same. Of
    its two biases per gate, only the sums matter for z and r, and for n with linear_before_reset=0:
    they are added, and `to_onnx` writes the sum to the first. Everything else is lossless.

    **A model** is read as a `GRUStack` of all its GRU nodes, if each reads the states Y of the
    previous one and nothing else. Nodes between them may concatenate the directions (Transpose,
    Reshape, Squeeze, Concat, ...), and weights may be computed from constants. Nodes before the
    first GRU (an embedding, a transpose of batch-major inputs) and after the last are ignored. Of
    the other inputs of the GRU nodes,

    - `sequence_lens`, the same for all, is up to the caller: `gru_stack_unroll(...,
      mask=sequence_mask(sequence_lens, T))`;
    - `initial_h` is up to the caller if it is an input of the model: h0s, one per layer. Otherwise
      it is zeros, like h0s=None.

    Refused by name are clip, layout=1, activations other than Sigmoid and Tanh or with alpha and
    beta, a hidden_size other than R's, unknown attributes and nodes inside an If, Loop or Scan;
    and in a stack direction="reverse", nodes that change values between two layers, states of a
    lower layer that bypass the others to an output, other recurrences (LSTM, RNN, Loop, Scan,
    ReverseSequence), an `initial_h` that is computed or another constant, and `sequence_lens` that
    differ between layers or are constants below T. The functions of a model are inlined.

    With `node`, **one node** is read whatever its inputs are: its X, sequence_lens and initial_h,
    also constant ones, are up to the caller.

    Args:
      weights: a model: its path, its bytes, a `ModelProto` or a `GraphProto`. Needs the package
        `onnx`. Or a mapping {"W": `[D, 3H, I]`, "R": `[D, 3H, H]`, "B": `[D, 6H]` or absent}
        of arrays or `TensorProto`, with D = 2 for direction="bidirectional", otherwise 1. Float16,
        bfloat16, float32 or float64.
      linear_before_reset: the attribute of the node, 0 (reset="before", the default) or 1
        (reset="after"). For a model it must be None or the attribute in the file.
      direction: the attribute of the node, by default "forward". "reverse" gives a `GRUParams` to
        be run with `reverse=True`. For a model it must be None or the attribute in the file; a
        node in reverse is read only with direction="reverse".
      node: a node of the model: its name, the name of one of its outputs, or its `NodeProto`.
        With a `NodeProto`, `weights` may also be a mapping by the names of the node's inputs
        (others are ignored), as in {t.name: t for t in model.graph.initializer}.

    Returns:
      A `GRUStack` for a model; for one node a `GRUParams` with w_x `[I, 3H]`, w_h `[H, 3H]`,
      b `[3H]` or None and, for reset="after", b_hn `[H]` or None, or a `Bidirectional` of two.

    Raises:
      ValueError: an entry that is missing, unknown, not floating or has the wrong shape; anything
        refused above; no GRU node, or several that are not a stack: the message lists the nodes.
      OSError: a file that cannot be opened.
      ModuleNotFoundError: a model without the package `onnx`.

    >>> import numpy as np
    >>> from gru_jax import convert
    >>> weights = {"W": np.ones((1, 15, 3)), "R": np.ones((1, 15, 5))}
    >>> convert.from_onnx(weights, linear_before_reset=1).reset
    'after'

    >>> import jax, gru_jax, tempfile
    >>> stack = gru_jax.init_gru_stack(jax.random.key(0), 3, (5, 4))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nodes = convert.to_onnx(stack, f"{folder}/model.onnx")
    ...     whole = convert.from_onnx(f"{folder}/model.onnx")
    ...     first = convert.from_onnx(f"{folder}/model.onnx", node="gru_0")
    >>> [layer.hidden_size for layer in whole.layers], first.hidden_size
    ([5, 4], 5)
    """
    known = ("forward", "reverse", "bidirectional")
    if direction is not None and not (isinstance(direction, str) and direction in known):
        raise ValueError(
            f"direction is {direction!r}, but must be 'forward', 'reverse' or 'bidirectional'."
        )
    is_number = isinstance(linear_before_reset, int | np.integer)
    if linear_before_reset is not None and not (is_number and linear_before_reset in (0, 1)):
        raise ValueError(f"linear_before_reset is {linear_before_reset!r}, but must be 0 or 1.")
    if not isinstance(weights, Mapping):
        nodes = read_model(weights, node)
        for what, _, linear, own_direction in nodes:
            _agree(what, linear_before_reset, direction, linear, own_direction)
        layers = tuple(layer_of(*each) for each in nodes)
        if node is not None:
            return layers[0]
        connected("the ONNX model", layers)
        return GRUStack(layers)
    what = "the ONNX GRU node"
    if node is None:
        return layer_of(what, weights, linear_before_reset or 0, direction or "forward")
    linear, own_direction, hidden = read_attributes(node)
    _agree(what, linear_before_reset, direction, linear, own_direction)
    named = {slot: weights.get(name) for slot, name in inputs_of(node).items()}
    return layer_of(what, sized(what, named, hidden), linear, own_direction)


def to_onnx(
    network: GRUParams | Bidirectional | GRUStack, path: str | os.PathLike[str] | None = None
) -> dict[str, jax.Array] | list[dict[str, jax.Array]]:
    """Writes the inputs W, R and B of ONNX GRU nodes, and with a path a model that runs them.

    The inverse of `from_onnx`. The model has the inputs `xs` `[time, batch, I]`, `lengths` int32
    `[batch]` and, per layer, `h0_0`, `h0_1`, ... `[D, batch, H]`, and the outputs `hs`
    `[time, batch, D H]`, zero after each row's length, and `h_last_0`, ...: those of
    `gru_stack_unroll` with `mask=sequence_mask(lengths, T)`. Hence a row of length 0 keeps its h0,
    and lengths are clipped to [0, time]. The sizes time and batch are open. Time may be 0;
    onnxruntime's GRU (1.32) crashes on an empty batch, and does not run float64.

    Args:
      network: a `GRUStack`, or one layer: a `GRUParams`, or a `Bidirectional` of two with the same
        hidden size and reset. Each has w_x `[I, 3H]`, w_h `[H, 3H]`, and b `[3H]` and b_hn `[H]`
        or None.
      path: the file to write, atomically. Needs the package `onnx`.

    Returns:
      {"W": `[D, 3H, I]`, "R": `[D, 3H, H]`, "B": `[D, 6H]`} in the dtype of the parameters, with
      D = 2 for a `Bidirectional`, otherwise 1; missing biases are zero. For a `GRUStack` a list
      with one per layer.

    Raises:
      ValueError: another class, mixed dtypes or one that is not floating, directions that one node
        cannot represent, or layers whose sizes do not match; for a model a dtype other than
        float32 and float64, or traced parameters.
      OSError: a path that cannot be written.
      ModuleNotFoundError: a path without the package `onnx`.

    >>> import jax, gru_jax
    >>> from gru_jax import convert
    >>> params = gru_jax.init_gru(jax.random.key(0), 3, 5)
    >>> {name: array.shape for name, array in convert.to_onnx(params).items()}
    {'W': (1, 15, 3), 'R': (1, 15, 5), 'B': (1, 30)}
    """
    named = {"network": network}
    if isinstance(network, GRUStack):
        if not isinstance(network.layers, tuple | list) or not network.layers:
            raise ValueError(
                f"network.layers is {network.layers!r}, but must be a tuple of layers."
            )
        named = {f"network.layers[{i}]": layer for i, layer in enumerate(network.layers)}
    layers = [checked_layer(name, layer) for name, layer in named.items()]
    connected("network", layers)
    nodes = [node_of(layer) for layer in layers]
    if path is not None:
        if not isinstance(path, str | os.PathLike) or not Path(path).name:
            raise ValueError(f"path is {path!r}, but must be the name of a file.")
        write_model(Path(path), [directions(layer)[0].reset for layer in layers], nodes)
    return nodes if isinstance(network, GRUStack) else nodes[0]


def _agree(
    what: str,
    given_linear: int | None,
    given_direction: Direction | None,
    linear: int,
    direction: Direction,
) -> None:
    """Raises `ValueError` for arguments that contradict the file, or a direction not asked for."""
    if given_linear not in (None, linear):
        raise ValueError(
            f"linear_before_reset is {given_linear}, but {what} has {linear}: leave it out."
        )
    if given_direction is None and direction == "reverse":
        raise ValueError(
            f"{what} runs in reverse: pass direction='reverse', and call gru_unroll with "
            "reverse=True."
        )
    if given_direction not in (None, direction):
        raise ValueError(f"direction is {given_direction!r}, but {what} has {direction!r}.")
