"""The GRUs that ours is compared with: each library's own, as its users would write it.

Every implementation keeps the layout it likes best, is compiled before it is timed, and touches no
host memory while it is. All reset after the product, as PyTorch, Flax and Equinox do, but for
"gru_jax before" and Haiku, whose GRU resets before it.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import gru_jax
from experiments.benchmark.ours import our_params
from experiments.benchmark.timing import (
    Apply,
    Implementation,
    Mode,
    Problem,
    Ready,
    Shape,
    UnsupportedError,
    compiled,
    draw,
    problem,
    time_major,
)


def plain_scan(shape: Shape, part: int = 1) -> tuple[Any, Apply]:
    """The twin: what one writes by hand. `part` as in `ours`."""
    h0 = jnp.zeros((shape.batch, shape.hidden))

    def apply(params: gru_jax.GRUParams, xs: jax.Array) -> jax.Array:
        hs: jax.Array = gru_jax.unroll(gru_jax.gru_step, params, h0, xs)[part]
        return hs

    return our_params(shape), apply


def flax_linen(shape: Shape, part: int = 1) -> tuple[Any, Apply]:
    """`nn.RNN(nn.GRUCell)`. `part` as in `ours`."""
    from flax import linen as nn

    layer = nn.RNN(nn.GRUCell(shape.hidden), time_major=True, return_carry=True)
    xs = jnp.zeros((shape.steps, shape.batch, shape.inputs))
    return layer.init(jax.random.key(0), xs), lambda weights, xs: layer.apply(weights, xs)[part]


def flax_nnx(shape: Shape) -> tuple[Any, Apply]:
    """`nnx.RNN(nnx.GRUCell)`."""
    from flax import nnx

    cell = nnx.GRUCell(shape.inputs, shape.hidden, rngs=nnx.Rngs(0))
    graph, weights, rest = nnx.split(nnx.RNN(cell, time_major=True), nnx.Param, ...)
    h0 = jnp.zeros((shape.batch, shape.hidden))
    return weights, lambda weights, xs: nnx.merge(graph, weights, rest)(xs, initial_carry=h0)


def haiku(shape: Shape) -> tuple[Any, Apply]:
    """`hk.dynamic_unroll(hk.GRU)`."""
    import haiku as hk

    h0 = jnp.zeros((shape.batch, shape.hidden))
    layer = hk.without_apply_rng(
        hk.transform(lambda xs: hk.dynamic_unroll(hk.GRU(shape.hidden), xs, h0)[0])
    )
    xs = jnp.zeros((shape.steps, shape.batch, shape.inputs))
    return layer.init(jax.random.key(0), xs), layer.apply


def equinox(shape: Shape) -> tuple[Any, Apply]:
    """A scan of the mapped `eqx.nn.GRUCell`, as its documentation has it."""
    import equinox as eqx

    cell = eqx.nn.GRUCell(shape.inputs, shape.hidden, key=jax.random.key(0))
    weights, rest = eqx.partition(cell, eqx.is_array)
    h0 = jnp.zeros((shape.batch, shape.hidden))

    def apply(weights: Any, xs: jax.Array) -> jax.Array:
        step = jax.vmap(eqx.combine(weights, rest))

        def body(h: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
            h = step(x, h)
            return h, h

        return jax.lax.scan(body, h0, xs)[1]

    return weights, apply


def keras(shape: Shape, mode: Mode) -> Problem:
    """`keras.layers.GRU` on JAX, batch first."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    layer = keras.layers.GRU(shape.hidden, return_sequences=True)
    xs = jnp.asarray(draw(shape.batch, shape.steps, shape.inputs))
    layer.build(xs.shape)
    weights = [variable.value for variable in layer.trainable_variables]
    rest = [variable.value for variable in layer.non_trainable_variables]
    out_weights = jnp.asarray(draw(shape.batch, shape.steps, shape.hidden))

    def apply(weights: Any, xs: jax.Array) -> jax.Array:
        hs: jax.Array = layer.stateless_call(weights, rest, xs)[0]
        return hs

    return problem(apply, weights, xs, out_weights, mode)


def pytorch(shape: Shape, mode: Mode, device: Literal["cpu", "cuda"] = "cpu") -> Ready:
    """`torch.nn.GRU`, time first; on a GPU that is cuDNN's."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise UnsupportedError("this PyTorch has no GPU")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    layer = torch.nn.GRU(shape.inputs, shape.hidden).to(device)
    xs = torch.from_numpy(draw(shape.steps, shape.batch, shape.inputs)).to(device)
    out_weights = torch.from_numpy(draw(shape.steps, shape.batch, shape.hidden)).to(device)

    def forward() -> object:
        with torch.inference_mode():
            return layer(xs)

    def train() -> object:
        layer.zero_grad(set_to_none=True)
        inputs = xs.clone().requires_grad_()
        torch.sum(layer(inputs)[0] * out_weights).backward()
        return inputs.grad

    run = forward if mode == "forward" else train

    def finished() -> object:
        result = run()
        if device == "cuda":
            torch.cuda.synchronize()
        return result

    return Ready(finished)


def onnx_session(shape: Shape) -> Any:
    """A session of one GRU node, from `X` and `initial_h` to `Y` and `Y_h`."""
    import onnx
    import onnxruntime

    width = 3 * shape.hidden
    weights = [
        onnx.numpy_helper.from_array(
            draw(1, *size) / np.sqrt(shape.hidden).astype(np.float32), name
        )
        for name, size in (
            ("W", (width, shape.inputs)),
            ("R", (width, shape.hidden)),
            ("B", (2 * width,)),
        )
    ]
    node = onnx.helper.make_node(
        "GRU",
        ["X", "W", "R", "B", "", "initial_h"],
        ["Y", "Y_h"],
        hidden_size=shape.hidden,
        linear_before_reset=1,
    )
    value = partial(onnx.helper.make_tensor_value_info, elem_type=onnx.TensorProto.FLOAT)
    state = 1, shape.batch, shape.hidden
    graph = onnx.helper.make_graph(
        [node],
        "gru",
        [
            value("X", shape=(shape.steps, shape.batch, shape.inputs)),
            value("initial_h", shape=state),
        ],
        [value("Y", shape=(shape.steps, *state)), value("Y_h", shape=state)],
        weights,
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 8  # of opset 17, which every onnxruntime in use reads
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def onnx_runtime(shape: Shape, mode: Mode) -> Ready:
    """One GRU node; inference only."""
    if mode == "train":
        raise UnsupportedError("runs forward only")
    session, xs = onnx_session(shape), draw(shape.steps, shape.batch, shape.inputs)
    h0 = np.zeros((1, shape.batch, shape.hidden), np.float32)
    return Ready(lambda: session.run(["Y"], {"X": xs, "initial_h": h0}))


def numpy_loop(shape: Shape, mode: Mode) -> Ready:
    """The equations, written as in a textbook: W on the concatenation [h, x]; forward only."""
    if mode == "train":
        raise UnsupportedError("runs forward only")
    w_z, w_r, w = draw(3, shape.hidden + shape.inputs, shape.hidden) / np.sqrt(shape.hidden)
    xs = draw(shape.steps, shape.batch, shape.inputs)

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return np.asarray(1 / (1 + np.exp(-x)))

    def run() -> object:
        h = np.zeros((shape.batch, shape.hidden), np.float32)
        hs = []
        for x in xs:
            both = np.concatenate([h, x], axis=1)
            z, r = sigmoid(both @ w_z), sigmoid(both @ w_r)
            h = (1 - z) * h + z * np.tanh(np.concatenate([r * h, x], axis=1) @ w)
            hs.append(h)
        return np.stack(hs)

    return Ready(run)


JAX_PEERS: Mapping[str, Callable[[Shape, Mode], Problem]] = {
    "plain scan": partial(time_major, plain_scan),
    "Flax linen": partial(time_major, flax_linen),
    "Flax nnx": partial(time_major, flax_nnx),
    "Haiku": partial(time_major, haiku),
    "Equinox": partial(time_major, equinox),
    "Keras on JAX": keras,
}
PEERS: Mapping[str, Implementation] = {
    **{name: partial(compiled, peer) for name, peer in JAX_PEERS.items()},
    "PyTorch": pytorch,
    "onnxruntime": onnx_runtime,
    "NumPy": numpy_loop,
}
