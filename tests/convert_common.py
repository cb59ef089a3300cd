"""What the tests of all conversions share."""

import dataclasses

import jax
import numpy as np
from common import H, assert_close, random_params

from gru_jax import convert


def draw(*shape, seed=0):
    return (np.random.default_rng(seed).normal(size=shape) / np.sqrt(H)).astype(np.float32)


def randomised(tree, seed=0):
    """Normal numbers in place of every array."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: (rng.normal(size=leaf.shape) / np.sqrt(H)).astype(np.float32), tree
    )


def numpy_tree(tree):
    return jax.tree.map(np.asarray, tree)


def assert_same(actual, expected):
    """Exactly the same tree."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    assert_close(actual, expected, rtol=0, atol=0)


# The frameworks and their resets; ONNX has tests of its own.
RESET = {
    "textbook": "before",
    "haiku": "before",
    "torch": "after",
    "linen": "after",
    "nnx": "after",
    "equinox": "after",
    "keras": "after",
}


def ours(name, **options):
    """Parameters that the framework can hold."""
    params = random_params(reset=RESET[name], bias=name != "textbook", **options)
    return dataclasses.replace(params, b_hn=None) if name == "nnx" else params


def theirs(name, params=None):
    return getattr(convert, f"to_{name}")(ours(name) if params is None else params)


def from_(name):
    return getattr(convert, f"from_{name}")


def to(name):
    return getattr(convert, f"to_{name}")
