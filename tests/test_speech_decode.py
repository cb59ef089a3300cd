"""Decoders of connectionist temporal classification, against brute force over all paths."""

import itertools
from collections import defaultdict

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from common import assert_close

from experiments.speech import decode

pytestmark = pytest.mark.usefixtures("jax_defaults")


def spelt(path):
    """What a path spells."""
    return tuple(label for label, _ in itertools.groupby(path) if label != 0)


def test_greedy_by_hand():
    paths = np.array([[0, 2, 2, 0, 2, 1, 1, 0], [1, 1, 1, 1, 2, 2, 3, 3], [0] * 8])
    mask = np.arange(8) < np.array([8, 6, 8])[:, None]
    labels = decode.greedy(jnp.asarray(np.eye(4)[paths.T]), jnp.asarray(mask.T))
    expected = [[2, 2, 1, 0, 0, 0, 0, 0], [1, 2, 0, 0, 0, 0, 0, 0], [0] * 8]
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_prefix_beam_sums_over_all_paths(frames):
    """With room for every prefix each probability is the sum over the paths that spell it."""
    logits = 2 * np.random.default_rng(frames).normal(size=(6, 3)).astype(np.float32)
    log_p = np.asarray(jax.nn.log_softmax(logits[:frames]), np.float64)
    sums = defaultdict(float)
    for path in itertools.product(range(3), repeat=frames):
        sums[spelt(path)] += np.exp(sum(log_p[t, label] for t, label in enumerate(path)))
    width = len(sums) + 3
    beam = decode.prefix_beam(jnp.asarray(logits), jnp.arange(6) < frames, width, 5)
    total = np.asarray(jnp.exp(jnp.logaddexp(beam.blank, beam.label)))
    found = {
        tuple(int(label) for label in prefix if label): p
        for prefix, p in zip(np.asarray(beam.prefixes), total, strict=True)
        if p > 0
    }
    assert found.keys() == sums.keys()
    for prefix, p in sums.items():
        np.testing.assert_allclose(found[prefix], p, rtol=1e-5)
    assert np.all(np.diff(total) <= 0)
    np.testing.assert_array_equal(beam.prefixes[len(sums) :], -1)


def test_prefix_beam_beats_the_best_path():
    """Two frames of .6 blank and .4 label: the path of blanks is best, but 1 is likelier: .64."""
    logits = jnp.log(jnp.array([[0.6, 0.4], [0.6, 0.4]]))
    mask = jnp.ones(2, bool)
    assert not decode.greedy(logits, mask).any()
    beam = decode.prefix_beam(logits, mask, 2, 2)
    np.testing.assert_array_equal(beam.prefixes[0], [1, 0])
    assert_close(jnp.exp(jnp.logaddexp(beam.blank[0], beam.label[0])), 0.64)


def test_prefix_beam_gives_what_the_loss_gives():
    rng = np.random.default_rng(0)
    logits = jnp.asarray(3 * rng.normal(size=(12, 4)), jnp.float32)
    beam = decode.prefix_beam(logits, jnp.arange(12) < 9, 400, 8)
    labels = beam.prefixes[:1]
    assert labels.any()
    loss = optax.ctc_loss(
        logits[None, :9], jnp.zeros((1, 9)), labels, (labels == 0).astype(jnp.float32)
    )
    assert_close(jnp.logaddexp(beam.blank[0], beam.label[0]), -loss[0], rtol=1e-4)


def test_word_error_by_hand():
    """One digit replaced, one left out, one too many, of eight that were said."""
    labels = np.array([[2, 3, 4, 0], [10, 1, 0, 0], [5, 5, 6, 0]])
    said = decode.words_of(labels)
    assert said == ["1 2 3", "9 0", "4 4 5"]
    errors = decode.word_error(said, ["1 7 3", "9 0 0", "4 5"])
    assert errors["rate"] == pytest.approx(3 / 8)
    counts = {name: errors[name] for name in ("words", "substituted", "deleted", "inserted")}
    assert counts == {"words": 8, "substituted": 1, "deleted": 1, "inserted": 1}
