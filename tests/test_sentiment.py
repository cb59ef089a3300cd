"""The sentiment experiment: its data, its model, its explanations, and a whole run in small."""

import dataclasses
import json
import math
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import assert_close

from experiments import sentiment
from experiments.harness.datasets import DatasetError
from experiments.harness.settings import Run
from experiments.harness.tokens import PAD
from experiments.sentiment import data as sentiment_data
from experiments.sentiment import model as models
from experiments.sentiment import plot
from experiments.sentiment.baselines import baselines, features_of
from experiments.sentiment.data import Batch, Data, Part, words_of
from experiments.sentiment.run import SHOWN

pytestmark = pytest.mark.usefixtures("jax_defaults")


def load(name):
    try:
        return getattr(sentiment_data, name)()
    except DatasetError as error:
        pytest.skip(str(error))


def small_model(pieces=20, classes=3):
    ratios = np.random.default_rng(1).normal(size=(pieces, classes))
    model = models.init_model(jax.random.key(0), ratios, 8, 6)
    return jax.tree.map(lambda leaf: 3 * leaf, model)  # far from linear


def small_batch(rows=7, length=9, pieces=20):
    """Sentences of 1 to `length` words, which have 1 to 4 pieces each."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, pieces, (rows, length, 4), np.int32)
    tokens[np.arange(4) >= rng.integers(1, 5, (rows, length, 1))] = PAD
    tokens[np.arange(length) >= rng.integers(1, length + 1, (rows, 1))] = PAD
    return Batch(tokens, rng.integers(0, 3, rows), rng.uniform(0.3, 1, rows).astype(np.float32))


def test_words_signs_users_and_addresses_are_split():
    assert words_of("@Ann_1's It's GOOD, see http://t.co/x?y=1 :) _ô\x8f") == [
        *("@ann_1", "'s", "it's", "good", ",", "see", "<url>", ":", ")", "_ô\x8f")
    ]
    named = [sentiment_data.is_address(word) for word in ("@ann", "<url>", "@", "ann")]
    assert named == [True, True, False, False]


def test_tweets_are_in_one_part_each():
    data = load("tweets")
    parts = data[1:]
    names = [{sentiment_data.name_of(" ".join(s)) for s in part.sentences} for part in parts]
    assert sum(map(len, names)) == len(set().union(*names)) == sum(len(p.labels) for p in parts)
    assert [round(len(part.labels) / sum(map(len, names)), 2) for part in parts] == [0.8, 0.1, 0.1]
    for part in parts:
        assert len(part.sentences) == len(part.labels) == len(part.agreement)
        assert set(part.labels) == {0, 1, 2}
        assert 0 < part.agreement.min() < 0.5 < np.median(part.agreement) == 1
    (rude,) = [i for i, words in enumerate(data.train.sentences) if words[1:] == ["rude", "rude"]]
    assert data.classes[data.train.labels[rude]] == "negative"


def test_sst2_has_its_published_sizes():
    data = load("sst2")
    assert [len(part.sentences) for part in data[1:]] == [6920, 872, 1821]
    assert [int(part.labels.sum()) for part in data[1:]] == [3610, 444, 909]
    assert np.all(data.train.agreement == 1)
    assert data.train.sentences[0][:4] == ["a", "stirring", ",", "funny"]
    assert data.classes[data.train.labels[0]] == "positive"


def test_padding_changes_nothing():
    model, batch = small_model(), small_batch()
    logits = jax.jit(models.logits_of)(model, batch.tokens)
    for tokens, row in zip(batch.tokens[:3], logits, strict=False):
        alone = jax.jit(models.logits_of)(model, tokens[tokens[:, 0] != PAD][None])[0]
        assert_close(alone, row, rtol=1e-5, atol=1e-5)  # sums in another order


def test_accuracy_counts_every_row_once():
    """With more rows than one block holds and a rest."""
    model, batch = small_model(), small_batch(rows=1100)
    found = np.argmax(jax.jit(models.logits_of)(model, batch.tokens), axis=1)
    right = np.sum(found == batch.labels)
    assert 0 < right < 1100
    log_p = jax.jit(models.log_p_of)(model, batch.tokens)
    assert_close(jnp.sum(jnp.exp(log_p), axis=1), np.ones(1100), rtol=1e-5)
    assert_close(models.accuracy_of(log_p, batch.labels), np.float32(right / 1100))


def test_no_probabilities_are_no_hit():
    """argmax would take the first class for what is NaN."""
    log_p = jnp.log(jnp.array([[0.7, 0.3], [math.nan, math.nan], [0.6, math.nan], [0.8, 0.2]]))
    assert_close(models.accuracy_of(log_p, np.array([0, 0, 0, 1])), 0.25)


def test_a_sentence_without_words_has_finite_logits_and_gradients():
    """It has no mean word, which is no reason for NaN in the others' gradients."""
    model, batch = small_model(), small_batch()
    tokens = np.array(batch.tokens)
    tokens[0] = PAD
    logits = models.logits_of(model, tokens)
    assert_close(logits[1:], models.logits_of(model, batch.tokens)[1:])
    loss = partial(models.loss_of, rate=0.1, piece_rate=0.1)
    batch = batch._replace(tokens=tokens)
    gradients = jax.jit(jax.grad(loss))(model, batch, jax.random.key(0))
    for leaf in jax.tree.leaves((logits, gradients)):
        assert np.all(np.isfinite(leaf))
    sentence = {"words": [], "weights": [], "found": 1, "right": 0}
    assert plot.as_text(sentence, "xy") == "y (is x): "
    assert plot._shares([]) == []


def test_dropout_needs_the_key_and_keeps_the_mean():
    model, batch = small_model(), small_batch()
    tokens = jnp.swapaxes(batch.tokens, 0, 1)
    xs, mask = models.vectors_of(model, tokens), models.mask_of(tokens)
    key = jax.random.key(0)
    plain = models.classify(model, xs, mask, 0.5)
    assert_close(plain, models.logits_of(model, jnp.asarray(batch.tokens)))
    assert_close(models.classify(model, xs, mask, 0.0, key), plain)
    assert not np.allclose(models.classify(model, xs, mask, 0.5, key), plain, atol=0.1)


def test_word_attributions_are_what_scaling_a_word_does():
    """Against finite differences of the lead, as one word's vector grows."""
    with jax.enable_x64(True):
        compare_with_differences()


def compare_with_differences():
    model = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), small_model())
    batch = small_batch()

    @jax.jit
    @partial(jax.vmap, in_axes=(0, None))
    def logits_of(factors, tokens):
        xs = models.vectors_of(model, tokens) * factors[:, None]
        return models.classify(model, xs, models.mask_of(tokens))

    words = [["w"] * length for length in sentiment_data.lengths_of(batch.tokens)]
    found = models.word_attributions(model, words, batch)
    assert len(found) == len(words)
    steps = 1e-6 * np.eye(batch.tokens.shape[1])
    for tokens, label, entry in zip(batch.tokens, batch.labels, found, strict=True):
        logits = np.stack([logits_of(1 + steps, tokens), logits_of(1 - steps, tokens)])
        assert entry["found"] == logits[0, 0].argmax()
        assert entry["right"] == label
        others = np.delete(np.arange(3), entry["found"])
        leads = logits[..., entry["found"]] - logits[..., others].mean(axis=-1)
        expected = (leads[0] - leads[1]) / 2e-6
        length = int(np.sum(tokens[:, 0] != PAD))
        np.testing.assert_allclose(entry["weights"], expected[:length], rtol=1e-6, atol=1e-8)
        assert np.all(expected[length:] == 0)


def test_bag_of_words_is_right_where_a_word_decides():
    rng = np.random.default_rng(0)

    def part(count, decides):
        labels = rng.integers(0, 2, count)
        noise = rng.integers(0, 9, (count, 3))
        sentences = [
            [f"w{w}" for w in row] + ["yes" if label and decides else "no"]
            for row, label in zip(noise, labels, strict=True)
        ]
        return Part(sentences, labels, np.ones(count, np.float32))

    for decides in (True, False):
        found = baselines(Data(("-", "+"), *(part(200, decides) for _ in range(3))))
        for name in found.keys() - {"most frequent class"}:
            assert (found[name] == 1) == decides
            assert found[name] > 0.3


def test_features_of_a_sentence_are_words_pairs_and_letters():
    assert features_of(["a", "no"]) == ["a", "no", "a no", "#<a>", "#<no", "#no>", "#<no>"]


def test_a_label_counts_as_the_annotators_agree_on_it():
    model, batch = small_model(), small_batch()
    loss = partial(models.loss_of, rate=0.0, piece_rate=0.0)
    losses = [
        loss(model, Batch(*(each[row : row + 1] for each in batch)), jax.random.key(0))
        for row in range(len(batch.labels))
    ]
    expected = np.average(losses, weights=batch.weights)
    assert_close(loss(model, batch, jax.random.key(0)), np.float32(expected), rtol=1e-5)


def test_ratios_are_the_weights_of_naive_bayes():
    """Piece 2 stands once in class 1, twice in one sentence; piece 3 in both, of half a weight."""
    tokens = np.array([[[2, 3], [2, PAD]], [[3, PAD], [PAD, PAD]]])
    batch = Batch(tokens, np.array([1, 0]), np.array([1, 0.5]))
    within = np.array([[1.5, 2], [1, 1], [1, 2], [1.5, 2]])  # PAD, unknown, 2, 3; 1 added to each
    shares = within / within.sum(axis=0)
    ratios = sentiment_data.ratios_of(batch, 4, 2)
    assert_close(ratios, np.log(shares / shares[:, ::-1]), rtol=1e-6)
    for size in (1, 5):  # fewer numbers than classes, and more
        model = models.init_model(jax.random.key(0), ratios, size, 3)
        assert_close(model.embedding[:, :2], ratios[:, :size] / 2)


def test_a_sentence_is_printed_with_its_three_greatest_weights():
    sentence = {"words": list("abcde"), "weights": [3, -9, 2, 1, 0], "found": 1, "right": 0}
    assert plot.as_text(sentence, "xy") == "y (is x): [a] b [c] [d] e"
    assert plot.as_text(sentence | {"right": 1}, "xy").startswith("y (right): ")


def test_a_run_learns_records_and_resumes(tmp_path, monkeypatch, capsys):
    """It learns, leaves a record and figures, and a resumed run ends at the same numbers."""
    data = load("tweets")
    few = Data(
        data.classes,  # which lie one after the other
        *(Part(*(each[::19] for each in part)) for part in data[1:]),
    )
    monkeypatch.setattr(sentiment_data, "tweets", lambda: few)
    config = sentiment.Config(
        hidden_size=16,
        embedding_size=16,
        length=16,
        batch_size=32,
        dropout=0.1,
        steps=60,
        learning_rate=2e-2,
        evaluate_every=20,
        seeds=2,
        run=Run(output=tmp_path),
    )
    result = sentiment.main(config)
    losses = [np.mean(entry["training_loss"]) for entry in result.fitted.history]
    assert losses[-1] < 0.9 * losses[0]
    record = json.loads((tmp_path / "sentiment-default.json").read_text())
    assert record["results"]["accuracy"] == result.accuracy
    assert len(set(result.accuracy)) == 2
    assert record["results"]["ensemble_accuracy"] == result.ensemble_accuracy > 0.4
    assert record["results"]["baselines"].keys() == {
        *("most frequent class", "bag of words", "bag of words, pairs and letters"),
        "naive Bayes",
    }
    assert len(record["results"]["words"]) == SHOWN
    for suffix in (".png", ".words.png"):
        assert (tmp_path / f"sentiment-default{suffix}").stat().st_size > 10_000
    assert "test accuracy" in capsys.readouterr().out
    resumed = dataclasses.replace(config, run=Run(output=tmp_path, resume=True))
    assert sentiment.main(resumed).accuracy == result.accuracy

    lines = tmp_path / "lines.txt"
    lines.write_text("\ufeffwhat a wonderful day\nhate it \u2028 so much\n\n", encoding="utf-8")
    found = sentiment.main(dataclasses.replace(config, use=tmp_path, lines=lines))
    assert len(found) == 2
    assert set(found) <= set(data.classes)
    assert re.search(
        r"^(negative|neutral|positive) [01].\d\d\twhat a", capsys.readouterr().out, re.M
    )
