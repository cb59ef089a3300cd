"""The main job on a slice of the real text: it learns, resumes, samples, and counts rightly."""

import dataclasses
import json
import math
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from common import assert_close

import gru_jax
from experiments import datasets, shakespeare, training
from experiments import text as texts

pytestmark = pytest.mark.usefixtures("jax_defaults")

SMALL = shakespeare.Config(
    dataset="tiny",
    layers=2,
    hidden_size=32,
    embedding_size=8,
    batch_size=8,
    chunk_length=16,
    steps=40,
    learning_rate=2e-2,
    dropout=0.1,
    weight_dropout=0.1,
    evaluate_every=20,
    sample_length=60,
)


@pytest.fixture
def text(monkeypatch):
    """20,000 characters of whichever text can be had, in place of tiny Shakespeare."""
    failures = []
    for load in (datasets.tiny_shakespeare, datasets.shakespeare):
        try:
            whole = load().train
            break
        except datasets.DatasetError as error:
            failures.append(str(error))
    else:
        pytest.skip("; ".join(failures))
    part = datasets.Text(whole[:18_000], whole[18_000:20_000])
    monkeypatch.setattr(datasets, "tiny_shakespeare", lambda: part)
    return part


def in_folder(folder, **changes):
    return dataclasses.replace(SMALL, run=training.Run(output=folder), **changes)


def test_main(text, tmp_path, capsys):
    result = shakespeare.main(in_folder(tmp_path))
    losses = [entry["validation_loss"] for entry in result.fitted.history]
    assert losses[-1] < losses[0]
    assert result.validation_loss < result.baselines["unigram"]
    assert len(result.sample) == SMALL.sample_length + 1
    record = json.loads((tmp_path / "shakespeare-default.json").read_text())
    assert record["results"]["validation_loss"] == result.validation_loss
    bits = record["results"]["validation_bits_per_character"]
    assert bits == pytest.approx(result.validation_loss / math.log(2))
    assert (tmp_path / "shakespeare-default.png").stat().st_size > 5000
    printed = capsys.readouterr().out
    for line in (result.sample, f"{result.validation_loss:.4f} nats", "trigram"):
        assert line in printed


def test_main_resumes_bit_identically(text, tmp_path, monkeypatch):
    whole = shakespeare.main(in_folder(tmp_path / "whole"))

    def interrupted(step, *arguments):
        if step == 30:
            raise KeyboardInterrupt
        return batch_at(step, *arguments)

    batch_at = texts.batch_at
    monkeypatch.setattr(texts, "batch_at", interrupted)
    with pytest.raises(KeyboardInterrupt):
        shakespeare.main(in_folder(tmp_path / "parts"))
    monkeypatch.setattr(texts, "batch_at", batch_at)
    config = dataclasses.replace(SMALL, run=training.Run(tmp_path / "parts", resume=True))
    resumed = shakespeare.main(config)
    jax.tree.map(np.testing.assert_array_equal, resumed.fitted.params, whole.fitted.params)
    assert resumed.sample == whole.sample


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": "§"}, r"'§' has \['§'\], but the symbols are"),
        ({"prompt": ""}, "prompt is int32 of shape"),
        ({"temperature": -1.0}, "temperature is -1.0, but must be at least 0"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"sample_length": -1}, "length is -1"),
    ],
)
def test_what_cannot_be_written_is_refused_before_training(
    text, tmp_path, monkeypatch, change, said
):
    monkeypatch.setattr(training, "fit", None)
    with pytest.raises(ValueError, match=said):
        shakespeare.main(in_folder(tmp_path, **change))


MODEL = shakespeare.init_model(jax.random.key(0), SMALL, 11)
TOKENS = np.random.default_rng(0).integers(0, 11, 1000)


def test_step_equals_forward():
    tokens = jnp.asarray(TOKENS[:20].reshape(5, 4))
    hs = shakespeare.zero_states(MODEL, 4)
    last, logits = shakespeare.forward(MODEL, hs, tokens, SMALL)
    for t in range(5):
        hs, one = shakespeare.step(MODEL, hs, tokens[t])
        assert_close(one, logits[t], atol=1e-5)
    assert_close(hs, last, atol=1e-5)


def test_dropout_needs_a_key_and_a_rate():
    tokens, hs = jnp.asarray(TOKENS[:20].reshape(5, 4)), shakespeare.zero_states(MODEL, 4)
    plain = shakespeare.forward(MODEL, hs, tokens, SMALL)[1]
    dropped = shakespeare.forward(MODEL, hs, tokens, SMALL, jax.random.key(0))[1]
    assert np.abs(plain - dropped).max() > 0.01
    without = dataclasses.replace(SMALL, dropout=0.0, weight_dropout=0.0)
    assert_close(shakespeare.forward(MODEL, hs, tokens, without, jax.random.key(0))[1], plain)


def test_drop_keeps_the_mean():
    dropped = shakespeare.drop(jax.random.key(0), jnp.ones(10_000), 0.3)
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(1 / 0.7)}
    assert abs(np.mean(dropped) - 1) < 4 * math.sqrt(0.3 / 0.7 / 10_000)


@pytest.mark.parametrize("rate", [1.0, -0.1, math.nan])
def test_drop_refuses_what_is_no_rate(rate):
    with pytest.raises(ValueError, match=r"but must be in \[0, 1\)"):
        shakespeare.drop(jax.random.key(0), jnp.ones(3), rate)


def test_padding_of_the_evaluation_may_be_anything():
    """The last chunk is filled up with symbol 0, which this text does not have."""
    embedding = MODEL.embedding.at[0].set(jnp.nan)
    tokens = np.maximum(TOKENS[:90], 1)
    found = shakespeare.evaluate(MODEL._replace(embedding=embedding), tokens, SMALL)
    assert_close(found, shakespeare.evaluate(MODEL, tokens, SMALL))


@pytest.mark.parametrize("stream", [2000, 300])
def test_evaluation_counts_every_character_once(stream, monkeypatch):
    """One stream is the plain mean; several begin anew at their heads."""
    monkeypatch.setattr(shakespeare, "EVALUATION_STREAM", stream)
    count = math.ceil(len(TOKENS) / stream)
    length = math.ceil(math.ceil((len(TOKENS) - 1) / count) / 16) * 16
    total = 0.0
    for start in range(0, len(TOKENS) - 1, length):
        part = jnp.asarray(TOKENS[start : start + length + 1])[:, None]
        hs = shakespeare.zero_states(MODEL, 1)
        _, logits = shakespeare.forward(MODEL, hs, part[:-1], SMALL)
        total += optax.softmax_cross_entropy_with_integer_labels(logits, part[1:]).sum()
    expected = total / (len(TOKENS) - 1)
    assert_close(shakespeare.evaluate(MODEL, TOKENS, SMALL), expected, rtol=1e-5)


def test_an_epoch_reads_the_text_once():
    per_epoch = len(TOKENS) // SMALL.batch_size // SMALL.chunk_length
    batches = [
        texts.batch_at(step, np.arange(1000), 16, 8, seed=0) for step in range(per_epoch + 1)
    ]
    read = np.concatenate([batch.tokens[:-1].ravel() for batch in batches[:-1]])
    assert len(set(read)) == len(read) == per_epoch * SMALL.batch_size * SMALL.chunk_length
    assert [bool(batch.is_first) for batch in batches] == [True] + [False] * (per_epoch - 1) + [
        True
    ]
    for before, after in pairwise(batches[:-1]):
        np.testing.assert_array_equal(before.tokens[-1], after.tokens[0])
    assert not np.array_equal(batches[0].tokens, batches[-1].tokens)


def test_a_text_too_short_is_refused():
    with pytest.raises(ValueError, match="8 streams of a text of 100 characters are shorter than"):
        texts.batch_at(0, TOKENS[:100], 16, 8, seed=0)


def test_ngrams_by_hand():
    """Train "abab", validation "aab", with the formulas of Witten and Bell worked out on paper."""
    train, validation = np.array([0, 1, 0, 1]), np.array([0, 0, 1])
    baselines = texts.ngram_baselines(train, validation, 2)
    unigram_b = (2 + 1) / (4 + 2)
    # after "a": n = 2, t = 1, both "b"; "aa" never occurred, so its successor is left to "a"
    bigram_ab = (2 + 1 * unigram_b) / (2 + 1)
    assert baselines["unigram"] == pytest.approx(-math.log(unigram_b))
    assert baselines["trigram"] == pytest.approx(-math.log(bigram_ab))
    # "aba" has its context "ab" once, with successor "a": n = 1, t = 1
    unigram_a = 0.5
    bigram_ba = (1 + 1 * unigram_a) / (1 + 1)
    trigram_aba = (1 + 1 * bigram_ba) / (1 + 1)
    seen = texts.ngram_baselines(train, np.array([0, 1, 0]), 2)
    assert seen["trigram"] == pytest.approx(-math.log(trigram_aba))


def test_ngrams_of_tokens_in_few_bits():
    """A trigram's number is up to size³, and wrapped where the tokens were bytes."""
    unsigned, signed, expected = (
        texts.ngram_baselines(TOKENS[:900].astype(dtype), TOKENS[900:].astype(dtype), 11)
        for dtype in (np.uint8, np.int8, np.int64)
    )
    assert unsigned == signed == expected


def test_ngrams_are_distributions():
    train = TOKENS[:500]
    for order in ("unigram", "trigram"):
        total = sum(
            math.exp(-texts.ngram_baselines(train, np.array([3, 7, last]), 11)[order])
            for last in range(11)
        )
        assert total == pytest.approx(1)


def test_writes_the_most_probable_at_temperature_zero():
    config = dataclasses.replace(SMALL, temperature=0.0, prompt="a")
    one, two = (shakespeare.write(jax.random.key(i), MODEL, config, "abcdefghijk") for i in (0, 1))
    assert one == two


def test_writes_what_generate_says():
    symbols = "abcdefghijk"
    sample = shakespeare.write(
        jax.random.key(0), MODEL, dataclasses.replace(SMALL, prompt="ab"), symbols
    )
    _, tokens = gru_jax.generate(
        jax.random.key(0),
        shakespeare.step,
        MODEL,
        shakespeare.zero_states(MODEL, 1),
        jnp.array([[0], [1]], jnp.int32),
        SMALL.sample_length,
        temperature=SMALL.temperature,
    )
    assert sample == "ab" + "".join(symbols[i] for i in np.asarray(tokens[:, 0]))
