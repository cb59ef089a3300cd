"""`generate`: the dtype of tokens, every temperature, and what is refused.

Its equality with a loop is tested in test_readout.py.
"""

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


def fixed(logits):
    """A model that gives the same logits always."""

    def step(_, h, token):
        return h, jnp.broadcast_to(logits, (*token.shape, len(logits)))

    return step


def run(step, prompt, length=5, **keywords):
    return gru_jax.generate(
        jax.random.key(0), step, (), jnp.zeros(prompt.shape[1:]), prompt, length, **keywords
    )[1]


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
def test_tokens_beyond_the_dtype_of_the_prompt(dtype, size, last, temperature):
    tokens = run(counting(size), np.array([last], dtype), 3, temperature=temperature)
    assert tokens.dtype == jnp.int32
    np.testing.assert_array_equal(tokens, [(last + 1 + i) % size for i in range(3)])


def test_an_int64_prompt_keeps_its_dtype():
    with jax.enable_x64(True):
        assert run(counting(9), jnp.array([3], jnp.int64)).dtype == jnp.int64


LOGITS = [8.0, 9.0, 12.0, 11.0]


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("temperature", [1e-4, 1e-7, 1e-40, 1e-300])
@pytest.mark.parametrize("top_k", [None, 1, 2])
@pytest.mark.parametrize("offset", [0, 100, -100])
def test_small_temperatures_are_greedy(dtype, temperature, top_k, offset):
    model = fixed(jnp.array(LOGITS, dtype) + jnp.array(offset, dtype))
    assert run(model, jnp.array([0]), temperature=temperature, top_k=top_k).tolist() == [2] * 5


@pytest.mark.parametrize(
    "zero",
    [0, 0.0, -0.0, np.float32(0), np.float64(0), np.int64(0), np.uint8(0), np.array(0.0)],
    ids=lambda zero: type(zero).__name__,
)
def test_every_zero_is_greedy(zero):
    assert run(fixed(jnp.array(LOGITS)), jnp.array([0]), temperature=zero).tolist() == [2] * 5


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, -np.inf])
def test_a_traced_temperature_that_is_not_positive_is_greedy(value):
    model = fixed(jnp.array(LOGITS))
    traced = jax.jit(lambda t: run(model, jnp.array([0]), temperature=t))
    assert traced(value).tolist() == [2] * 5
    assert traced(jnp.float16(value)).tolist() == [2] * 5


def test_a_jax_zero_is_greedy():
    for zero in (jnp.array(0.0), jnp.array(0), jnp.zeros((), jnp.bfloat16)):
        assert run(fixed(jnp.array(LOGITS)), jnp.array([0]), temperature=zero).tolist() == [2] * 5


def test_a_temperature_for_each_row():
    prompt = jnp.zeros((1, 500), int)
    rows = jnp.where(jnp.arange(500) < 100, 0.0, 1e4)
    tokens = run(fixed(jnp.array(LOGITS)), prompt, 1, temperature=rows)[0]
    assert jnp.all(tokens[:100] == 2)
    shares = np.bincount(np.asarray(tokens[100:]), minlength=4) / 400
    assert np.all(np.abs(shares - 0.25) < 0.09)  # four standard deviations


@pytest.mark.parametrize("temperature", [np.inf, 1e38])
def test_an_infinite_temperature_is_uniform_over_what_is_possible(temperature):
    logits = jnp.array([0.0, -jnp.inf, 3.0, 30000.0])
    tokens = run(fixed(logits), jnp.zeros((1, 600), int), 1, temperature=temperature)[0]
    shares = np.bincount(np.asarray(tokens), minlength=4) / 600
    np.testing.assert_allclose(shares, [1 / 3, 0, 1 / 3, 1 / 3], atol=0.08)


@pytest.mark.parametrize("top_k", [jnp.int32(2), np.int64(2), jnp.array(2)])
def test_any_integer_is_a_top_k(top_k):
    tokens = run(fixed(jnp.array(LOGITS)), jnp.zeros((1, 200), int), temperature=9.0, top_k=top_k)
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
def test_refusals(keywords, message):
    arguments = {
        "key": jax.random.key(0),
        "step": fixed(jnp.array(LOGITS)),
        "params": (),
        "h0": jnp.zeros(()),
        "prompt": jnp.array([0]),
        "length": 3,
    }
    with pytest.raises(ValueError, match=message):
        gru_jax.generate(**(arguments | keywords))
