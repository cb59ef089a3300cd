"""`readout` and `generate_step`, and `generate` compared with a loop in Python."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from common import B, H, I, as_float64, assert_close, random_inputs, random_params

import gru_jax

V = 6  # vocabulary
P = 3  # prompt length


def test_readout_matches_numpy():
    params = gru_jax.init_readout(jax.random.key(0), H, V, b_init=jax.nn.initializers.normal())
    h, _ = random_inputs(batch=(2, B))
    assert_close(
        gru_jax.readout(params, h), as_float64(h) @ as_float64(params.w) + as_float64(params.b)
    )
    without = gru_jax.init_readout(jax.random.key(0), H, V, bias=False)
    assert without.b is None
    assert_close(gru_jax.readout(without, h), as_float64(h) @ as_float64(without.w))


def test_readout_of_numpy_weights():
    params = gru_jax.init_readout(jax.random.key(0), H, V)
    h, _ = random_inputs()
    np.testing.assert_array_equal(
        gru_jax.readout(as_float64(params), h), gru_jax.readout(params, h)
    )


def test_readout_keeps_the_dtype_of_the_state():
    params = gru_jax.init_readout(jax.random.key(0), H, V, dtype=jnp.bfloat16)
    assert (params.w.dtype, params.b.dtype) == (jnp.bfloat16, jnp.bfloat16)
    h, _ = random_inputs()
    y = gru_jax.readout(params, h)
    assert y.dtype == jnp.float32
    exact = as_float64(h.astype(jnp.bfloat16)) @ as_float64(params.w) + as_float64(params.b)
    assert_close(y, exact)


def test_generate_step_matches_textbook():
    """One step, then y = σ(W_y h')."""
    params = random_params()
    readout_params = gru_jax.init_readout(jax.random.key(0), H, V, bias=False)
    h, xs = random_inputs(batch=())
    expected_h = oracle.gru_step(as_float64(params), as_float64(h), as_float64(xs[0]))
    expected_y = oracle.sigmoid(as_float64(readout_params.w).T @ expected_h)
    actual = gru_jax.generate_step(params, readout_params, h, xs[0])
    assert_close(actual, (expected_h, expected_y))
    _, logits = gru_jax.generate_step(params, readout_params, h, xs[0], activation=lambda y: y)
    assert_close(jax.nn.sigmoid(logits), actual[1])


def language_model(seed=0):
    return random_params(seed, inputs=V), gru_jax.init_readout(jax.random.key(seed), H, V)


def step(params, h, token):
    x = jax.nn.one_hot(token, V)
    return gru_jax.generate_step(*params, h, x, activation=lambda y: 3 * y)


def loop(key, params, h, prompt, length, choose):
    """Feeds the prompt, then each choice, one token at a time."""
    choose = jax.jit(choose)
    run = jax.jit(step)
    for token in prompt:
        h, logits = run(params, h, token)
    tokens = []
    for i, token_key in enumerate(jax.random.split(key, length)):
        tokens.append(choose(token_key, logits).astype(prompt.dtype))
        if i < length - 1:
            h, logits = run(params, h, tokens[-1])
    return h, jnp.stack(tokens)


def scaled_top_k(key, logits):
    logits = logits / 0.7
    smallest = jnp.sort(logits, axis=-1)[..., V - 2 :][..., :1]
    return jax.random.categorical(key, jnp.where(logits < smallest, -jnp.inf, logits))


@pytest.mark.parametrize("batch", [(), (B,), (2, B)])
@pytest.mark.parametrize(
    ("keywords", "choose"),
    [
        ({}, jax.random.categorical),
        ({"temperature": 0}, lambda key, logits: jnp.argmax(logits, axis=-1)),
        ({"top_k": 1}, lambda key, logits: jnp.argmax(logits, axis=-1)),
        ({"temperature": 0.7, "top_k": 2}, scaled_top_k),
        ({"sample": lambda key, y: jnp.argmin(y, axis=-1)}, lambda key, y: jnp.argmin(y, axis=-1)),
    ],
    ids=["sampled", "greedy", "top 1", "temperature and top 2", "own"],
)
def test_generate_matches_a_loop(batch, keywords, choose):
    params, key = language_model(), jax.random.key(3)
    prompt = jax.random.randint(jax.random.key(1), (P, *batch), 0, V)
    h0 = random_inputs(batch=batch)[0]
    generate = jax.jit(
        lambda key, params, h0, prompt: gru_jax.generate(
            key, step, params, h0, prompt, 8, **keywords
        )
    )
    h, tokens = generate(key, params, h0, prompt)
    expected_h, expected_tokens = loop(key, params, h0, prompt, 8, choose)
    assert tokens.shape == (8, *batch)
    assert tokens.dtype == prompt.dtype
    np.testing.assert_array_equal(tokens, expected_tokens)
    assert_close(h, expected_h, atol=1e-5)


def test_vmap_of_generate_matches_rows():
    params = language_model()
    keys = jax.random.split(jax.random.key(0), B)
    prompts = jax.random.randint(jax.random.key(1), (B, P), 0, V)
    h0 = random_inputs()[0]

    def generate(key, h0, prompt):
        return gru_jax.generate(key, step, params, h0, prompt, 8)

    _, mapped = jax.vmap(generate)(keys, h0, prompts)
    rows = [generate(*row)[1] for row in zip(keys, h0, prompts, strict=True)]
    np.testing.assert_array_equal(mapped, jnp.stack(rows))


def test_generate_with_raw_keys():
    params, prompt, h0 = language_model(), jnp.array([1, 2]), random_inputs(batch=())[0]
    new, old = jax.random.key(7), jax.random.PRNGKey(7)
    draws = [gru_jax.generate(key, step, params, h0, prompt, 8)[1] for key in (new, old)]
    np.testing.assert_array_equal(*draws)


def test_generate_in_two_parts_matches_whole():
    params, key = language_model(), jax.random.key(0)
    prompt = jnp.array([1, 2, 3])
    greedy = partial(gru_jax.generate, key, step, params, temperature=0)
    h0 = random_inputs(batch=())[0]
    _, whole = greedy(h0, prompt, 9)
    h, first = greedy(h0, prompt, 4)
    _, second = greedy(h, first[-1:], 5)
    np.testing.assert_array_equal(jnp.concatenate([first, second]), whole)


@pytest.mark.parametrize("length", [0, 1])
def test_generate_of_few_tokens(length):
    h0 = random_inputs(batch=())[0]
    prompt = jnp.array([1, 2])
    h, tokens = gru_jax.generate(jax.random.key(0), step, language_model(), h0, prompt, length)
    assert tokens.shape == (length,)
    assert h.shape == (H,)


def test_generate_is_traced_once_for_all_temperatures():
    params, prompt, h0 = language_model(), jnp.array([1]), random_inputs(batch=())[0]
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def generate(key, temperature):
        return gru_jax.generate(key, step, params, h0, prompt, 4, temperature=temperature)

    for temperature in (0.5, 1.0, 2.0):
        generate(jax.random.key(0), temperature)


def test_generate_samples_from_softmax():
    """Frequencies of one next token over many draws, within four standard deviations."""
    params, prompt = language_model(), jnp.array([2])
    h0 = random_inputs(batch=())[0]
    draws = 4000
    batch = jnp.broadcast_to(prompt[:, None], (1, draws))
    h0s = jnp.broadcast_to(h0, (draws, H))
    _, tokens = gru_jax.generate(jax.random.key(0), step, params, h0s, batch, 1, temperature=2.0)
    probabilities = jax.nn.softmax(step(params, h0, prompt[0])[1] / 2)
    frequencies = np.bincount(np.asarray(tokens[0]), minlength=V) / draws
    spread = np.sqrt(probabilities * (1 - probabilities) / draws)
    assert np.all(np.abs(frequencies - probabilities) < 4 * spread)


PROMPT = jnp.array([1, 2])


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"prompt": PROMPT[:0]}, r"prompt is int32 of shape \(0,\), but must be integers"),
        ({"prompt": PROMPT[0]}, r"prompt is int32 of shape \(\), but must be integers"),
        ({"prompt": jnp.ones(2)}, "prompt is float32 of shape"),
        ({"length": -1}, "length is -1, but must be at least 0"),
        ({"temperature": -0.5}, "temperature is -0.5, but must be at least 0"),
        ({"top_k": 0}, "top_k is 0, but must be at least 1"),
        ({"top_k": V + 1}, r"top_k is 7, but must be in 1..V = 6"),
        ({"step": lambda p, h, x: (h, h[..., 0])}, r"logits of shape \(\), .* \(\*batch, V\)"),
    ],
)
def test_wrong_arguments_of_generate_raise(keywords, message):
    arguments = {"step": step, "prompt": PROMPT, "length": 4} | keywords
    with pytest.raises(ValueError, match=message):
        gru_jax.generate(jax.random.key(0), params=language_model(), h0=jnp.zeros(H), **arguments)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (gru_jax.ReadoutParams(jnp.zeros(H)), r"params.w has shape \(7,\), but must have \(H, O\)"),
        (gru_jax.ReadoutParams(jnp.zeros((I, V))), r"h has shape \(4, 7\), .* with H = 3"),
        (gru_jax.ReadoutParams(jnp.zeros((H, V)), jnp.zeros(H)), r"params.b has shape \(7,\)"),
    ],
)
def test_wrong_arguments_of_readout_raise(params, message):
    with pytest.raises(ValueError, match=message):
        gru_jax.readout(params, jnp.zeros((B, H)))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"hidden_size": 0}, "hidden_size is 0, but must be at least 1"),
        ({"output_size": 0}, "output_size is 0, but must be at least 1"),
        ({"dtype": bool}, "dtype is bool, but must be a floating dtype"),
    ],
)
def test_wrong_arguments_of_init_readout_raise(keywords, message):
    with pytest.raises(ValueError, match=message):
        gru_jax.init_readout(jax.random.key(0), **({"hidden_size": H, "output_size": V} | keywords))


@pytest.mark.parametrize("h", [jnp.ones((B, H), int), jnp.ones((B, H), bool)])
def test_readout_of_integers_raises(h):
    head = gru_jax.init_readout(jax.random.key(0), H, 2)
    with pytest.raises(ValueError, match=r"h is (int32|bool), but must be floating"):
        gru_jax.readout(head, h)
    wrong = gru_jax.ReadoutParams(jnp.ones((H, 2), int))
    with pytest.raises(ValueError, match=r"params\.w is int32, but must be a floating dtype"):
        gru_jax.readout(wrong, jnp.ones((B, H)))
