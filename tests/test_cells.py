"""Cells beside the GRU: special cases, PyTorch, LSTM states, layer normalisation, minGRU.

What every cell must do is in test_contract*.py.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from common import H, I, as_float64, assert_close
from contract import CELLS, random_problem

import gru_jax


def test_initial_biases_and_gains():
    params = gru_jax.init_lstm(jax.random.key(0), I, H)
    np.testing.assert_array_equal(params.b, np.repeat([0, 1, 0, 0], H))
    for init in (gru_jax.init_rnn, gru_jax.init_mgu, gru_jax.init_min_gru):
        assert not np.any(init(jax.random.key(0), I, H).b)
    apart = gru_jax.init_layer_norm_gru(jax.random.key(0), I, H)
    np.testing.assert_array_equal(apart.gain, np.ones(3 * H))
    np.testing.assert_array_equal(apart.gain_h, np.ones(3 * H))
    assert not np.any(apart.b)
    assert not np.any(apart.b_h)
    together = gru_jax.init_layer_norm_gru(jax.random.key(0), I, H, norm="together")
    np.testing.assert_array_equal(together.b, np.repeat([-1, 0, 0], H))
    assert together.gain_h is None


def test_mgu_matches_gru_with_equal_gates():
    params, h0, xs = random_problem("mgu")
    f, n = slice(0, H), slice(H, None)

    def tied(array):
        return jnp.concatenate([array[..., f], array[..., f], array[..., n]], axis=-1)

    gru = gru_jax.GRUParams(tied(params.w_x), tied(params.w_h), tied(params.b))
    assert_close(gru_jax.mgu_step(params, h0, xs[0]), gru_jax.gru_step(gru, h0, xs[0]))


@pytest.mark.parametrize("kind", ["rnn", "lstm"])
def test_outputs_match_pytorch(kind):
    torch = pytest.importorskip("torch")
    params, h0, xs = random_problem(kind)
    module = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM}[kind](I, H)
    arrays = {
        "weight_ih_l0": params.w_x.T,
        "weight_hh_l0": params.w_h.T,
        "bias_ih_l0": params.b,
        "bias_hh_l0": jnp.zeros_like(params.b),
    }
    module.load_state_dict({name: torch.tensor(np.asarray(a)) for name, a in arrays.items()})
    states = tuple(torch.tensor(np.asarray(leaf))[None] for leaf in jax.tree.leaves(h0))
    with torch.no_grad():
        expected, _ = module(torch.tensor(np.asarray(xs)), states if kind == "lstm" else states[0])
    _, hs = gru_jax.unroll(CELLS[kind].step, params, h0, xs)
    assert_close(jax.tree.leaves(hs)[0], expected.numpy())


@pytest.mark.parametrize("state", [(jnp.ones((4, H)),) * 2, [jnp.ones((4, H))] * 2, None])
def test_lstm_raises_without_an_lstm_state(state):
    params, _, xs = random_problem("lstm")
    with pytest.raises(ValueError, match=r"state is .*, but must be an LSTMState\(h, c\)"):
        gru_jax.lstm_step(params, state, xs[0])


def oracle_of_layer_norm(params, h, x):
    """One step of a batch in NumPy."""
    arguments = as_float64((params, h, x[None]))
    return oracle.unroll(oracle.layer_norm_gru_step, *arguments)[0]


@pytest.mark.parametrize("norm", ["apart", "together"])
@pytest.mark.parametrize("mean", [0, 100, 10_000])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16])
def test_layer_norm_with_a_large_mean(norm, mean, dtype):
    """The first feature adds a constant to all gates, which the normalisation takes away again."""
    params, h, xs = random_problem(f"layer_norm_gru {norm}")
    w_x = params.w_x.at[0].add(mean)
    params = dataclasses.replace(params, w_x=w_x)
    params, h, x = jax.tree.map(lambda leaf: leaf.astype(dtype), (params, h, xs[0]))
    # What float32 rounds away of the constant, 1e4 · 2^-24 · 10, is lost for every method.
    tolerance = (3e-6 if dtype == jnp.float32 else 4e-3) + mean * 1e-6
    actual = gru_jax.layer_norm_gru_step(params, h, x)
    assert_close(actual, oracle_of_layer_norm(params, h, x), atol=tolerance, rtol=0)


def test_layer_norm_of_large_inputs_in_float16():
    """Their squares and their products with the weights overflow; what is normalised does not."""
    params, h, xs = random_problem("layer_norm_gru apart", dtype=jnp.float16)
    x = xs[0] * jnp.float16(20_000)
    actual = gru_jax.layer_norm_gru_step(params, h, x)
    assert_close(actual, oracle_of_layer_norm(params, h, x), atol=4e-3, rtol=0)


def test_float16_overflow_of_min_gru_stays_in_its_episode():
    params = gru_jax.MinGRUParams(jnp.full((1, 2), 10, jnp.float16), jnp.zeros(2, jnp.float16))
    xs = jnp.array([[0.1], [6e4], [0.1], [0.1]], jnp.float16)
    resets = jnp.array([False, False, True, False])
    _, hs = gru_jax.min_gru_unroll(params, jnp.zeros(1, jnp.float16), xs, resets=resets)
    assert not jnp.isfinite(hs[1, 0])
    assert_close(hs[2:], gru_jax.min_gru_unroll(params, None, xs[2:])[1])
