"""Numbers that must be right, or refused, in every cell: dtypes, NaN beside resets, far means."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import B, H, I, T, assert_close, random_inputs, random_params
from test_cells import CELLS, layer_norm_gru_apart, layer_norm_gru_together, problem

import gru_jax

EACH = pytest.mark.parametrize("name", ["gru before", "gru after", *CELLS])
RECURRENT = [name for name in ("gru before", "gru after", *CELLS) if name != "min_gru"]


def cell(name):
    """Parameters, step, state and inputs `[T, B, I]`."""
    if name.startswith("gru"):
        return random_params(reset=name.split()[1]), gru_jax.gru_step, *random_inputs()
    params, step, _, h0, xs = problem(name)
    return params, step, h0, xs


@EACH
@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.bool_, np.complex64])
def test_weights_that_are_not_floating_are_refused(name, dtype):
    params, step, h0, xs = cell(name)
    wrong = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf).astype(dtype)), params)
    with pytest.raises(ValueError, match=r"params\.\w+ is (int32|uint8|bool|complex64), but must"):
        step(wrong, h0, xs[0])


@EACH
@pytest.mark.parametrize("shape", [(), (1,), (2,)])
def test_vectors_are_not_broadcast(name, shape):
    params, step, h0, xs = cell(name)
    for field in ("b", "b_hn", "gain", "gain_h", "b_h"):
        if getattr(params, field, None) is not None:
            wrong = vars(params) | {field: jnp.ones(shape)}
            with pytest.raises(ValueError, match=rf"params\.{field} has shape"):
                step(type(params)(**wrong), h0, xs[0])


@EACH
def test_weights_of_two_dtypes_are_refused(name):
    params, step, h0, xs = cell(name)
    for field in ("w_x", "b", "b_hn", "gain", "gain_h", "b_h"):
        if getattr(params, field, None) is not None:
            array = getattr(params, field).astype(jnp.float16)
            with pytest.raises(ValueError, match=r"params\.\w+ is float\d\d, but params\."):
                step(type(params)(**vars(params) | {field: array}), h0, xs[0])


@EACH
def test_float64_weights_of_numpy_are_converted_without_x64(name):
    """Warnings are errors here."""
    params, step, h0, xs = cell(name)
    wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    assert_close(step(wide, h0, xs[0]), step(params, h0, xs[0]))
    run = partial(gru_jax.gru_stack_unroll, step=step)
    h_lasts, hs = run(gru_jax.GRUStack((wide,)), None, np.asarray(xs, np.float64))
    assert_close((h_lasts, hs), run(gru_jax.GRUStack((params,)), None, xs))
    assert jax.tree.leaves(gru_jax.zero_state(wide))[0].dtype == jnp.float32


@EACH
def test_sizes_of_mapped_parameters(name):
    params, *_ = cell(name)
    mapped = jax.tree.map(lambda leaf: jnp.stack([leaf] * 32), params)
    assert (mapped.input_size, mapped.hidden_size) == (I, H)
    for leaf in jax.tree.leaves(gru_jax.zero_state(mapped, (5,))):
        assert leaf.shape == (5, H)


@EACH
def test_parameters_compare_and_hash_by_identity(name):
    params, *_ = cell(name)
    other = jax.tree.map(jnp.copy, params)
    assert params == params
    assert params != other
    assert len({params, other, params}) == 2


@pytest.mark.parametrize("h", [jnp.ones((B, H), int), jnp.ones((B, H), bool)])
def test_readout_of_states_that_are_not_floating_is_refused(h):
    head = gru_jax.init_readout(jax.random.key(0), H, 2)
    with pytest.raises(ValueError, match=r"h is (int32|bool), but must be floating"):
        gru_jax.readout(head, h)
    wrong = gru_jax.ReadoutParams(jnp.ones((H, 2), int))
    with pytest.raises(ValueError, match=r"params\.w is int32, but must be a floating dtype"):
        gru_jax.readout(wrong, jnp.ones((B, H)))


@pytest.mark.parametrize("state", [(jnp.ones((B, H)),) * 2, [jnp.ones((B, H))] * 2, None])
def test_an_lstm_names_its_state(state):
    params, step, _, xs = cell("lstm")
    with pytest.raises(ValueError, match=r"state is .*, but must be an LSTMState\(h, c\)"):
        step(params, state, xs[0])


@pytest.mark.parametrize("norm", ["apart", "together"])
@pytest.mark.parametrize("far", [0, 100, 10_000])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16])
def test_layer_norm_far_from_zero_mean(norm, far, dtype):
    """The weights' columns have one mean, which the normalisation takes away again."""
    params, step, _, h, xs = problem(f"layer_norm_gru {norm}")
    w_x = params.w_x.at[0].add(far)  # the first feature adds a constant to all gates
    params = jax.tree.map(lambda a: a.astype(dtype), type(params)(**vars(params) | {"w_x": w_x}))
    h, x = h.astype(dtype), xs[0].astype(dtype)
    oracle = {"apart": layer_norm_gru_apart, "together": layer_norm_gru_together}[norm]
    exact = oracle(*jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (params, h, x)))
    # What float32 rounds away of the constant, 1e4 · 2^-24 · 10, is lost for every method.
    tolerance = 3e-6 + far * 1e-6 if dtype == jnp.float32 else 4e-3 + far * 1e-6
    assert_close(step(params, h, x), exact, atol=tolerance, rtol=0)


def test_layer_norm_of_large_numbers_in_float16():
    """Their squares overflow, their products with the weights do, and the normalised do not."""
    params, step, _, h, xs = problem("layer_norm_gru apart")
    params = jax.tree.map(lambda a: a.astype(jnp.float16), params)
    h, x = h.astype(jnp.float16), (xs[0] * 20_000).astype(jnp.float16)
    exact = layer_norm_gru_apart(
        *jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (params, h, x))
    )
    assert_close(step(params, h, x), exact, atol=4e-3, rtol=0)


def episodes(run, params, h0, xs, reverse, bad):
    """The states of the good episode, and their gradient, with something bad in the other one."""
    start = 3 if not reverse else 1
    resets = jnp.zeros((T, B), bool).at[start].set(True)
    good = slice(start, None) if not reverse else slice(0, start + 1)
    xs = xs.at[0 if not reverse else T - 1].set(bad)

    def states(xs):
        hs = run(params, h0, xs, resets=resets, reverse=reverse)[1]
        return jax.tree.leaves(hs)[0][good]

    gradient = jax.grad(lambda xs: jnp.sum(states(xs) ** 2))(xs)
    return states(xs), gradient[good]


@EACH
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
@pytest.mark.parametrize("fast", [False, True])
def test_nothing_crosses_a_reset(name, reverse, bad, fast):
    params, step, h0, xs = cell(name)
    run = partial(gru_jax.unroll, step)
    if fast:
        run = gru_jax.min_gru_unroll if name == "min_gru" else gru_jax.gru_unroll
        if not name.startswith(("gru", "min")):
            pytest.skip("this cell has no other path")
    expected = episodes(run, params, h0, xs, reverse, 0.5)
    assert_close(episodes(run, params, h0, xs, reverse, bad), expected, atol=1e-5, rtol=1e-5)


@EACH
@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_first_state_does_not_cross_a_reset(name, bad, reverse):
    params, step, h0, xs = cell(name)
    resets = jnp.zeros((T, B), bool).at[T - 1 if reverse else 0].set(True)
    runs = [partial(gru_jax.unroll, step)]
    if name.startswith(("gru", "min")):
        runs.append(gru_jax.min_gru_unroll if name == "min_gru" else gru_jax.gru_unroll)
    expected = runs[0](params, h0, xs, resets=resets, reverse=reverse)
    worse = jax.tree.map(lambda leaf: jnp.full_like(leaf, bad), h0)
    for run in runs:
        actual = run(params, worse, xs, resets=resets, reverse=reverse)
        assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
def test_nothing_reaches_the_gradient_of_a_learned_state(reverse):
    """NaN in one row, or in one episode, beside a reset in another."""
    params, step, h0, xs = cell("min_gru")
    xs = xs.at[2, 1].set(jnp.nan)
    after = 0 if reverse else T - 1  # the NaN
    resets = jnp.zeros((T, B), bool).at[jnp.array([1, 2, after]), jnp.array([0, 0, 1])].set(True)

    def loss(run, fresh):
        hs = run(params, h0, xs, resets=resets, reset_state=fresh, reverse=reverse)[1]
        return jnp.sum(jnp.delete(hs, 1, axis=1) ** 2)

    runs = gru_jax.min_gru_unroll, partial(gru_jax.unroll, step)
    actual, expected = (jax.grad(partial(loss, run))(jnp.ones(H)) for run in runs)
    assert jnp.all(jnp.isfinite(expected))
    assert_close(actual, expected, atol=1e-5)


def test_a_float16_overflow_stays_in_its_episode():
    params = gru_jax.MinGRUParams(jnp.full((1, 2), 10, jnp.float16), jnp.zeros(2, jnp.float16))
    xs = jnp.array([[0.1], [6e4], [0.1], [0.1]], jnp.float16)
    resets = jnp.array([False, False, True, False])
    _, hs = gru_jax.min_gru_unroll(params, jnp.zeros(1, jnp.float16), xs, resets=resets)
    assert not jnp.isfinite(hs[1, 0])
    assert_close(hs[2:], gru_jax.min_gru_unroll(params, None, xs[2:])[1])
