"""`init_gru`: shapes, the presets' distributions, own initialisers, and what raises."""

import math
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import H, I, assert_close

import gru_jax

INPUTS, HIDDEN = 40, 64


def gates(matrix):
    return jnp.split(matrix, 3, axis=-1)


@pytest.mark.parametrize("reset", ["before", "after"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("preset", ["linen", "torch", "haiku", "keras"])
def test_shapes_and_dtypes(reset, bias, dtype, preset):
    init = partial(gru_jax.init_gru, input_size=I, hidden_size=H, reset=reset, bias=bias)
    params = jax.eval_shape(partial(init, dtype=dtype, preset=preset), jax.random.key(0))
    chex.assert_shape(params.w_x, (I, 3 * H))
    chex.assert_shape(params.w_h, (H, 3 * H))
    assert (params.b is not None) == bias
    assert (params.b_hn is not None) == (bias and reset == "after")
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(params))
    assert (params.input_size, params.hidden_size, params.reset) == (I, H, reset)


@pytest.mark.parametrize(
    ("preset", "reset"),
    [(None, "before"), ("haiku", "before")] + [(p, "after") for p in ("linen", "torch", "keras")],
)
def test_preset_decides_reset(preset, reset):
    options = {} if preset is None else {"preset": preset}
    assert gru_jax.init_gru(jax.random.key(0), I, H, **options).reset == reset
    stack = gru_jax.init_gru_stack(jax.random.key(0), I, (H,), bidirectional=True, **options)
    assert stack.layers[0].backward.reset == reset
    for given in ("before", "after"):
        assert gru_jax.init_gru(jax.random.key(0), I, H, reset=given, **options).reset == given


@pytest.mark.parametrize("name", ["w_x_init", "w_h_init", "b_init", "b_hn_init"])
def test_initialisers_of_wrong_shape_raise(name):
    with pytest.raises(ValueError, match=rf"the result of {name} has shape \(2,\), but must have"):
        gru_jax.init_gru(
            jax.random.key(0), I, H, reset="after", **{name: lambda key, shape, dtype: jnp.ones(2)}
        )


@pytest.mark.parametrize(
    "options", [{"b_init": jnp.ones, "bias": False}, {"b_hn_init": jnp.ones, "reset": "before"}]
)
def test_initialisers_without_effect_raise(options):
    with pytest.raises(ValueError, match=r"b_(hn_)?init is given, but"):
        gru_jax.init_gru(jax.random.key(0), I, H, **options)


def test_init_in_float64():
    with jax.enable_x64(True):
        params = gru_jax.init_gru(jax.random.key(0), I, H, reset="after", dtype=jnp.float64)
        assert all(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(params))
        assert gru_jax.zero_state(params).dtype == jnp.float64


# Distributions are told apart by their support and their second moment. The bounds are four
# standard deviations of the estimate, so that a right distribution fails by chance in about one
# seed of 10⁴, and the seed is fixed.


def draw(preset, reset="after"):
    return gru_jax.init_gru(jax.random.key(3), INPUTS, HIDDEN, reset=reset, preset=preset)


def assert_variance(array, variance, kurtosis):
    """`kurtosis` is E[x⁴]/E[x²]² of the distribution, which sets the estimate's spread."""
    spread = variance * math.sqrt((kurtosis - 1) / array.size)
    np.testing.assert_allclose(np.mean(np.square(array)), variance, atol=4 * spread)


def assert_lecun_normal(matrix):
    """Normal cut at two of its standard deviations, with variance 1/fan_in after the cut."""
    fan_in = matrix.shape[0]
    assert_variance(matrix, 1 / fan_in, kurtosis=2.37)
    edge = 2 / math.sqrt(fan_in) / 0.87962566103423978
    assert 0.97 * edge < np.abs(matrix).max() <= edge


def assert_uniform(array, bound):
    assert_variance(array, bound**2 / 3, kurtosis=1.8)
    assert 0.9 * bound < np.abs(array).max() <= bound


def test_linen_preset():
    params = draw("linen")
    for gate in gates(params.w_x):
        assert_lecun_normal(gate)
    for gate in gates(params.w_h):
        np.testing.assert_allclose(gate @ gate.T, np.eye(HIDDEN), atol=1e-5)
    assert not np.any(params.b)
    assert not np.any(params.b_hn)


def test_torch_preset():
    params = draw("torch")
    bound = 1 / math.sqrt(HIDDEN)
    assert_uniform(params.w_x, bound)
    assert_uniform(params.w_h, bound)
    # b_ih + b_hh: the sum of two uniforms has twice the variance and a triangular density.
    keys = jax.random.split(jax.random.key(0), 200)
    many = jax.vmap(lambda key: gru_jax.init_gru(key, 1, HIDDEN, reset="after", preset="torch").b)(
        keys
    )
    z, r, n = gates(many)
    for gate in (z, r):
        assert_variance(gate, 2 * bound**2 / 3, kurtosis=2.4)
        assert np.abs(gate).max() > 1.9 * bound
        # P(|a + b| > bound) = 1/4 for a triangular density on ±2 bound
        assert abs(np.mean(np.abs(gate) > bound) - 0.25) < 4 * math.sqrt(0.1875 / gate.size)
    assert_uniform(n, bound)
    assert_uniform(params.b_hn, bound)


def test_haiku_preset():
    params = draw("haiku")
    assert_lecun_normal(params.w_x)
    assert_lecun_normal(params.w_h)
    assert not np.any(params.b)


def test_keras_preset():
    params = draw("keras")
    assert_uniform(params.w_x, math.sqrt(6 / (INPUTS + 3 * HIDDEN)))
    np.testing.assert_allclose(params.w_h @ params.w_h.T, np.eye(HIDDEN), atol=1e-5)
    assert not np.any(params.b)


def test_linen_preset_matches_flax():
    """The orthogonality and the moments that Flax itself draws, by the same measures."""
    linen = pytest.importorskip("flax.linen", reason="flax is not installed")
    cell = linen.GRUCell(HIDDEN)
    drawn = cell.init(jax.random.key(0), jnp.zeros(HIDDEN), jnp.zeros(INPUTS))["params"]
    for gate in ("z", "r", "n"):
        assert_lecun_normal(drawn[f"i{gate}"]["kernel"])
        kernel = drawn[f"h{gate}"]["kernel"]
        np.testing.assert_allclose(kernel @ kernel.T, np.eye(HIDDEN), atol=1e-5)


def test_haiku_preset_matches_haiku():
    hk = pytest.importorskip("haiku", reason="dm-haiku is not installed")
    run = hk.transform(lambda x, h: hk.GRU(HIDDEN)(x, h))
    drawn = run.init(jax.random.key(0), jnp.zeros(INPUTS), jnp.zeros(HIDDEN))["gru"]
    assert_lecun_normal(drawn["w_i"])
    assert_lecun_normal(drawn["w_h"])


def test_own_initialisers_are_called_per_gate():
    asked = []

    def init(key, shape, dtype):
        asked.append(shape)
        return jnp.full(shape, len(asked), dtype)

    params = gru_jax.init_gru(
        jax.random.key(0),
        I,
        H,
        reset="after",
        w_x_init=init,
        w_h_init=init,
        b_init=init,
        b_hn_init=init,
    )
    assert asked == [(I, H)] * 3 + [(H, H)] * 3 + [(3 * H,), (H,)]
    assert [float(gate[0, 0]) for gate in gates(params.w_h)] == [4, 5, 6]


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"reset": "middle"}, "reset is 'middle', but must be one of 'before', 'after'"),
        ({"preset": "theano"}, "preset is 'theano', but must be one of 'linen', 'torch'"),
    ],
)
def test_unknown_options_raise(keywords, message):
    with pytest.raises(ValueError, match=message):
        gru_jax.init_gru(jax.random.key(0), I, H, **keywords)


MAPPED = """
import jax, gru_jax
draw = jax.jit(jax.vmap(lambda key: gru_jax.init_gru(key, 3, 8)))
for seed in range(20):
    jax.block_until_ready(draw(jax.random.split(jax.random.key(seed), 300)))
"""


def test_mapped_initialisation_does_not_hang():
    """In a process of its own, with the threads of a machine of two cores."""
    given = {"NPROC": "2", "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | given
    program = [sys.executable, "-c", MAPPED]
    assert subprocess.run(program, env=environment, timeout=120, check=False).returncode == 0


def test_mapped_initialisation_draws_what_each_key_draws():
    keys = jax.random.split(jax.random.key(0), 3)
    mapped = jax.vmap(lambda key: gru_jax.init_gru(key, I, H))(keys)
    for i, key in enumerate(keys):
        one = gru_jax.init_gru(key, I, H)
        assert_close(jax.tree.map(lambda w, i=i: w[i], mapped), one, rtol=0, atol=0)
