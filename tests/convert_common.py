"""What the tests of all conversions share, derived from the table of formats."""

import dataclasses
import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import H, assert_close, random_params

from gru_jax import convert
from gru_jax.convert._formats import FORMATS

# (name, reset, bias): each position of the reset gate, with biases and without where either exists
CASES = [
    (form.name, reset, bias)
    for form in FORMATS.values()
    for reset in form.resets
    for bias in (True, False)
    if (form.biases if bias else form.without_bias)
]
EACH_CASE = pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case[0]}-{case[1]}" + ("" if case[2] else "-without-bias")
)
EACH_FORMAT = pytest.mark.parametrize("name", FORMATS)


def draw(*shape, seed=0, dtype=np.float32):
    return (np.random.default_rng(seed).normal(size=shape) / np.sqrt(H)).astype(dtype)


def randomised(tree, seed=0):
    """The tree with every array replaced by normal numbers."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: (rng.normal(size=leaf.shape) / np.sqrt(H)).astype(np.float32), tree
    )


def numpy_tree(tree):
    return jax.tree.map(np.asarray, tree)


def jax_tree(tree):
    return jax.tree.map(jnp.asarray, tree)


def assert_same(actual, expected):
    """Exactly the same tree, values and dtypes."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    assert_close(actual, expected, rtol=0, atol=0)
    dtypes = [[leaf.dtype for leaf in jax.tree.leaves(tree)] for tree in (actual, expected)]
    assert dtypes[0] == dtypes[1]


def default_reset(name):
    """The position of the reset gate where a test needs only one: the last of the format's."""
    return FORMATS[name].resets[-1]


def ours(name, reset=None, bias=True, **options):
    """Parameters that the format can represent."""
    biases = FORMATS[name].biases
    params = random_params(reset=reset or default_reset(name), bias=bias, **options)
    return dataclasses.replace(
        params, **{field: None for field in ("b", "b_hn") if field not in biases}
    )


def theirs(name, params=None):
    """Weights in the format."""
    return to(name)(ours(name) if params is None else params)


def from_(name, reset=None):
    """`from_<name>`, told the position of the reset gate if the weights do not tell it."""
    options = FORMATS[name].reset_options.get(reset or default_reset(name), {})
    return functools.partial(getattr(convert, f"from_{name}"), **options)


def to(name):
    return getattr(convert, f"to_{name}")


def argument(function):
    """The name of its first argument."""
    return next(iter(inspect.signature(function).parameters))
