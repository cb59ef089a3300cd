"""The order of the GRU nodes of a model, and validation that they are one `GRUStack`."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ._onnx_graph import Graph, label, listed

ALONE = "node=its name reads one node; its inputs are then up to the caller."
_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h")
# Nodes that only move, repeat or round the values of their first input (Concat: of all inputs).
_MOVES = (
    *("Cast", "CastLike", "Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape"),
    *("Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
)


def described(grus: list[Any]) -> str:
    """GRU nodes with their names, directions and inputs."""
    each = []
    for gru in grus:
        facts = [f"direction {a.s.decode()}" for a in gru.attribute if a.name == "direction"]
        named = zip(_INPUTS, gru.input, strict=False)
        facts += [f"{slot} {name!r}" for slot, name in named if name and slot not in "WRB"]
        each.append(f"{label(gru)!r} ({', '.join(facts)})")
    return f"{len(each)} GRU node{'s'[: len(each) > 1]}: {', '.join(each)}"


def chain_of(graph: Graph, grus: list[Any], recurrent: Mapping[int, npt.NDArray[Any]]) -> list[Any]:
    """The GRU nodes in the order in which they run.

    Args:
      graph: the graph of the model.
      grus: its GRU nodes.
      recurrent: their weights R `[D, 3H, H]`, by the node's id.

    Raises:
      ValueError: the nodes are not a chain, where each reads the states of the previous one and
        nothing else; or a direction, an initial state or lengths that a `GRUStack` cannot
        represent.
    """
    chain = _linked(graph, grus)
    for gru in chain:
        if any(a.name == "direction" and a.s == b"reverse" for a in gru.attribute):
            raise ValueError(
                f"the model has {described([gru])}, but a GRUStack has no layer that only runs in "
                f"reverse. node={label(gru)!r}, direction='reverse' reads it, for "
                "gru_unroll(..., reverse=True)."
            )
        _check_state(graph, gru)
    shape = graph.shape(chain[0].input[0]) or ()
    sizes = shape[:2] if len(shape) == 3 else None
    for below, gru in pairwise(chain):
        _check_between(graph, below, gru, sizes, recurrent[id(below)])
    _check_lengths(graph, chain, sizes)
    _check_skips(graph, chain)
    return chain


def _linked(graph: Graph, grus: list[Any]) -> list[Any]:
    """The nodes, each after the one whose states it reads."""
    states = {gru.output[0]: gru for gru in grus if gru.output and gru.output[0]}
    stops = frozenset(name for gru in grus for name in gru.output if name)
    above: dict[int | None, Any] = {}  # by the id of the one below, None for the input
    for gru in grus:
        nodes, starts = graph.upstream(gru.input[0], stops, shapes=False)
        below = states.get(*starts) if len(starts) == 1 else None
        key = None if below is None else id(below)
        if (below is None and starts & stops) or key in above:
            by = f" by {listed(nodes)}" if nodes else ""
            raise ValueError(
                f"the model has {described(grus)}. They are no stack, where each reads the states "
                f"Y of the one before and nothing else: X of {label(gru)!r} is made from "
                f"{', '.join(map(repr, sorted(starts)))}{by}. {ALONE}"
            )
        above[key] = gru
    chain = [above[None]]
    while id(chain[-1]) in above:
        chain.append(above[id(chain[-1])])
    return chain


def _check_between(graph: Graph, below: Any, gru: Any, sizes: Any, r: npt.NDArray[Any]) -> None:
    """Raises `ValueError` unless the nodes between two GRUs only concatenate the directions.

    They are evaluated on random states of the model's own sizes, because a Reshape may fix sizes.
    If a size is open and no node reads it, there are enough steps for a crop to be noticed.
    """
    nodes, _ = graph.upstream(gru.input[0], frozenset(below.output[:1]), shapes=False)
    shapes = [node for node in nodes if node.op_type in ("Shape", "Size")]
    moves = [node for node in nodes if node not in shapes]
    feeds: dict[str, npt.NDArray[Any]] = {}
    for node in shapes:
        asked = graph.shape(node.input[0])
        ends = {a.name: a.i for a in node.attribute}
        if asked is None:
            raise ValueError(f"the shape of {node.input[0]!r} cannot be inferred. {ALONE}")
        asked = asked[ends.get("start") : ends.get("end")]
        feeds[node.output[0]] = np.array(np.prod(asked) if node.op_type == "Size" else asked)
    steps, batch = (n if shapes or n not in graph.open_sizes else 0 for n in sizes or (0, 0))
    shape = steps or 4099, len(r), batch or 2, r.shape[2]
    precision: Any = np.float64 if r.dtype == np.float64 else np.float32
    probe = (3 * np.random.default_rng(0).standard_normal(shape, precision)).astype(r.dtype)
    feeds[below.output[0]] = probe
    concatenated = probe.transpose(0, 2, 1, 3).reshape(shape[0], shape[2], -1)
    problem = ""
    try:
        same = np.array_equal(graph.evaluate(gru.input[0], moves, feeds), concatenated)
    except ValueError as error:
        same, problem = False, f": {error}"
    if not same:
        raise ValueError(
            f"the states Y of {label(below)!r} reach X of {label(gru)!r} changed by "
            f"{listed(nodes) or 'nothing'}{problem}; in a GRUStack nothing is between the layers. "
            f"{ALONE}"
        )


def _check_state(graph: Graph, gru: Any) -> None:
    """Raises `ValueError` for initial states other than zeros and inputs of the model."""
    pending, what = [*gru.input[5:6]], f"initial_h of the GRU node {label(gru)!r}"
    while pending:
        name = pending.pop()
        node = graph.producers.get(name)
        if not name or name in graph.inputs:
            continue
        if node is not None and node.op_type in _MOVES:
            pending += node.input if node.op_type == "Concat" else node.input[:1]
            continue
        if node is not None and node.op_type == "ConstantOfShape":
            value: Any = graph.evaluate(name, [node], {node.input[0]: np.array([1])})
        else:
            value = graph.constant(name)
        if value is None:
            raise ValueError(f"{what} is computed by {listed([node] if node else [])}. {ALONE}")
        if np.any(value != 0):
            raise ValueError(f"{what} is {name!r}, a constant that is not zero. {ALONE}")


def _check_lengths(graph: Graph, chain: list[Any], sizes: tuple[int, ...] | None) -> None:
    """Raises `ValueError` for lengths that differ between layers, or are constants below T."""
    names = []
    for gru in chain:
        name = next(iter(gru.input[4:5]), "")
        while name in graph.producers and graph.producers[name].op_type in ("Identity", "Cast"):
            name = graph.producers[name].input[0]
        names.append(name)
    if len(set(names)) > 1:
        raise ValueError(
            f"the model has {described(chain)}, with other sequence_lens in one layer than in "
            f"another, but a GRUStack has one mask. {ALONE}"
        )
    value = graph.constant(names[0]) if names[0] else None
    full = sizes and sizes[0] not in graph.open_sizes and np.all(value == sizes[0])
    if value is not None and not full:
        raise ValueError(
            f"sequence_lens {names[0]!r} of the GRU node {label(chain[0])!r} is the constant "
            f"{value.tolist()}, which a GRUStack cannot represent. {ALONE}"
        )


def _check_skips(graph: Graph, chain: list[Any]) -> None:
    """Raises `ValueError` if states of a lower layer bypass the layers above to an output."""
    stops = frozenset(name for gru in chain for name in gru.output if name)
    for output in graph.outputs:
        nodes, starts = graph.upstream(output, stops, shapes=False)
        for gru in chain[:-1]:
            if gru.output[0] in starts:
                raise ValueError(
                    f"the states Y of {label(gru)!r} reach the output {output!r} past the nodes "
                    f"above it, by {listed(nodes) or 'nothing'}: a GRUStack gives the states of "
                    f"its last layer. {ALONE}"
                )
