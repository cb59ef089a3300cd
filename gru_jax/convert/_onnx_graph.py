"""The graph of an ONNX model: the producer, the constant value and the shape of each tensor."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

_RANDOM = ("Random", "Bernoulli", "Multinomial")


def import_onnx(what: str) -> Any:
    """The package `onnx`, imported only where a model is read or written."""
    try:
        import onnx
        import onnx.inliner
        import onnx.reference
        import onnx.shape_inference
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{what} needs the package onnx: pip install onnx") from error
    return onnx


def tensor_array(name: str, tensor: Any) -> npt.NDArray[Any]:
    """The values of a TensorProto, in its dtype."""
    onnx = import_onnx("reading a TensorProto")
    if onnx.external_data_helper.uses_external_data(tensor):
        raise ValueError(
            f"{name} has its data in another file: give the model's path, or onnx.load(path)."
        )
    try:
        array = np.asarray(onnx.numpy_helper.to_array(tensor))
    except Exception as error:
        raise ValueError(f"{name} is a TensorProto that onnx cannot read: {error}") from error
    # onnx before 1.19 converts to float32
    return array.astype(jnp.bfloat16) if tensor.data_type == onnx.TensorProto.BFLOAT16 else array


def nodes_inside(node: Any) -> Iterator[Any]:
    """All nodes of the graphs inside an If, Loop or Scan."""
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield inner
                yield from nodes_inside(inner)


def label(node: Any) -> str:
    """The name of a node, or of its first output if it has none."""
    return str(node.name or next((name for name in node.output if name), node.op_type))


def listed(nodes: Iterable[Any]) -> str:
    """Nodes as error messages name them, without constants."""
    names = [f"{n.op_type} {label(n)!r}" for n in nodes if n.op_type != "Constant"]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _names_in(node: Any) -> list[str]:
    """The inputs of a node, and the tensors that its inner graphs read from outside."""
    inner = list(nodes_inside(node))
    made = {name for n in inner for name in n.output}
    return [*node.input, *(name for n in inner for name in n.input if name not in made)]


class Graph:
    """A graph with its producers, constants and shapes.

    Attributes:
      nodes: the nodes, in the file's order.
      producers: the node that computes a tensor, by the tensor's name.
      inputs: the names of the inputs that are not initializers.
      outputs: the names of the outputs.
      open_sizes: the numbers that `shape` substitutes for open sizes.
    """

    def __init__(self, graph: Any, opsets: Mapping[str, int]):
        self.nodes = list(graph.node)
        self.producers = {name: node for node in self.nodes for name in node.output if name}
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._input_infos = [v for v in graph.input if v.name not in self._initializers]
        self.inputs = {info.name for info in self._input_infos}
        self.outputs = [info.name for info in graph.output]
        self.open_sizes: set[int] = set()
        self._opsets = dict(opsets)
        self._shapes: dict[str, tuple[int, ...]] | None = None

    def upstream(
        self, name: str, stops: frozenset[str] = frozenset(), *, shapes: bool = True
    ) -> tuple[list[Any], set[str]]:
        """The nodes that compute a tensor, and the tensors that they start from.

        Args:
          name: the tensor.
          stops: tensors at which the search ends.
          shapes: whether to follow the inputs of Shape and Size.

        Returns:
          The nodes, in the file's order; and the names of the tensors of `stops`, inputs, and
          tensors without a producer that they start from. Initializers are not included.
        """
        needed, starts, pending = set(), set(), [name]
        while pending:
            name = pending.pop()
            node = self.producers.get(name)
            if name in stops:
                starts.add(name)
            elif name in self._initializers or not name:
                continue
            elif node is None:
                starts.add(name)
            elif id(node) not in needed:
                needed.add(id(node))
                if shapes or node.op_type not in ("Shape", "Size"):
                    pending += _names_in(node)
        return [node for node in self.nodes if id(node) in needed], starts

    def every_node(self) -> Iterator[Any]:
        """The nodes, and those of their inner graphs."""
        for node in self.nodes:
            yield node
            yield from nodes_inside(node)

    def constant(self, name: str) -> npt.NDArray[Any] | None:
        """The value of a tensor, or None if it depends on inputs."""
        if name in self._initializers:
            return tensor_array(name, self._initializers[name])
        nodes, starts = self.upstream(name)
        return None if starts else self.evaluate(name, nodes, {})

    def evaluate(
        self, name: str, nodes: list[Any], feeds: Mapping[str, npt.NDArray[Any]]
    ) -> npt.NDArray[Any]:
        """The value of a tensor, computed by the given nodes from initializers and `feeds`."""
        onnx = import_onnx("from_onnx")
        ops = ", ".join(dict.fromkeys(node.op_type for node in nodes))
        if any(node.op_type.startswith(_RANDOM) for node in nodes):
            raise ValueError(f"{name} is random: it is made by {ops}.")
        known = {n: t for n, t in self._initializers.items() if n not in feeds}
        used = {n for node in nodes for n in _names_in(node)} & known.keys()
        values = {**feeds, **{n: tensor_array(n, known[n]) for n in used}}
        info = onnx.helper.make_empty_tensor_value_info
        graph = onnx.helper.make_graph(nodes, "part", list(map(info, values)), [info(name)])
        try:
            (value,) = onnx.reference.ReferenceEvaluator(graph, opsets=self._opsets).run(
                None, values
            )
        except Exception as error:  # of any class, because its operators are NumPy code
            raise ValueError(
                f"{name} is made by {ops}, which onnx cannot evaluate: {error}"
            ) from error
        return np.asarray(value)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a tensor, with a number for every open size; None if unknown."""
        if self._shapes is None:
            self._shapes = self._infer_shapes()
        return self._shapes.get(name)

    def _infer_shapes(self) -> dict[str, tuple[int, ...]]:
        onnx = import_onnx("from_onnx")
        sizes: dict[Any, int] = {}
        inputs, small = [], []
        for info in self._input_infos:
            info = type(info).FromString(info.SerializeToString())
            for i, dim in enumerate(info.type.tensor_type.shape.dim):
                if not dim.HasField("dim_value"):
                    open_size = dim.dim_param or (info.name, i)
                    dim.dim_value = sizes.setdefault(open_size, 37 + 2 * len(sizes))  # all differ
            inputs.append(info)
        self.open_sizes = set(sizes.values())
        for name, tensor in self._initializers.items():
            if math.prod(tensor.dims) <= 1024:  # large enough for every shape
                small.append(tensor)
            else:
                inputs.append(
                    onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.dims)
                )
        info = onnx.helper.make_empty_tensor_value_info
        graph = onnx.helper.make_graph(
            self.nodes, "sizes", inputs, list(map(info, self.producers)), small
        )
        imports = [onnx.helper.make_opsetid(*item) for item in self._opsets.items()]
        model = onnx.helper.make_model(graph, opset_imports=imports)
        try:
            graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        except Exception:  # onnx rejects some part of the model: all shapes are unknown
            return {}
        shapes = {}
        for info in (*graph.input, *graph.output, *graph.value_info):
            dims = info.type.tensor_type.shape.dim
            known = info.type.tensor_type.HasField("shape")
            if known and all(dim.HasField("dim_value") for dim in dims):
                shapes[info.name] = tuple(dim.dim_value for dim in dims)
        return shapes
