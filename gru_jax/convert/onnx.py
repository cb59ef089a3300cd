"""ONNX: the GRU node's weights, and whole models, read and written."""

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

    ONNX writes h' = (1 − z) ∘ n + z ∘ h: z is negated; the order of the gates is ours. Of its two
    biases those that only ever add up are added here: z and r, and with linear_before_reset=0 the
    candidate's, too. Back in ONNX the sum stands in the first. Everything else is lossless.

    **A model** gives a `GRUStack` of all its GRU nodes, if each reads the states Y of the one
    before and nothing else: Transpose, Reshape, Squeeze, Concat and whatever else puts the
    directions side by side is followed. Weights may be computed from constants. What lies before
    the first node (an embedding, a transpose of batch-major inputs) and behind the last is not
    read. Of the nodes' other inputs

    - `sequence_lens`, the same in all, is the caller's: `gru_stack_unroll(...,
      mask=sequence_mask(sequence_lens, T))`;
    - `initial_h` is the caller's where the model takes it as an input: h0s, one for each layer.
      Otherwise it is zeros, as h0s=None has it.

    Refused by name are clip, layout=1, activations other than Sigmoid and Tanh or with alpha and
    beta, a hidden_size that is not R's, unknown attributes and nodes inside of If, Loop or Scan;
    and in a stack direction="reverse", nodes that change the numbers between two layers, states of
    a lower layer that reach an output past the others, recurrences besides (LSTM, RNN, Loop, Scan,
    ReverseSequence), an `initial_h` that is another constant or computed, and `sequence_lens` that
    differ between layers or are constants below T. The functions of a model are inlined.

    With `node` **one node** is read alone, whatever feeds it: its X, sequence_lens and initial_h,
    constants too, are then the caller's to give.

    Args:
      weights: a model: its path, its bytes, a `ModelProto` or a `GraphProto`. Needs the package
        `onnx`. Or a mapping {"W": `[D, 3H, I]`, "R": `[D, 3H, H]`, "B": `[D, 6H]` or absent}
        of arrays or `TensorProto`, with D = 2 for direction="bidirectional", otherwise 1.
      linear_before_reset: the node's attribute, 0 (reset="before", the default) or 1
        (reset="after"). A model has its own, which a given one must equal.
      direction: the node's attribute, by default "forward". "reverse" gives a `GRUParams` for
        `reverse=True`. A model has its own, which a given one must equal; a node in reverse is
        only read with direction="reverse" given.
      node: which node of a model: its name, the name of one of its outputs, or its `NodeProto`.
        A `NodeProto` may also go with a mapping, whose keys are then the names of its inputs
        (others are ignored), as in {t.name: t for t in model.graph.initializer}.

    Returns:
      A `GRUStack` for a model; for one node a `GRUParams`, or a `Bidirectional` of two. float64
      becomes float32 without `jax_enable_x64`; all other dtypes stay.

    Raises:
      ValueError: an entry missing, unknown, of the wrong shape or not floating; what is refused
        above; no GRU node, with what there is instead; several that are no stack, with their names.
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
        for what, _, linear, found in nodes:
            _agree(what, linear_before_reset, direction, linear, found)
        layers = tuple(layer_of(*each) for each in nodes)
        if node is not None:
            return layers[0]
        connected("the ONNX model", layers)
        return GRUStack(layers)
    what = "the ONNX GRU node"
    if node is None:
        return layer_of(what, weights, linear_before_reset or 0, direction or "forward")
    linear, found, hidden = read_attributes(node)
    _agree(what, linear_before_reset, direction, linear, found)
    named = {slot: weights.get(name) for slot, name in inputs_of(node).items()}
    return layer_of(what, sized(what, named, hidden), linear, found)


def to_onnx(
    network: GRUParams | Bidirectional | GRUStack, path: str | os.PathLike[str] | None = None
) -> dict[str, jax.Array] | list[dict[str, jax.Array]]:
    """The inverse of `from_onnx`; with a path, writes a model as well.

    The model takes `xs` `[time, batch, I]`, `lengths` int32 `[batch]` and `h0_0`, `h0_1`, ...
    `[D, batch, H]` for each layer, and gives `hs` `[time, batch, D H]`, zero behind each row's
    length, and `h_last_0`, ...: what `gru_stack_unroll` takes and gives, with
    `mask=sequence_mask(lengths, T)`. So a row of length 0 keeps its h0, a length above the time
    counts as the time, and one below 0 as 0. Time and batch are left open. Time may be 0; an
    empty batch makes onnxruntime's GRU (1.32) crash, and float64 it does not run.

    Args:
      network: a stack, or one layer.
      path: the file; written as a whole or not at all. Needs the package `onnx`.

    Returns:
      {"W": `[D, 3H, I]`, "R": `[D, 3H, H]`, "B": `[D, 6H]`}, B zero without biases; for a
      `GRUStack` a list with one for each layer.

    Raises:
      ValueError: what is no network of GRUs, or not of one floating dtype; layers that one node
        cannot hold, or that do not fit on each other; for a model a dtype other than float32 and
        float64, or parameters that are traced.
      OSError: a path that cannot be written.
      ModuleNotFoundError: a path without the package `onnx`.

    >>> import jax, gru_jax
    >>> from gru_jax import convert
    >>> params = gru_jax.init_gru(jax.random.key(0), 3, 5)
    >>> {name: array.shape for name, array in convert.to_onnx(params).items()}
    {'W': (1, 15, 3), 'R': (1, 15, 5), 'B': (1, 30)}
    """
    layers = network.layers if isinstance(network, GRUStack) else (network,)
    if not isinstance(layers, tuple | list) or not layers:
        raise ValueError(f"network.layers is {layers!r}, but must be a tuple of layers.")
    layers = tuple(map(checked_layer, layers))
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
    """Refuses arguments that contradict the file, and a reverse direction that nobody expects."""
    if given_linear not in (None, linear):
        raise ValueError(
            f"linear_before_reset is {given_linear}, but {what} has {linear}: leave it out."
        )
    if given_direction is None and direction == "reverse":
        raise ValueError(
            f"{what} runs in reverse: say direction='reverse', and call gru_unroll with "
            "reverse=True."
        )
    if given_direction not in (None, direction):
        raise ValueError(f"direction is {given_direction!r}, but {what} has {direction!r}.")
