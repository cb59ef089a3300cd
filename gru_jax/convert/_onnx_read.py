"""Finding, reading and validating the GRU nodes of an ONNX model."""

import os
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ._onnx_chain import ALONE, chain_of, described
from ._onnx_graph import Graph, import_onnx, label, listed, nodes_inside

Direction = Literal["forward", "reverse", "bidirectional"]


class GRUNode(NamedTuple):
    """The weights and attributes of a GRU node.

    Attributes:
      what: the node, for error messages.
      weights: its inputs "W" `[D, 3H, I]`, "R" `[D, 3H, H]` and, optionally, "B" `[D, 6H]`.
      linear_before_reset: its attribute, 0 or 1.
      direction: its attribute.
    """

    what: str
    weights: dict[str, Any]
    linear_before_reset: int
    direction: Direction


def read_model(model: Any, node: Any) -> list[GRUNode]:
    """The GRU node that `node` names; if it is None all of them, in the order in which they run."""
    graph = _load(model)
    grus = list(filter(_is_gru, graph.nodes))
    inside = [n for n in graph.nodes if any(map(_is_gru, nodes_inside(n)))]
    others = [n for n in graph.every_node() if _is_recurrent(n)]
    if not grus:
        raise ValueError(_without_gru(graph, inside, others))
    if node is not None:
        return [_read(graph, _pick(graph, grus, node))]
    if inside or others:
        raise ValueError(
            f"the model has {described(grus)}, and besides {listed([*inside, *others])}, which a "
            f"GRUStack would leave out. {ALONE}"
        )
    nodes = {id(gru): _read(graph, gru) for gru in grus}
    recurrent = {key: node.weights["R"] for key, node in nodes.items()}
    return [nodes[id(gru)] for gru in chain_of(graph, grus, recurrent)]


def read_attributes(node: Any) -> tuple[int, Direction, int | None]:
    """The attributes (linear_before_reset, direction, hidden_size) of a GRU node.

    Raises:
      ValueError: not a GRU node, or attributes of another function than this library's GRU.
    """
    helper = import_onnx("a NodeProto").helper
    if not _is_gru(node):
        what = listed([node]) if hasattr(node, "op_type") else f"a {type(node).__name__}"
        raise ValueError(f"node is {what}, but must be the NodeProto of a GRU.")
    attributes: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    attributes.pop("output_sequence", None)  # of opsets 1 and 3: whether Y is read
    direction = _text(attributes.pop("direction", "forward"))
    linear_before_reset = attributes.pop("linear_before_reset", 0)
    hidden = attributes.pop("hidden_size", None)
    if direction not in ("forward", "reverse", "bidirectional"):
        raise ValueError(f"{_what(node)} has direction={direction!r}, which ONNX does not know.")
    if linear_before_reset not in (0, 1):
        raise ValueError(
            f"{_what(node)} has linear_before_reset={linear_before_reset}, but must have 0 or 1."
        )
    if attributes.pop("layout", 0) != 0:
        raise ValueError(
            f"{_what(node)} has layout=1, batch-major, but must have layout=0. Its weights are "
            "the same in both: give W, R and B as a mapping, and the arrays time-major."
        )
    activations = [_text(name) for name in attributes.pop("activations", [])]
    standard = ["Sigmoid", "Tanh"] * (2 if direction == "bidirectional" else 1)
    if activations and list(map(str.lower, activations)) != list(map(str.lower, standard)):
        raise ValueError(f"{_what(node)} has activations {activations}, but must have {standard}.")
    for name in ("activation_alpha", "activation_beta"):
        if name in attributes and not list(attributes[name]):
            del attributes[name]
    if attributes:
        raise ValueError(
            f"{_what(node)} has {', '.join(f'{k}={v}' for k, v in sorted(attributes.items()))}, "
            "which this library's GRU does not have."
        )
    return linear_before_reset, direction, hidden


def _text(value: Any) -> Any:
    """A string attribute; a malformed one as it is."""
    return str(value, "utf-8", "replace") if isinstance(value, bytes) else str(value)


def _what(node: Any) -> str:
    return f"the ONNX GRU node {label(node)!r}"


def _is_gru(node: Any) -> bool:
    return getattr(node, "op_type", None) == "GRU" and node.domain in ("", "ai.onnx")


def _is_recurrent(node: Any) -> bool:
    """Whether the node is another recurrence, which a stack of the GRUs would leave out."""
    known = ("Loop", "ReverseSequence", "RNN", "Scan")
    other = any(part in node.op_type for part in ("LSTM", "GRU"))
    return node.op_type in known or (other and not _is_gru(node))


def _load(model: Any) -> Graph:
    onnx = import_onnx("from_onnx of a model")
    where = "weights"
    try:
        if isinstance(model, str | os.PathLike):
            where = str(os.fspath(model))
            model = onnx.load(model)
        elif isinstance(model, bytes | bytearray | memoryview):
            model = onnx.load_model_from_string(bytes(model))
        if isinstance(model, onnx.ModelProto) and model.functions:
            model = onnx.inliner.inline_local_functions(model)
    except OSError:
        raise
    except Exception as error:  # the errors of protobuf, onnx and zlib have no common class
        raise ValueError(f"{where} cannot be read as an ONNX model: {error}") from error
    if isinstance(model, onnx.NodeProto):
        raise ValueError(
            f"weights is the NodeProto {label(model)!r}, which holds no weights, but their names: "
            "give the model and node=, or {name: array} of its inputs, and node=."
        )
    if isinstance(model, onnx.GraphProto):
        return Graph(model, {"": onnx.defs.onnx_opset_version()})
    if not isinstance(model, onnx.ModelProto):
        raise ValueError(
            f"weights is a {type(model).__name__}, but must be a mapping of W, R and B, or an "
            "ONNX model: a path, bytes, a ModelProto or a GraphProto."
        )
    if not model.graph.node:
        raise ValueError(f"{where} is no ONNX model, or an empty one: it has no nodes.")
    return Graph(model.graph, {i.domain: i.version for i in model.opset_import})


def _without_gru(graph: Graph, inside: list[Any], others: list[Any]) -> str:
    if inside:
        return f"the model has GRU nodes, but only inside of {listed(inside)}: none is read there."
    ops = sorted({f"{n.domain}.{n.op_type}".removeprefix(".") for n in graph.every_node()})
    message = f"the model has no GRU node, but {', '.join(ops)}"
    if others:
        message += f"; recurrent are {listed(others)}"
    if any(n.op_type in ("Loop", "Scan") for n in others):
        message += ", which may be a GRU written as a loop: convert the framework's weights instead"
    return message + "."


def _pick(graph: Graph, grus: list[Any], node: Any) -> Any:
    if isinstance(node, str):
        matching = [gru for gru in grus if node and node in (gru.name, *gru.output)]
        others = [n for n in graph.nodes if node and node in (n.name, *n.output)]
    else:
        matching, others = [gru for gru in grus if gru == node], []
        node = label(node) if hasattr(node, "op_type") else node
    if len(matching) == 1:
        return matching[0]
    problem = f"is {listed(others)}" if others else "is none of them"
    if matching:
        problem = f"is {len(matching)} of them: give the name of an output"
    raise ValueError(f"the model has {described(grus)}; node={node!r} {problem}.")


def _read(graph: Graph, gru: Any) -> GRUNode:
    linear_before_reset, direction, hidden = read_attributes(gru)
    weights = {
        slot: _constant(graph, f"{slot} {name!r} of {_what(gru)}", name)
        for slot, name in inputs_of(gru).items()
    }
    return GRUNode(_what(gru), sized(_what(gru), weights, hidden), linear_before_reset, direction)


def inputs_of(node: Any) -> dict[str, str]:
    """The names of the inputs W, R and, if present, B of a node."""
    return {slot: name for slot, name in zip("WRB", node.input[1:4], strict=False) if name}


def sized(what: str, weights: dict[str, Any], hidden: int | None) -> dict[str, Any]:
    """The weights; raises `ValueError` if W or R is missing or disagrees with hidden_size."""
    if missing := {"W", "R"} - weights.keys() | {k for k, v in weights.items() if v is None}:
        raise ValueError(f"{what} needs the arrays of W, R and its B, but lacks {sorted(missing)}.")
    r = weights["R"]
    shape = tuple(r.dims) if hasattr(r, "dims") else np.shape(r)
    if len(shape) != 3:
        raise ValueError(f"{what}: R has shape {shape}, but must have (D, 3H, H).")
    if hidden not in (None, shape[2]):
        raise ValueError(f"{what} has hidden_size={hidden}, but R has shape {shape} = (D, 3H, H).")
    return weights


def _constant(graph: Graph, what: str, name: str) -> npt.NDArray[Any]:
    value = graph.constant(name)
    if value is None:
        nodes, starts = graph.upstream(name)
        by = f" by {listed(nodes)}" if nodes else ""
        raise ValueError(
            f"{what} is no constant, but made from {', '.join(map(repr, sorted(starts)))}{by}."
        )
    return value
