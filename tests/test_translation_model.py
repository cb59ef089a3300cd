"""Translation's model: one step against the whole, padding, losses, and rows in blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from common import assert_close

from experiments.translation import model as models
from experiments.translation.data import END, PAD, START, UNKNOWN, Batch
from experiments.translation.run import translate
from experiments.translation.search import beam_search

pytestmark = pytest.mark.usefixtures("jax_defaults")

MODEL = models.init_model(jax.random.key(0), 9, 8, embedding=5, hidden=6, layers=2)
SOURCES = jnp.array([[4, 5, 6, 7, END], [8, END, PAD, PAD, PAD], [5, 5, END, PAD, PAD]])
ENCODE = jax.jit(models.encode, static_argnames="rate")
DECODE = jax.jit(models.decode, static_argnames="rate")
STEP = jax.jit(models.step)
TARGETS = jnp.array([[4, 5, END, PAD], [6, 7, 4, END], [END, PAD, PAD, PAD]])


def test_step_equals_decode():
    memory, h0 = ENCODE(MODEL, SOURCES)
    logits, weights = DECODE(MODEL, memory, h0, TARGETS)
    assert_close(weights.sum(axis=-1), jnp.ones((3, 4)), rtol=1e-6)
    np.testing.assert_array_equal(weights[1, :, 2:], 0)
    wide = jax.tree.map(lambda x: jnp.repeat(x[:, None], 2, axis=1), (h0, jnp.zeros_like(h0)))
    state, before = (h0, jnp.zeros_like(h0)), jnp.full(3, START)
    for t in range(4):
        state, one = STEP(MODEL, memory, state, before)
        wide, two = STEP(MODEL, memory, wide, jnp.stack([before, before], axis=1))
        for place in (PAD, START, UNKNOWN):
            np.testing.assert_array_equal(one[:, place], -jnp.inf)
        left = jnp.array([END, 4, 5, 6, 7])
        assert_close(one[:, left], logits[t][:, left], atol=1e-5)
        assert_close(two, jnp.stack([one, one], axis=1), atol=1e-5)
        before = TARGETS[:, t]


def test_padding_changes_no_logits():
    memory, h0 = ENCODE(MODEL, SOURCES[1:])
    shorter, h0_shorter = ENCODE(MODEL, SOURCES[1:, :3])
    assert_close(h0, h0_shorter, atol=1e-6)
    long, short = (
        DECODE(MODEL, m, h, TARGETS[1:])[0] for m, h in ((memory, h0), (shorter, h0_shorter))
    )
    assert_close(long, short, atol=1e-6)


def test_dropout_needs_a_key_and_a_rate():
    def logits(rate, key):
        return DECODE(
            MODEL, *ENCODE(MODEL, SOURCES, rate=rate, key=key), TARGETS, rate=rate, key=key
        )[0]

    plain = logits(0.0, None)
    assert_close(logits(0.5, None), plain)
    assert_close(logits(0.0, jax.random.key(0)), plain)
    assert np.abs(plain - logits(0.5, jax.random.key(0))).max() > 0.01


def test_token_losses_are_smoothed_cross_entropies():
    logits = jax.random.normal(jax.random.key(0), (4, 3, 8))
    losses = jax.jit(models.token_losses)(logits, TARGETS, 0.2)
    smooth = optax.smooth_labels(jax.nn.one_hot(TARGETS.T, 8), 0.2)
    expected = optax.softmax_cross_entropy(logits, smooth)
    real = TARGETS.T != PAD
    assert_close(losses[real], expected[real], rtol=1e-5)
    np.testing.assert_array_equal(losses[~real], 0)


def test_tokens_that_cannot_be_do_not_count_without_smoothing():
    """As in what `step` gives: of no probability, and of no target."""
    logits = jax.random.normal(jax.random.key(0), (4, 3, 8))
    masked = logits.at[..., jnp.array([PAD, START, UNKNOWN])].set(-jnp.inf)
    losses = jax.jit(models.token_losses)(masked, TARGETS, 0.0)
    real = TARGETS.T != PAD
    expected = optax.softmax_cross_entropy_with_integer_labels(masked, TARGETS.T)
    assert_close(losses[real], expected[real], rtol=1e-5)
    np.testing.assert_array_equal(losses[~real], 0)


def test_evaluation_counts_every_token_once(monkeypatch):
    monkeypatch.setattr(models, "BLOCK", 2)
    total = 0.0
    for source, target in zip(SOURCES, TARGETS, strict=True):
        logits, _ = DECODE(MODEL, *ENCODE(MODEL, source[None]), target[None])
        count = int(jnp.sum(target != PAD))
        losses = optax.softmax_cross_entropy_with_integer_labels(logits[:count, 0], target[:count])
        total += losses.sum()
    batch = Batch(np.asarray(SOURCES), np.asarray(TARGETS))
    found = jax.jit(lambda model: models.nats_per_token(model, batch))(MODEL)
    assert_close(found, total / 8, rtol=1e-5)


def test_rows_are_translated_as_each_alone_by_a_beam_of_one():
    """Greedily, in blocks that are ordered by length."""
    sources = np.asarray(SOURCES)
    found = translate(MODEL, sources, 6, size=1, length_penalty=0.0)
    for i, source in enumerate(sources):
        memory, h0 = ENCODE(MODEL, source[None])
        alone, _ = beam_search(
            lambda state, tokens, memory=memory: models.step(MODEL, memory, state, tokens),
            (h0, jnp.zeros_like(h0)),
            jnp.full(1, START),
            end=END,
            length=6,
            size=1,
            length_penalty=0.0,
        )
        np.testing.assert_array_equal(found[i], alone[0, 0])
