"""The related cells: NumPy oracles, PyTorch where it is there, and the twins of minGRU."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import B, H, I, T, as_float64, assert_close, random_flags, random_inputs
from oracle import sigmoid

import gru_jax


def randomised(params, seed=0):
    """The same structure with normal numbers throughout, biases too."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / np.sqrt(H), leaf.dtype), params
    )


def normal(a, epsilon):
    return (a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + epsilon)


def rnn(p, h, x):
    return np.tanh(x @ p.w_x + h @ p.w_h + p.b)


def lstm(p, state, x):
    i, f, g, o = np.split(x @ p.w_x + state.h @ p.w_h + p.b, 4, axis=-1)
    c = sigmoid(f) * state.c + sigmoid(i) * np.tanh(g)
    return gru_jax.LSTMState(sigmoid(o) * np.tanh(c), c)


def mgu(p, h, x):
    f = sigmoid(x @ p.w_x[:, :H] + h @ p.w_h[:, :H] + p.b[:H])
    n = np.tanh(x @ p.w_x[:, H:] + (f * h) @ p.w_h[:, H:] + p.b[H:])
    return (1 - f) * h + f * n


def layer_norm_gru_apart(p, h, x):
    a = normal(x @ p.w_x, 1e-5) * p.gain + p.b
    u = normal(h @ p.w_h, 1e-5) * p.gain_h + p.b_h
    z, r = sigmoid(a[..., :H] + u[..., :H]), sigmoid(a[..., H:-H] + u[..., H:-H])
    n = np.tanh(a[..., -H:] + r * u[..., -H:])
    return (1 - z) * h + z * n


def layer_norm_gru_together(p, h, x):
    a = normal(x @ p.w_x + h @ p.w_h, 1e-3) * p.gain + p.b
    z, r = sigmoid(a[..., :H]), sigmoid(a[..., H:-H])
    return (1 - z) * h + z * np.tanh(r * a[..., -H:])


def min_gru(p, h, x):
    a = x @ p.w_x + p.b
    z = sigmoid(a[..., :H])
    return (1 - z) * h + z * a[..., H:]


CELLS = {
    "rnn": (gru_jax.init_rnn, gru_jax.rnn_step, rnn),
    "lstm": (gru_jax.init_lstm, gru_jax.lstm_step, lstm),
    "mgu": (gru_jax.init_mgu, gru_jax.mgu_step, mgu),
    "layer_norm_gru apart": (
        gru_jax.init_layer_norm_gru,
        gru_jax.layer_norm_gru_step,
        layer_norm_gru_apart,
    ),
    "layer_norm_gru together": (
        partial(gru_jax.init_layer_norm_gru, norm="together"),
        gru_jax.layer_norm_gru_step,
        layer_norm_gru_together,
    ),
    "min_gru": (gru_jax.init_min_gru, gru_jax.min_gru_step, min_gru),
}
ALL = pytest.mark.parametrize("name", CELLS)


def problem(name):
    init, step, oracle = CELLS[name]
    params = randomised(init(jax.random.key(0), I, H))
    h0 = randomised(gru_jax.zero_state(params, (B,)), seed=1)
    return params, step, oracle, h0, random_inputs()[1]


@ALL
def test_oracle(name):
    params, step, oracle, h, xs = problem(name)
    wide, wide_h, wide_xs = as_float64((params, h, xs))
    for x, wide_x in zip(xs, wide_xs, strict=True):
        h, wide_h = jax.jit(step)(params, h, x), oracle(wide, wide_h, wide_x)
        assert_close(h, wide_h)


@ALL
def test_unroll_and_the_stack_run_it(name):
    params, step, _, h0, xs = problem(name)
    mask, resets = random_flags(1), random_flags(2)
    h_last, hs = gru_jax.unroll(step, params, h0, xs, mask=mask, resets=resets)
    stack = gru_jax.GRUStack((params,))
    (stack_last,), ys = gru_jax.gru_stack_unroll(
        stack, (h0,), xs, mask=mask, resets=resets, step=step
    )
    assert_close((stack_last, ys), (h_last, jax.tree.leaves(hs)[0]), rtol=0, atol=0)
    (streamed,), _ = gru_jax.gru_stack_step(stack, (h0,), xs[0], step=step)
    assert_close(streamed, step(params, h0, xs[0]), rtol=0, atol=0)


@ALL
def test_layers_in_both_directions(name):
    init, step, _ = CELLS[name]
    stack = gru_jax.init_gru_stack(jax.random.key(0), I, (7, 6), bidirectional=True, init=init)
    h_lasts, ys = gru_jax.gru_stack_unroll(
        stack, None, random_inputs()[1], step=step, dropout=0.5, key=jax.random.key(1)
    )
    assert ys.shape == (T, B, 12)
    chex.assert_trees_all_equal_shapes_and_dtypes(h_lasts, gru_jax.zero_state(stack, (B,)))


@ALL
def test_gradients_are_finite_and_not_zero(name):
    params, step, _, h0, xs = problem(name)
    gradient = jax.grad(
        lambda p: sum(map(jnp.sum, jax.tree.leaves(gru_jax.unroll(step, p, h0, xs)[1])))
    )(params)
    for leaf in jax.tree.leaves(gradient):
        assert jnp.all(jnp.isfinite(leaf))
        assert jnp.any(leaf != 0)


@ALL
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, x: (h, x[:, :2]), "x has shape"),
        (lambda h, x: (jax.tree.map(lambda leaf: leaf[:, :2], h), x), "has shape"),
        (lambda h, x: (h, x.astype(jnp.bfloat16)), "x is bfloat16"),
        (lambda h, x: (jax.tree.map(lambda leaf: leaf[:2], h), x), "has shape"),
    ],
)
def test_refusals(name, change, message):
    params, step, _, h0, xs = problem(name)
    with pytest.raises(ValueError, match=message):
        step(params, *change(h0, xs[0]))


@ALL
def test_wrong_parameters_are_refused(name):
    params, step, _, h0, xs = problem(name)
    broken = jax.tree.map(lambda leaf: leaf[..., :-1], params)
    with pytest.raises(ValueError, match=r"params\.w_. has shape"):
        step(broken, h0, xs[0])


def test_initialisation():
    params = gru_jax.init_lstm(jax.random.key(0), I, H)
    np.testing.assert_array_equal(params.b, np.repeat([0, 1, 0, 0], H))
    for w in jnp.split(params.w_h, 4, axis=1):
        assert_close(w.T @ w, jnp.eye(H), atol=1e-5)
    together = gru_jax.init_layer_norm_gru(jax.random.key(0), I, H, norm="together")
    np.testing.assert_array_equal(together.b, np.repeat([-1, 0, 0], H))
    assert together.gain_h is None


def test_mgu_is_the_gru_with_one_gate():
    params, step, _, h0, xs = problem("mgu")
    f, n = slice(0, H), slice(H, None)

    def tied(array):
        return jnp.concatenate([array[..., f], array[..., f], array[..., n]], axis=-1)

    gru = gru_jax.GRUParams(tied(params.w_x), tied(params.w_h), tied(params.b))
    assert_close(step(params, h0, xs[0]), gru_jax.gru_step(gru, h0, xs[0]))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("flags", ["", "mask", "resets", "mask resets"])
def test_min_gru_twins(flags, reverse):
    """The associative scan gives the loop's values and gradients."""
    params, step, _, h0, xs = problem("min_gru")
    keywords = {name: random_flags(seed) for seed, name in enumerate(flags.split())}

    def loss(run, params, h0, xs):
        h_last, hs = run(params, h0, xs, **keywords, reverse=reverse)
        weights = jnp.sin(jnp.arange(hs.size, dtype=hs.dtype).reshape(hs.shape))
        return jnp.sum(weights * hs) + jnp.sum(h_last**2), (h_last, hs)

    actual, expected = (
        jax.jit(jax.value_and_grad(partial(loss, run), argnums=(0, 1, 2), has_aux=True))(
            params, h0, xs
        )
        for run in (gru_jax.min_gru_unroll, partial(gru_jax.unroll, step))
    )
    assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [0, 1])
def test_min_gru_of_short_sequences(steps):
    params, step, _, h0, xs = problem("min_gru")
    actual = gru_jax.min_gru_unroll(params, h0, xs[:steps])
    assert_close(actual, gru_jax.unroll(step, params, h0, xs[:steps]))


@pytest.mark.parametrize("kind", ["rnn", "lstm"])
def test_pytorch(kind):
    torch = pytest.importorskip("torch")
    params, step, _, h0, xs = problem(kind)
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
    _, hs = gru_jax.unroll(step, params, h0, xs)
    assert_close(jax.tree.leaves(hs)[0], expected.numpy())
