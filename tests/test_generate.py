"""`generate`: the dtype of tokens, temperatures, and what raises.

It is compared with a Python loop in test_readout.py.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gru_jax


def counting(size):
    """A model without weights, whose most probable token is the one after the last."""

    def step(_, h, token):
        return h, 50 * jax.nn.one_hot((token + 1) % size, size)

    return step


def fixed(logits, h, token):
    """A model that returns its parameters as logits."""
    return h, jnp.broadcast_to(logits, (*token.shape, len(logits)))


def run(step, prompt, length=5, *, params=(), **keywords):
    h0 = jnp.zeros(prompt.shape[1:])
    key = jax.random.key(0)
    return gru_jax.generate(key, step, params, h0, prompt, length, **keywords)[1]


@pytest.mark.parametrize(
    ("dtype", "size", "last"),
    [
        (np.uint8, 257, 255),
        (np.int8, 256, 127),
        (np.int16, 50_000, 32_767),
        (np.uint16, 70_000, 65_535),
        (np.int32, 70_000, 65_535),
        (np.uint32, 300, 254),
    ],
)
@pytest.mark.parametrize("temperature", [0, 0.01])
def test_tokens_beyond_the_range_of_the_prompts_dtype(dtype, size, last, temperature):
    tokens = run(counting(size), np.array([last], dtype), 3, temperature=temperature)
    assert tokens.dtype == jnp.int32
    np.testing.assert_array_equal(tokens, [(last + 1 + i) % size for i in range(3)])


def test_int64_prompt_keeps_its_dtype():
    with jax.enable_x64(True):
        assert run(counting(9), jnp.array([3], jnp.int64)).dtype == jnp.int64


LOGITS = np.array([8.0, 9.0, 12.0, 11.0], np.float32)
run_fixed = partial(run, fixed, params=jnp.asarray(LOGITS))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("temperature", [1e-4, 1e-7, 1e-40, 1e-300])
@pytest.mark.parametrize("top_k", [None, 1, 2])
def test_small_temperatures_are_greedy(dtype, temperature, top_k):
    for offset in (0, 100, -100):
        logits = jnp.asarray(LOGITS + offset, dtype)
        keywords = {"params": logits, "temperature": temperature, "top_k": top_k}
        assert run(fixed, jnp.array([0]), **keywords).tolist() == [2] * 5


@pytest.mark.parametrize(
    "zero",
    [0, 0.0, -0.0, np.float32(0), np.float64(0), np.int64(0), np.uint8(0), np.array(0.0)],
    ids=lambda zero: type(zero).__name__,
)
def test_temperature_zero_is_greedy(zero):
    assert run_fixed(jnp.array([0]), temperature=zero).tolist() == [2] * 5


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, -np.inf])
def test_traced_temperatures_that_are_not_positive_are_greedy(value):
    traced = jax.jit(lambda t: run_fixed(jnp.array([0]), temperature=t))
    assert traced(value).tolist() == [2] * 5
    assert traced(jnp.float16(value)).tolist() == [2] * 5


def test_temperature_zero_of_jax_is_greedy():
    for zero in (jnp.array(0.0), jnp.array(0), jnp.zeros((), jnp.bfloat16)):
        assert run_fixed(jnp.array([0]), temperature=zero).tolist() == [2] * 5


def test_one_temperature_per_row():
    prompt = jnp.zeros((1, 500), int)
    rows = jnp.where(jnp.arange(500) < 100, 0.0, 1e4)
    tokens = run_fixed(prompt, 1, temperature=rows)[0]
    assert jnp.all(tokens[:100] == 2)
    shares = np.bincount(np.asarray(tokens[100:]), minlength=4) / 400
    assert np.all(np.abs(shares - 0.25) < 0.09)  # four standard deviations


@pytest.mark.parametrize("temperature", [np.inf, 1e38])
def test_infinite_temperature_is_uniform(temperature):
    logits = jnp.array([0.0, -jnp.inf, 3.0, 30000.0])
    tokens = run(fixed, jnp.zeros((1, 600), int), 1, params=logits, temperature=temperature)[0]
    shares = np.bincount(np.asarray(tokens), minlength=4) / 600
    np.testing.assert_allclose(shares, [1 / 3, 0, 1 / 3, 1 / 3], atol=0.08)


@pytest.mark.parametrize("top_k", [jnp.int32(2), np.int64(2), jnp.array(2)])
def test_top_k_of_any_integer_type(top_k):
    tokens = run_fixed(jnp.zeros((1, 200), int), temperature=9.0, top_k=top_k)
    assert set(np.asarray(tokens).ravel().tolist()) == {2, 3}


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"temperature": -1}, "temperature is -1, but must be at least 0"),
        ({"temperature": np.nan}, "temperature is nan, but must be at least 0"),
        ({"temperature": jnp.array(-0.5)}, "temperature is -0.5, but must be at least 0"),
        ({"temperature": np.float32(-0.5)}, "temperature is -0.5, but must be at least 0"),
        ({"temperature": "hot"}, "temperature is a str"),
        ({"temperature": None}, "temperature is None"),
        ({"temperature": True}, "temperature is bool"),
        ({"temperature": [1.0, 2.0, 3.0]}, r"temperature is float32 of shape \(3,\)"),
        ({"top_k": 99, "temperature": 0}, r"top_k is 99, but must be in 1..V = 4"),
        ({"top_k": 0, "temperature": 0}, "top_k is 0, but must be at least 1"),
        ({"top_k": 1.5}, "top_k is a float, but must be a Python integer"),
        ({"top_k": "2"}, "top_k is a str, but must be a Python integer"),
        ({"length": 2.5}, "length is a float, but must be a Python integer"),
        ({"prompt": jnp.array([4])}, r"prompt has token 4, but must have tokens in 0..V - 1 = 3"),
        ({"prompt": jnp.array([2, -1])}, "prompt has token -1, but must have tokens in"),
        ({"prompt": np.array([2**32 + 1])}, "prompt has token 4294967297, but must have tokens"),
        ({"sample": lambda key, logits: None}, "sample returned None, but must return integers"),
        ({"key": np.zeros(3, np.uint32)}, r"key has shape \(3,\), but must be a key of JAX's def"),
        ({"prompt": jnp.array([0.5])}, "prompt is float32 of shape"),
        ({"sample": lambda key, logits: logits}, "sample returned float32.4., but must return"),
        ({"sample": "argmax"}, "sample is a str, but must be a function"),
        ({"step": lambda p, h, token: h}, "step returned a .*, but must return"),
        ({"step": lambda p, h, token: (h, token)}, r"logits of shape \(\), but must return float"),
        ({"step": lambda p, h, t: (h[None], jnp.ones(4))}, "step returned .* but must return a st"),
        ({"step": None}, "step is None, but must be a function"),
        ({"key": 0}, "key is a int, but must be a key"),
        ({"key": jax.random.split(jax.random.key(0), 3)}, r"key has shape \(3,\), but must be a s"),
    ],
)
def test_wrong_arguments_raise(keywords, message):
    arguments = {
        "key": jax.random.key(0),
        "step": fixed,
        "params": jnp.asarray(LOGITS),
        "h0": jnp.zeros(()),
        "prompt": jnp.array([0]),
        "length": 3,
    }
    with pytest.raises(ValueError, match=message):
        gru_jax.generate(**(arguments | keywords))
