"""The frameworks themselves, for comparison: one function per format, named as in the table.

Each takes the position of the reset gate and whether there are biases, and returns a `Peer` with
random weights in the framework's own form. The tests skip a framework that is not installed.
"""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from common import B, H, I, T
from convert_common import draw, randomised
from onnx_graphs import Builder, draw_weights
from onnx_graphs import run as run_onnx

os.environ.setdefault("KERAS_BACKEND", "jax")


class Peer(NamedTuple):
    """One framework's GRU.

    Attributes:
      weights: random weights.
      run: (weights, h0, xs) -> hs.
      gradients: (weights, h0, xs, out_weights) -> the gradients of sum(out_weights * hs) with
        respect to the first three; None if the framework has none.
    """

    weights: Any
    run: Callable[..., Any]
    gradients: Callable[..., Any] | None


def in_jax(weights, run):
    """A peer whose `run` JAX differentiates."""

    def gradients(weights, h0, xs, out_weights):
        def loss(*args):
            return jnp.sum(out_weights * run(*args))

        return jax.grad(loss, argnums=(0, 1, 2))(weights, h0, xs)

    return Peer(randomised(weights), run, gradients)


def torch(reset, bias):
    import torch

    cell = torch.nn.GRUCell(I, H, bias=bias)

    def states(weights, h, xs):
        cell.load_state_dict({k: torch.tensor(np.asarray(v)) for k, v in weights.items()})
        hs = []
        for x in xs:
            h = cell(x, h)
            hs.append(h)
        return torch.stack(hs)

    def run(weights, h0, xs):
        with torch.no_grad():
            return states(weights, *(torch.tensor(np.asarray(a)) for a in (h0, xs))).numpy()

    def gradients(weights, h0, xs, out_weights):
        h0, xs = (torch.tensor(np.asarray(a), requires_grad=True) for a in (h0, xs))
        cell.zero_grad()
        torch.sum(states(weights, h0, xs) * torch.tensor(out_weights)).backward()
        by_weights = {name: weight.grad.numpy() for name, weight in cell.named_parameters()}
        return by_weights, h0.grad.numpy(), xs.grad.numpy()

    weights = {name: np.asarray(value) for name, value in cell.state_dict().items()}
    return Peer(randomised(weights), run, gradients)


def keras(reset, bias):
    import keras

    after = reset == "after"
    layer = keras.layers.GRU(H, return_sequences=True, reset_after=after, use_bias=bias)
    layer.build((B, T, I))
    names = [variable.name for variable in layer.cell.weights]
    rest = [variable.value for variable in layer.non_trainable_variables]

    def run(weights, h0, xs):
        arrays = [jnp.asarray(weights[name]) for name in names]
        hs, _ = layer.stateless_call(arrays, rest, jnp.swapaxes(xs, 0, 1), initial_state=[h0])
        return jnp.swapaxes(hs, 0, 1)

    return in_jax({v.name: np.asarray(v.value) for v in layer.cell.weights}, run)


def linen(reset, bias):
    from flax import linen as nn

    layer = nn.RNN(nn.GRUCell(H), time_major=True)

    def run(weights, h0, xs):
        return layer.apply({"params": {"cell": weights}}, xs, initial_carry=h0)

    weights = layer.init(jax.random.key(0), jnp.zeros((T, B, I)))
    return in_jax(weights["params"]["cell"], run)


def nnx(reset, bias):
    from flax import nnx

    cell = nnx.GRUCell(I, H, rngs=nnx.Rngs(0))

    def run(weights, h0, xs):
        graph, state = nnx.split(cell, nnx.Param)
        nnx.replace_by_pure_dict(state, weights)
        return nnx.RNN(nnx.merge(graph, state), time_major=True)(xs, initial_carry=h0)

    return in_jax(nnx.to_pure_dict(nnx.state(cell, nnx.Param)), run)


def haiku(reset, bias):
    import haiku as hk

    layer = hk.without_apply_rng(
        hk.transform(lambda h0, xs: hk.dynamic_unroll(hk.GRU(H), xs, h0)[0])
    )
    weights = layer.init(jax.random.key(0), jnp.zeros((B, H)), jnp.zeros((T, B, I)))["gru"]
    return in_jax(weights, lambda weights, h0, xs: layer.apply({"gru": weights}, h0, xs))


def equinox(reset, bias):
    import equinox as eqx

    cell = eqx.nn.GRUCell(I, H, use_bias=bias, key=jax.random.key(0))
    names = ("weight_ih", "weight_hh", "bias", "bias_n")[: 4 if bias else 2]

    def run(weights, h0, xs):
        full = eqx.tree_at(
            lambda c: [getattr(c, name) for name in weights], cell, [*weights.values()]
        )

        def body(h, x):
            h = jax.vmap(full)(x, h)
            return h, h

        return jax.lax.scan(body, h0, xs)[1]

    return in_jax({name: getattr(cell, name) for name in names}, run)


def onnx(reset, bias):
    """In onnxruntime, which has no gradients."""

    def run(weights, h0, xs):
        build = Builder()
        build.input("X", T, B, I)
        build.input("H", 1, B, H)
        inputs = {slot: weights[slot] for slot in "WRB"}  # in this order
        outputs = build.gru("X", inputs, "", "H", linear_before_reset=int(reset == "after"))
        feeds = {"X": np.asarray(xs), "H": np.asarray(h0)[None]}
        return run_onnx(build.model(*outputs), feeds)[0][:, 0]

    return Peer(draw_weights(), run, None)


def textbook(reset, bias):
    """The equations with [h, x] written out."""

    def run(weights, h, xs):
        hs = []
        for x in xs:
            both = jnp.concatenate([h, x], axis=-1)
            z, r = (jax.nn.sigmoid(both @ weights[name].T) for name in ("W_z", "W_r"))
            n = jnp.tanh(jnp.concatenate([r * h, x], axis=-1) @ weights["W"].T)
            h = (1 - z) * h + z * n
            hs.append(h)
        return jnp.stack(hs)

    return in_jax({name: draw(H, H + I) for name in ("W_z", "W_r", "W")}, run)
