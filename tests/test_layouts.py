"""Every experiment tells `fit` along which axes its batches and its states are spread."""

import importlib
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from experiments import (
    long_memory,
    long_sequences,
    music,
    pixels,
    recommendation,
    sentiment,
    shakespeare,
    speech,
    time_parallel,
    timeseries,
    translation,
)
from experiments.__main__ import rows
from experiments.harness import training
from experiments.harness.devices import ParallelRun
from experiments.harness.tokens import Vocabulary
from experiments.long_sequences.data import Text, sequence_of
from experiments.long_sequences.model import WAYS
from experiments.recommendation.data import cases_of, pairs_of
from experiments.shakespeare.data import Tokens
from experiments.shakespeare.run import keys_of
from experiments.speech.data import COEFFICIENTS, Data, Part
from experiments.time_parallel.model import learn
from experiments.timeseries import classify, demand, forecast, vowels

pytestmark = pytest.mark.usefixtures("jax_defaults")
BATCH = 6  # no other axis is as long
RNG = np.random.default_rng(0)


def tokens(*shape):
    return RNG.integers(3, 9, shape).astype(np.int32)


def train_long_memory(run, task):
    run.config = long_memory.Config(batch_size=BATCH, hidden_size=4, seeds=2)
    long_memory.run.learn(run, task, "gru")


def train_sentiment(run):
    run.config = sentiment.Config(batch_size=BATCH, hidden_size=4, embedding_size=4, seeds=2)
    part = sentiment.data.Batch(tokens(20, 7, 4), RNG.integers(0, 2, 20), RNG.uniform(size=20))
    sentiment.run.train(run, {"train": part, "validation": part}, 9, 2)


def train_shakespeare(run):
    run.config = config = shakespeare.Config(
        batch_size=BATCH, hidden_size=4, embedding_size=4, chunk_length=8
    )
    key = keys_of(config)[0]
    model = shakespeare.run.init_model(config, key, 9)
    shakespeare.run.train(run, key, model, (tokens(200), tokens(200)), baseline=1.0)


def train_recommendation(run):
    run.config = recommendation.Config(
        batch_size=BATCH, hidden_size=4, embedding_size=4, chunk_length=2, seeds=2
    )
    histories = [RNG.permutation(9).astype(np.int32) for _ in range(10)]
    cases = cases_of(histories, 2)
    recommendation.run.train(run, pairs_of(histories), cases, 9, baseline=1.0)


def train_speech(run, task):
    run.config = speech.Config(batch_size=BATCH, hidden_size=4, seeds=2)
    lengths = np.full(20, 8)
    frames = RNG.normal(size=(160, COEFFICIENTS)).astype(np.float32)
    part = Part(frames, 8 * np.arange(20), lengths, np.arange(20) % 10)
    none = np.zeros(COEFFICIENTS)
    speech.run.train(run, task, Data(part, part, part, none, none))


def train_translation(run):
    run.config = config = translation.Config(batch_size=BATCH, hidden_size=4, embedding_size=4)
    pairs = translation.data.Batch(tokens(20, 7), tokens(20, 8))
    model = translation.run.init(config, jax.random.key(0), ([None] * 9, [None] * 9))
    translation.run.train(run, model, pairs, pairs, jax.random.key(1))


def train_music(run):
    run.config = music.Config(batch_size=BATCH, hidden_size=4, seeds=2)
    rolls = [RNG.integers(0, 2, (9, 88)).astype(np.uint8) for _ in range(8)]
    music.run.learn(run, "jsb", "gru", music.data.Data(rolls, rolls, rolls))


def train_vowels(run):
    run.config = timeseries.Config(batch_size=BATCH, hidden_size=4, seeds=2)
    xs = RNG.normal(size=(vowels.LONGEST, 20, vowels.COEFFICIENTS)).astype(np.float32)
    known = vowels.Batch(xs, np.full(20, 9), RNG.integers(0, vowels.SPEAKERS, 20))
    classify.train(run, "whole", known, known)


def train_demand(run):
    run.config = timeseries.Config(batch_size=BATCH, hidden_size=4, seeds=2)
    count = 12 * demand.WEEK
    calendar = RNG.normal(size=(count, demand.CALENDAR)).astype(np.float32)
    series = demand.Series(*RNG.normal(size=(2, count)), calendar, np.arange(count))
    scale = demand.Scale((0.0, 1.0), (0.0, 1.0))
    origins = demand.DAY * np.arange(8, 60)
    windows = demand.windows_of(series, scale, origins[:4], 2)
    forecast.train(run, series, scale, origins, windows)


def train_pixels(run):
    run.config = pixels.Config(batch_size=BATCH, hidden_size=4, seeds=2)
    images = RNG.integers(0, 256, (20, 784)).astype(np.uint8)
    part = pixels.data.Part(images, (np.arange(20) % 10).astype(np.int32))
    pixels.run.train(run, "permuted", pixels.data.Data(part, part, part))


def train_long_sequences(run, way):
    run.config = long_sequences.Config(batch_size=BATCH, length=8, hidden_size=4)
    parts = sequence_of(tokens(8 * BATCH + 1)), sequence_of(tokens(9))
    text = Text(*parts, Vocabulary(tuple("abcdefghi")))
    long_sequences.run.train(run, text, 4, 1e-2, way=WAYS[way])


def train_time_parallel(run):
    run.config = time_parallel.Config(batch_size=BATCH)
    learn(run, 4, Tokens(tokens(600), tokens(200), Vocabulary(tuple("abcdefghi"))))


CASES = {
    "long_memory adding": lambda run: train_long_memory(run, "adding-8"),
    "long_memory copy": lambda run: train_long_memory(run, "copy-4"),
    "sentiment": train_sentiment,
    "shakespeare": train_shakespeare,
    "recommendation": train_recommendation,
    "speech isolated": lambda run: train_speech(run, "isolated"),
    "speech connected": lambda run: train_speech(run, "connected"),
    "timeseries vowels": train_vowels,
    "timeseries demand": train_demand,
    "translation": train_translation,
    "music": train_music,
    "pixels": train_pixels,
    "long_sequences": lambda run: train_long_sequences(run, "chunked_loss"),
    "long_sequences overlap": lambda run: train_long_sequences(run, "truncated, overlap"),
    "time_parallel": train_time_parallel,
}
MAPPED = {"behaviour", "memory_rl"}
"""They do not train by batches; `test_spread.py` has them."""


class ToldError(Exception):
    """What `fit` was told."""


def spread(axes, tree):
    """The sizes of the axes that are spread."""
    found = []

    def note(axis, part):
        found.extend(np.shape(leaf)[axis] for leaf in jax.tree.leaves(part) if axis is not None)

    jax.tree.map(note, axes, tree, is_leaf=lambda axis: axis is None)
    return found


def joined(axes, one, other):
    """The batch of which these are the shares of two processes."""

    def join_part(axis, one, other):
        if axis is None:
            jax.tree.map(np.testing.assert_array_equal, one, other)
            return one
        return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis), one, other)

    return jax.tree.map(join_part, axes, one, other, is_leaf=lambda axis: axis is None)


@pytest.mark.parametrize("case", CASES)
def test_the_axis_of_the_batch_is_told_and_two_processes_make_its_halves(case, monkeypatch):
    def fit(*_, **told):
        raise ToldError(told)

    monkeypatch.setattr(training, "fit", fit)
    monkeypatch.setitem(speech.data.STRINGS, "validation", 4)
    run = SimpleNamespace(mesh="mesh", checkpoints=Path("checkpoints"), warnings=[])
    with pytest.raises(ToldError) as caught:
        CASES[case](run)
    (told,) = caught.value.args
    layout, batch_at = told["layout"], told["batch_at"]
    batch = batch_at(0)
    assert layout.mesh == "mesh"
    sizes = spread(layout.batch, batch)
    assert sizes == [BATCH] * len(sizes)
    large = [leaf for leaf in jax.tree.leaves(batch) if np.size(leaf) > 1]
    assert len(sizes) == len(large)
    carry = told.get("carry", ())
    assert spread(layout.carry, carry) == [BATCH] * len(jax.tree.leaves(carry))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    shares = []
    for process in range(2):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        shares.append(batch_at(0))
    jax.tree.map(np.testing.assert_array_equal, joined(layout.batch, *shares), batch)


def test_no_experiment_that_trains_is_missing():
    spread = {
        row.name: isinstance(
            importlib.import_module(f"experiments.{row.name}").Config().run, ParallelRun
        )
        for row in rows()
    }
    assert [name for name in spread if not spread[name]] == ["benchmark"]
    assert {case.split()[0] for case in CASES} | MAPPED | {"benchmark"} == set(spread)
