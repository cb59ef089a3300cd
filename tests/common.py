"""Random problems for the tests: all sizes different, no bias zero."""

import jax
import jax.numpy as jnp
import numpy as np

import gru_jax

T, B, I, H = 5, 4, 3, 7


def random_params(seed=0, *, reset="before", bias=True, dtype=np.float32, inputs=I, hidden=H):
    rng = np.random.default_rng(seed)
    scale = 1 / np.sqrt(hidden)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape) * scale, dtype)

    return gru_jax.GRUParams(
        w_x=draw(inputs, 3 * hidden),
        w_h=draw(hidden, 3 * hidden),
        b=draw(3 * hidden) if bias else None,
        b_hn=draw(hidden) if bias and reset == "after" else None,
        reset=reset,
    )


def random_inputs(seed=0, *, steps=T, batch=(B,), inputs=I, hidden=H, dtype=np.float32):
    rng = np.random.default_rng(seed)
    h0 = jnp.asarray(rng.normal(size=(*batch, hidden)), dtype)
    xs = jnp.asarray(rng.normal(size=(steps, *batch, inputs)), dtype)
    return h0, xs


def random_flags(seed=0, *, steps=T, batch=(B,), probability=0.5):
    return jnp.asarray(np.random.default_rng(seed).random((steps, *batch)) < probability)


def random_stack(reset="before", bidirectional=True, sizes=(7, 6), inputs=I):
    """A stack, no bias zero, and a first state for each layer."""
    layers, h0s = [], []
    rng = np.random.default_rng(0)
    for i, hidden in enumerate(sizes):
        params = [
            random_params(2 * i + j, reset=reset, inputs=inputs, hidden=hidden)
            for j in range(1 + bidirectional)
        ]
        states = [
            jnp.asarray(rng.normal(size=(B, hidden)), jnp.float32) for _ in range(1 + bidirectional)
        ]
        layers.append(gru_jax.Bidirectional(*params) if bidirectional else params[0])
        h0s.append(gru_jax.Bidirectional(*states) if bidirectional else states[0])
        inputs = hidden * (1 + bidirectional)
    return gru_jax.GRUStack(tuple(layers)), tuple(h0s)


def randomised(tree, seed=0):
    """The same structure with normal numbers throughout, biases too."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / np.sqrt(H), leaf.dtype), tree
    )


def as_float64(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def weighted_sum(tree):
    """A sum that weighs every number of a pytree, JAX's or NumPy's, differently.

    No error of one can cancel that of another.
    """

    def total(leaf):
        numpy = jnp if isinstance(leaf, jax.Array) else np
        weights = numpy.sin(numpy.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape)
        return (weights * leaf).sum()

    return sum(map(total, jax.tree.leaves(tree)))


def assert_close(actual, expected, **tolerances):
    """Compares two pytrees leaf by leaf; 2e-6 is a few units in the last place of float32."""
    tolerances = {"rtol": 2e-6, "atol": 2e-6} | tolerances
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(
            np.asarray(a, np.float64), np.asarray(e, np.float64), **tolerances
        ),
        actual,
        expected,
    )
