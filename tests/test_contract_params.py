"""The contract of every cell's parameters: initialisation, pytree, and what raises."""

import dataclasses
import pickle
from functools import partial

import chex
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from common import H, I, assert_close
from contract import CELLS, each_cell, random_problem

import gru_jax

DTYPES = pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])


def problem(cell, **shapes):
    """The step, parameters, a state and one input."""
    params, h, xs = random_problem(cell, **shapes)
    return CELLS[cell].step, params, h, xs[0]


def arrays_of(params):
    """The arrays of parameters by the name of the field."""
    fields = (field.name for field in dataclasses.fields(params))
    return {
        name: getattr(params, name)
        for name in fields
        if isinstance(getattr(params, name), jax.Array)
    }


@each_cell()
@DTYPES
def test_init_shapes_and_dtypes(cell, dtype):
    init, _, _, gates, _ = CELLS[cell]
    params = init(jax.random.key(0), I, H, dtype=dtype)
    shapes = {"w_x": (I, gates * H), "w_h": (H, gates * H), "b_hn": (H,)}
    for name, array in arrays_of(params).items():
        assert array.shape == shapes.get(name, (gates * H,)), name
        assert array.dtype == dtype
    assert (params.input_size, params.hidden_size) == (I, H)
    for leaf in jax.tree.leaves(gru_jax.zero_state(params, (2, 3))):
        assert (leaf.shape, leaf.dtype) == ((2, 3, H), dtype)
        assert not np.any(leaf)


@each_cell()
@pytest.mark.parametrize(
    "dtype", [np.float32, np.float16, np.dtype("float32"), "float32", ml_dtypes.bfloat16]
)
def test_init_takes_every_spelling_of_a_dtype(cell, dtype):
    init = partial(CELLS[cell].init, input_size=I, hidden_size=H, dtype=dtype)
    assert jax.eval_shape(init, jax.random.key(0)).w_x.dtype == jnp.dtype(dtype)


@each_cell()
def test_init_draws(cell):
    """w_x LeCun normal, w_h orthogonal per gate, all gates different; the key decides."""
    init, _, _, gates, _ = CELLS[cell]
    first, again, other = (init(jax.random.key(seed), 40, 64) for seed in (0, 0, 1))
    chex.assert_trees_all_equal(first, again)
    assert not np.array_equal(first.w_x, other.w_x)
    blocks = np.split(first.w_x, gates, axis=1)
    for block in blocks:
        # four standard deviations of the estimate from 40 · 64 draws
        np.testing.assert_allclose(np.mean(block**2), 1 / 40, rtol=4 * np.sqrt(1.37 / 40 / 64))
    if "w_h" in arrays_of(first):
        matrices = np.split(first.w_h, gates, axis=1)
        for matrix in matrices:
            np.testing.assert_allclose(matrix @ matrix.T, np.eye(64), atol=1e-5)
        blocks += matrices
    assert len({block.tobytes() for block in blocks}) == len(blocks)


@each_cell()
def test_parameters_are_a_frozen_pytree(cell):
    """Leaves are named like the fields; static fields are kept; equality is identity."""
    params, *_ = random_problem(cell)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(params)]
    assert paths == [f".{name}" for name in arrays_of(params)]
    doubled = jax.tree.map(lambda leaf: 2 * leaf, params)
    assert type(doubled) is type(params)
    assert jax.tree.structure(doubled) == jax.tree.structure(params)
    restored = pickle.loads(pickle.dumps(params))
    chex.assert_trees_all_equal(restored, params)
    assert params == params
    assert params != doubled
    assert len({params, doubled, params}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        params.w_x = None


@each_cell()
def test_sizes_of_parameters_with_a_leading_axis(cell):
    """As `jax.vmap` over initialisers makes them."""
    params, *_ = random_problem(cell)
    mapped = jax.tree.map(lambda leaf: jnp.stack([leaf] * 32), params)
    assert (mapped.input_size, mapped.hidden_size) == (I, H)
    for leaf in jax.tree.leaves(gru_jax.zero_state(mapped, (5,))):
        assert leaf.shape == (5, H)


@each_cell()
@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"input_size": 0}, "input_size is 0, but must be at least 1"),
        ({"hidden_size": -2}, "hidden_size is -2, but must be at least 1"),
        ({"dtype": jnp.int32}, "dtype is int32, but must be a floating dtype"),
    ],
)
def test_init_raises(cell, sizes, message):
    arguments = {"input_size": I, "hidden_size": H} | sizes
    with pytest.raises(ValueError, match=message):
        CELLS[cell].init(jax.random.key(0), **arguments)


@each_cell()
@pytest.mark.parametrize("shape", [(), (1,), (2,), (1, H)])
def test_vectors_are_not_broadcast(cell, shape):
    step, params, h, x = problem(cell)
    for name in set(arrays_of(params)) - {"w_x", "w_h"}:
        wrong = dataclasses.replace(params, **{name: jnp.ones(shape)})
        with pytest.raises(ValueError, match=rf"params\.{name} has shape .*, but must have \("):
            step(wrong, h, x)


@each_cell()
@pytest.mark.parametrize("change", [lambda w: w[..., :-1], lambda w: w.T, lambda w: w[0]])
def test_matrices_of_wrong_shapes_raise(cell, change):
    step, params, h, x = problem(cell)
    for name in set(arrays_of(params)) & {"w_x", "w_h"}:
        matrix = getattr(params, name)
        if change(matrix).shape == matrix.shape:
            continue  # a square matrix
        wrong = dataclasses.replace(params, **{name: change(matrix)})
        with pytest.raises(ValueError, match=r"(params\.w_[xh]|x|h|state) has shape .*, but must"):
            step(wrong, h, x)


@each_cell()
@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.bool_, np.complex64])
def test_parameters_that_are_not_floating_raise(cell, dtype):
    step, params, h, x = problem(cell)
    wrong = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf).astype(dtype)), params)
    with pytest.raises(ValueError, match=r"params\.\w+ is (int32|uint8|bool|complex64), but must"):
        step(wrong, h, x)


@each_cell()
def test_parameters_of_two_dtypes_raise(cell):
    step, params, h, x = problem(cell)
    arrays = arrays_of(params)
    for name in set(arrays) - {"w_h" if "w_h" in arrays else "w_x"}:
        wrong = dataclasses.replace(params, **{name: arrays[name].astype(jnp.float16)})
        with pytest.raises(ValueError, match=r"params\.\w+ is float\d\d, but params\."):
            step(wrong, h, x)


@each_cell()
def test_numpy_float64_arguments_are_converted(cell):
    """Without x64, and without a warning, to float32."""
    step, params, h, x = problem(cell)
    wide = jax.tree.map(partial(np.asarray, dtype=np.float64), (params, h, x))
    assert_close(jax.jit(step)(*wide), jax.jit(step)(params, h, x), rtol=0, atol=0)
    assert_close(step(*wide), step(params, h, x))
    for leaf in jax.tree.leaves(gru_jax.zero_state(wide[0])):
        assert leaf.dtype == jnp.float32
