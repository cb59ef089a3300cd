"""The language model on a slice of the real text: it learns, resumes, evaluates and samples."""

import dataclasses
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from common import assert_close

import gru_jax
from experiments import shakespeare
from experiments.harness.datasets import DatasetError
from experiments.harness.settings import Run, SettingError
from experiments.harness.tokens import Vocabulary
from experiments.shakespeare import data
from experiments.shakespeare import model as models
from experiments.shakespeare.run import sample

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
    for load in (data.tiny, data.plays):
        try:
            whole = load().train
            break
        except DatasetError as error:
            failures.append(str(error))
    else:
        pytest.skip("; ".join(failures))
    part = data.Text(whole[:18_000], whole[18_000:20_000])
    monkeypatch.setattr(data, "tiny", lambda: part)
    return part


def in_folder(folder, **changes):
    return dataclasses.replace(SMALL, run=Run(output=folder), **changes)


def test_a_run_learns_and_records(text, tmp_path, capsys):
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
    for line in (result.sample, f"validation: {result.validation_loss:.4f}", "trigram"):
        assert line in printed


def test_a_run_resumes_bit_identically(text, tmp_path, monkeypatch):
    whole = shakespeare.main(in_folder(tmp_path / "whole"))

    def interrupted(step, *arguments):
        if step == 30:
            raise KeyboardInterrupt
        return batch_at(step, *arguments)

    batch_at = data.batch_at
    monkeypatch.setattr(data, "batch_at", interrupted)
    with pytest.raises(KeyboardInterrupt):
        shakespeare.main(in_folder(tmp_path / "parts"))
    monkeypatch.setattr(data, "batch_at", batch_at)
    config = dataclasses.replace(SMALL, run=Run(tmp_path / "parts", resume=True))
    resumed = shakespeare.main(config)
    jax.tree.map(np.testing.assert_array_equal, resumed.fitted.params, whole.fitted.params)
    assert resumed.sample == whole.sample


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": "§"}, r"--prompt is '§', but the model does not know \['§'\]"),
        ({"prompt": ""}, "--prompt is ''"),
        ({"temperature": -1.0}, r"--temperature is -1.0, but must be a number in \[0, 1000\]"),
        ({"temperature": math.nan}, "--temperature is nan"),
        ({"sample_length": -1}, "--sample-length is -1"),
        ({"text": Path("absent.txt")}, "--text is 'absent.txt': No such file"),
    ],
)
def test_what_cannot_be_written_is_refused_before_training(
    text, tmp_path, monkeypatch, change, said
):
    monkeypatch.setattr(jax, "jit", None)  # training would begin with it
    with pytest.raises(SettingError, match=said):
        shakespeare.main(in_folder(tmp_path, **change))


def test_a_finished_model_writes_again_without_its_text(tmp_path, capsys):
    path = tmp_path / "own.txt"
    path.write_text("\ufeff" + "the cat sat\r\non the mat\n" * 200, encoding="utf-8")
    run = Run(tmp_path / "runs")
    result = shakespeare.main(dataclasses.replace(SMALL, text=path, run=run))
    record = json.loads((tmp_path / "runs" / "shakespeare-default.json").read_text())
    assert list(record["data"]) == ["own.txt"]
    assert not set("\ufeff\r") & set(result.sample)
    path.unlink()
    use = dataclasses.replace(shakespeare.Config(), use=tmp_path / "runs", sample_length=60)
    assert shakespeare.main(use) == result.sample
    assert shakespeare.main(dataclasses.replace(use, sample_seed=1)) != result.sample
    written = shakespeare.main(dataclasses.replace(use, prompt="the c", temperature=0.0))
    assert written.startswith("the c")
    assert capsys.readouterr().out.endswith(written + "\n")
    with pytest.raises(SettingError, match="--prompt is 'Z', but the model does not know"):
        shakespeare.main(dataclasses.replace(use, prompt="Z"))


def test_a_text_that_is_too_short_is_refused(tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("a b c " * 10)
    with pytest.raises(SettingError, match="of 60 characters, but must have 100 or more"):
        shakespeare.main(in_folder(tmp_path, text=path))


MODEL = models.init_model(SMALL, jax.random.key(0), 11)
VOCABULARY = Vocabulary(tuple("abcdefghijk"))
TOKENS = np.random.default_rng(0).integers(0, 11, 1000)


def zero_states(count):
    return gru_jax.zero_state(MODEL.stack, (count,))


def test_step_equals_forward():
    tokens, hs = jnp.asarray(TOKENS[:20].reshape(5, 4)), zero_states(4)
    last, logits = models.forward(SMALL, MODEL, hs, tokens)
    for t in range(5):
        hs, one = models.step(MODEL, hs, tokens[t])
        assert_close(one, logits[t], atol=1e-5)
    assert_close(hs, last, atol=1e-5)


@pytest.mark.parametrize("layers", [1, 2])
def test_forward_is_layer_on_layer_with_a_head(layers):
    """By the plain unroll of each layer's step."""
    config = dataclasses.replace(SMALL, layers=layers)
    model = models.init_model(config, jax.random.key(1), 11)
    tokens = jnp.asarray(TOKENS[:20].reshape(5, 4))
    hs, logits = models.forward(config, model, gru_jax.zero_state(model.stack, (4,)), tokens)
    xs = model.embedding[tokens]
    for layer, h in zip(model.stack.layers, hs, strict=True):
        last, xs = gru_jax.unroll(gru_jax.gru_step, layer, jnp.zeros((4, 32)), xs)
        assert_close(h, last, atol=1e-5)
    assert_close(logits, gru_jax.readout(model.head, xs), atol=1e-5)


@pytest.mark.parametrize("name", ["dropout", "weight_dropout"])
@pytest.mark.parametrize("layers", [1, 2])
def test_each_dropout_needs_a_key_and_a_rate(name, layers):
    without = dataclasses.replace(SMALL, layers=layers, dropout=0.0, weight_dropout=0.0)
    config = dataclasses.replace(without, **{name: 0.5})
    model = models.init_model(config, jax.random.key(0), 11)
    hs, tokens = gru_jax.zero_state(model.stack, (4,)), jnp.asarray(TOKENS[:20].reshape(5, 4))
    plain = models.forward(config, model, hs, tokens)[1]
    key = jax.random.key(0)
    assert np.abs(plain - models.forward(config, model, hs, tokens, key)[1]).max() > 0.01
    assert_close(models.forward(without, model, hs, tokens, key)[1], plain)


def test_a_new_epoch_forgets_the_states():
    hs = jax.tree.map(lambda h: h + 0.5, zero_states(4))
    tokens = TOKENS[:24].reshape(6, 4)
    config, key = dataclasses.replace(SMALL, dropout=0.0, weight_dropout=0.0), jax.random.key(0)
    goes_on, begins = (data.Batch(tokens, np.array(is_first)) for is_first in (False, True))
    expected = models.loss_of(config, MODEL, zero_states(4), goes_on, key)
    assert_close(models.loss_of(config, MODEL, hs, begins, key), expected)
    assert abs(models.loss_of(config, MODEL, hs, goes_on, key)[0] - expected[0]) > 1e-3


def evaluate(model, tokens, stream):
    streams = data.streams_of(tokens, stream, SMALL.chunk_length)
    return jax.jit(lambda model: models.evaluate(SMALL, model, streams))(model)


def test_padding_of_the_evaluation_may_be_anything():
    """The last chunk is filled up with symbol 0, which this text does not have."""
    spoilt = MODEL._replace(embedding=MODEL.embedding.at[0].set(jnp.nan))
    tokens = np.maximum(TOKENS[:90], 1)
    assert_close(evaluate(spoilt, tokens, 2000), evaluate(MODEL, tokens, 2000))


@pytest.mark.parametrize("stream", [2000, 300])
def test_evaluation_counts_every_character_once(stream):
    """One stream is the plain mean; several begin anew at their heads."""
    count = math.ceil(len(TOKENS) / stream)
    length = math.ceil(math.ceil((len(TOKENS) - 1) / count) / 16) * 16
    total = 0.0
    for start in range(0, len(TOKENS) - 1, length):
        part = jnp.asarray(TOKENS[start : start + length + 1])[:, None]
        _, logits = models.forward(SMALL, MODEL, zero_states(1), part[:-1])
        total += optax.softmax_cross_entropy_with_integer_labels(logits, part[1:]).sum()
    assert_close(evaluate(MODEL, TOKENS, stream), total / (len(TOKENS) - 1), rtol=1e-5)


def test_the_sample_at_temperature_zero_is_the_most_probable():
    config = dataclasses.replace(SMALL, temperature=0.0, prompt="a")
    one, two = (sample(config, jax.random.key(i), MODEL, VOCABULARY) for i in (0, 1))
    np.testing.assert_array_equal(one, two)


def test_the_sample_is_what_generate_says():
    config = dataclasses.replace(SMALL, prompt="ab")
    found = sample(config, jax.random.key(0), MODEL, VOCABULARY)
    _, tokens = gru_jax.generate(
        jax.random.fold_in(jax.random.key(0), SMALL.sample_seed),
        models.step,
        MODEL,
        zero_states(1),
        jnp.array([[0], [1]], jnp.int32),
        SMALL.sample_length,
        temperature=SMALL.temperature,
    )
    np.testing.assert_array_equal(found, tokens[:, 0])
