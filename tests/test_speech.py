"""Spoken digits: the data's parts, joining, decoders against brute force, streams, a small run."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from common import assert_close

import gru_jax
from experiments import speech
from experiments.harness.datasets import DatasetError
from experiments.harness.settings import Run
from experiments.harness.training import best_seed
from experiments.speech import data as speech_data
from experiments.speech import decode
from experiments.speech import model as models
from experiments.speech.data import STRINGS, Distortion, Part, batch_at, join

pytestmark = pytest.mark.usefixtures("jax_defaults")

SMALL = speech.Config(
    hidden_size=24,
    layers=1,
    dropout=0.0,
    batch_size=8,
    isolated_steps=40,
    connected_steps=30,
    evaluate_every=10,
    learning_rate=1e-2,
    width=3,
    seeds=2,
)


@pytest.fixture(scope="module")
def data():
    try:
        return speech_data.spoken_digits()
    except DatasetError as error:
        pytest.skip(str(error))


def first_of(part, count):
    """The first recordings of each digit."""
    rows = np.concatenate([np.nonzero(part.digits == digit)[0][:count] for digit in range(10)])
    recordings, lengths = np.split(part.frames, part.starts[1:]), part.lengths[rows]
    frames = np.concatenate([recordings[i] for i in rows])
    return Part(frames, np.cumsum(lengths) - lengths, lengths, part.digits[rows])


@pytest.fixture
def few(data, monkeypatch):
    """A few recordings, and few strings of them."""
    parts = data._replace(
        train=first_of(data.train, 4),
        validation=first_of(data.validation, 4),
        test=first_of(data.test, 4),
    )
    monkeypatch.setattr(speech_data, "spoken_digits", lambda: parts)
    monkeypatch.setitem(STRINGS, "validation", 12)
    monkeypatch.setitem(STRINGS, "test", 15)
    return parts


def test_parts_share_no_recording(data):
    for part, count in zip(data[:3], (200, 50, 50), strict=True):
        np.testing.assert_array_equal(np.bincount(part.digits), np.full(10, count))
        np.testing.assert_array_equal(part.starts[1:], np.cumsum(part.lengths)[:-1])
        assert part.lengths.sum() == len(part.frames)
        assert part.frames.shape[1] == 13
    assert sum(len(part.frames) for part in data[:3]) == 53_999
    every = np.concatenate([part.frames for part in data[:3]])
    assert len(np.unique(every, axis=0)) == 53_999  # so no recording has a copy in another part
    np.testing.assert_allclose(data.train.frames.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(data.train.frames.std(axis=0), 1, atol=1e-4)
    assert np.abs(data.test.frames.mean(axis=0)).max() > 1e-3  # by the training part's numbers


LENGTHS = np.array([3, 5, 2])
PART = Part(
    np.random.default_rng(0).normal(size=(10, 13)).astype(np.float32),
    np.array([0, 3, 8]),
    LENGTHS,
    np.array([7, 0, 9]),
)


def test_join_plays_recordings_as_they_are():
    batch = join(PART, [np.array([1, 2, 1]), np.array([0])])
    np.testing.assert_array_equal(batch.lengths, [12, 3])
    np.testing.assert_array_equal(batch.labels, [[1, 10, 1, 0, 0, 0, 0], [8, 0, 0, 0, 0, 0, 0]])
    frames = PART.frames
    np.testing.assert_array_equal(
        batch.xs[:, 0], np.concatenate([frames[3:8], frames[8:], frames[3:8]])
    )
    np.testing.assert_array_equal(batch.xs[:3, 1], frames[:3])
    np.testing.assert_array_equal(batch.xs[3:, 1], 0)


def test_join_speeds_up_what_is_too_long():
    batch = join(PART, [np.array([1]), np.array([0])], limit=3)
    np.testing.assert_array_equal(batch.lengths, [3, 3])
    np.testing.assert_allclose(batch.xs[:, 0], PART.frames[[3, 5, 7]])
    np.testing.assert_array_equal(batch.xs[:, 1], PART.frames[:3])


def test_join_distorts_within_the_given_limits():
    """Speeds within the range; one offset for a whole recording; only between its own frames."""
    part = PART._replace(frames=np.repeat(np.float32([[1], [2], [4]]) * np.ones(13), LENGTHS, 0))
    rng, lengths, offsets = [np.random.default_rng(0)], [], []
    for _ in range(200):
        batch = join(part, [np.array([1])], distortion=Distortion(rng, 2.0, offset=0.5, noise=0.0))
        xs = batch.xs[:, 0]
        np.testing.assert_allclose(xs, np.broadcast_to(xs[0], xs.shape), rtol=1e-6)
        lengths.append(len(xs))
        offsets.append(xs[0] - 2.0)
    assert set(lengths) == set(range(2, 10))
    assert abs(np.std(offsets) - 0.5) < 0.03  # four standard errors and more
    played = join(PART, [np.array([1])], distortion=Distortion(rng, 2.0, offset=0.0, noise=0.0)).xs
    for i in range(13):
        expected = np.interp(np.linspace(0, 4, len(played)), np.arange(5), PART.frames[3:8, i])
        np.testing.assert_allclose(played[:, 0, i], expected, rtol=1e-5, atol=1e-6)
    noise = join(
        PART, [np.array([1])] * 50, distortion=Distortion(rng * 50, 1.0, offset=0.0, noise=0.2)
    )
    assert abs(np.std(noise.xs - PART.frames[3:8, None]) - 0.2) < 0.02


def test_batches_are_functions_of_the_step(data):
    one, two, other = (batch_at(SMALL, "connected", step, data.train) for step in (3, 3, 4))
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert not np.array_equal(one.labels, other.labels)
    sizes = np.sum(
        [batch_at(SMALL, "connected", s, data.train).labels > 0 for s in range(20)], axis=-1
    )
    assert set(sizes.ravel()) == {3, 4, 5, 6, 7}


def test_loss_ignores_padding():
    model = models.init_model(jax.random.key(0), "connected", (6,))
    loss = jax.jit(lambda batch: models.loss_of("connected", model, batch))
    strings = [np.array([1, 2, 1]), np.array([0, 1])]
    both, *alone = (loss(join(PART, part)) for part in (strings, strings[:1], strings[1:]))
    assert_close(both, (3 * alone[0] + 2 * alone[1]) / 5, rtol=1e-5)


def test_dropout_between_the_layers_of_one_layer_is_refused():
    model = models.init_model(jax.random.key(0), "connected", (6,))
    batch = join(PART, [np.array([0, 1])])
    with pytest.raises(ValueError, match="must be 0 with a single layer"):
        models.loss_of("connected", model, batch, 0.3, jax.random.key(1))


def test_padding_may_hold_anything():
    """What lies behind a recording's end reaches neither the loss nor its gradient."""
    for task, sizes in (("isolated", (6,)), ("connected", (6, 5))):
        model = models.init_model(jax.random.key(0), task, sizes)
        batch = join(PART, [np.array([1]), np.array([0])])
        behind = np.arange(len(batch.xs))[:, None] >= batch.lengths
        spoilt = batch._replace(xs=np.where(behind[..., None], np.nan, batch.xs))
        found, expected = (
            jax.jit(jax.value_and_grad(lambda m, b, task=task: models.loss_of(task, m, b)))(
                model, each
            )
            for each in (spoilt, batch)
        )
        assert_close(found, expected)


def test_a_stream_equals_the_whole(data):
    """Frame by frame within 1e-5 of the whole pass, and the same digits as the greedy decoder."""
    model = models.init_model(jax.random.key(1), "connected", (32, 32))
    model = model._replace(head=dataclasses.replace(model.head, w=8 * model.head.w))
    batch = join(data.test, [np.array([0, 60, 120, 180])])
    whole = jax.jit(models.connected_logits)(model, batch)[:, 0]
    hs = gru_jax.zero_state(model.stack)
    for t, x in enumerate(batch.xs[:, 0]):
        hs, logits = models.listen(model, hs, x)
        assert_close(logits, whole[t], atol=1e-5, rtol=1e-5)
    digits = [digit for _, digit in models.heard(model, batch.xs[:, 0])]
    labels = decode.greedy(whole, models.mask_of(batch)[:, 0])
    assert len(digits) > 3
    assert digits == [int(label) - 1 for label in labels if label]


def test_a_run_learns_records_and_resumes(few, tmp_path, capsys, monkeypatch):
    config = dataclasses.replace(SMALL, run=Run(output=tmp_path))
    result = speech.main(config)
    for task, fitted in result.fitted.items():
        losses = [np.mean(entry["validation_loss"]) for entry in fitted.history]
        assert losses[-1] < losses[0], task
    isolated, connected = result.tests["isolated"], result.tests["connected"]
    assert len(isolated["accuracy"]) == 2
    assert np.mean(isolated["accuracy"]) > 0.3  # chance is 0.1
    assert isolated["recordings"] == 40
    assert connected["strings"] == 15
    said = sum(map(len, speech_data.draw_strings(np.random.default_rng([1, 15]), few.test, 15)))
    for decoder in ("greedy", "prefix beam"):
        assert [errors["words"] for errors in connected[decoder]] == [said, said]
    record = json.loads((tmp_path / "speech-default.json").read_text())
    assert record["results"]["isolated"]["accuracy"] == isolated["accuracy"]
    assert record["results"]["connected"]["greedy"] == connected["greedy"]
    for name in ("isolated", "connected", "posteriors"):
        assert (tmp_path / f"speech-default.{name}.png").stat().st_size > 5000
    printed = capsys.readouterr().out
    for line in ("said ", "prefix beam: ", f"{100 * np.mean(isolated['accuracy']):.2f} ±"):
        assert line in printed

    # A run that was killed ten updates before its end goes on to the same bits.
    folder = tmp_path / "speech-default.checkpoints" / "isolated"
    steps = [int(path.name) for path in folder.iterdir() if path.name.isdigit()]
    shutil.rmtree(folder / str(max(steps)))
    drawn = []

    def recorded(config, task, step, train):
        drawn.append((task, step))
        return batch_at(config, task, step, train)

    monkeypatch.setattr(speech_data, "batch_at", recorded)
    resumed = speech.main(dataclasses.replace(config, run=Run(output=tmp_path, resume=True)))
    assert drawn == [("isolated", step) for step in range(30, 40)]
    for task, fitted in result.fitted.items():
        jax.tree.map(np.testing.assert_array_equal, resumed.fitted[task].params, fitted.params)
    assert resumed.tests == result.tests

    recording, fitted = tmp_path / "mine.npy", result.fitted["isolated"]
    frames = few.test.frames[: few.test.lengths[0]]
    np.save(recording, frames * few.deviation + few.mean)
    found = speech.main(speech.Config(use=tmp_path, recording=recording, width=3))
    logits = models.isolated_logits(best_seed(fitted), join(few.test, [np.array([0])]))
    assert found["isolated"] == str(int(np.argmax(logits)))
    assert all(digit.isdigit() for digit in found["connected"].split())
