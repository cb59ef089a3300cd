"""Conversions return new arrays, so that every array can be donated."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import random_params
from convert_common import EACH_FORMAT, FORMATS, from_, ours, theirs, to


def pointers(tree):
    return [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(tree)]


def variants(name):
    params = ours(name)
    yield params
    yield dataclasses.replace(params, b=None, b_hn=None)
    yield jax.tree.map(
        jnp.asarray, random_params(reset=params.reset, hidden=1, inputs=1, bias=False)
    )
    for field in FORMATS[name].biases:
        yield dataclasses.replace(params, **{field: None})


@EACH_FORMAT
def test_no_two_arrays_share_memory(name):
    """Within a result, or of a result and an argument."""
    donate = jax.jit(lambda tree: jax.tree.map(lambda a: 2 * a, tree), donate_argnums=0)
    for params in variants(name):
        weights = to(name)(params)
        back = from_(name)(weights)
        host = jax.tree.map(np.array, weights)
        from_host = from_(name)(host)
        every = pointers((params, weights, back, from_host))
        every += [leaf.ctypes.data for leaf in jax.tree.leaves(host)]
        assert len(set(every)) == len(every)
        expected = jax.tree.map(np.array, (params, back))
        for result, kept in ((weights, (params, back)), (back, (params, from_host))):
            jax.block_until_ready(donate(result))
            assert all(leaf.is_deleted() for leaf in jax.tree.leaves(result))
            jax.tree.map(np.testing.assert_array_equal, kept, expected)


@EACH_FORMAT
def test_results_under_jit_are_new_arrays(name):
    params = ours(name)
    weights = jax.jit(to(name))(params)
    back = jax.jit(from_(name))(weights)
    every = pointers(params) + pointers(weights) + pointers(back)
    assert len(set(every)) == len(every)


@EACH_FORMAT
def test_later_changes_of_arguments_do_not_change_results(name):
    host = jax.tree.map(np.array, theirs(name))
    params = from_(name)(host)
    before = jax.tree.map(np.array, params)
    for leaf in jax.tree.leaves(host):
        leaf[...] = 0
    jax.tree.map(np.testing.assert_array_equal, params, before)


@EACH_FORMAT
def test_deleted_arrays_are_refused(name):
    weights = theirs(name)
    jax.tree.leaves(weights)[0].delete()
    with pytest.raises(ValueError, match="cannot be read, but must be an array with values"):
        from_(name)(weights)
