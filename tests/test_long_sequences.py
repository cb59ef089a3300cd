"""The long-sequences experiment: its losses, their gradients, its costs, and a run in small."""

import dataclasses
import json
import resource
import signal
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from common import assert_close, randomised

import gru_jax
from experiments import long_sequences
from experiments.harness.datasets import DatasetError
from experiments.harness.settings import Run
from experiments.harness.tokens import vocabulary_of
from experiments.long_sequences import Config, cost, gradients
from experiments.long_sequences import data as texts
from experiments.long_sequences.data import sequence_of
from experiments.long_sequences.gradients import compare, deviation, exact_gradient, gradient_of
from experiments.long_sequences.model import WAYS, first_carry, init_model, truncated, whole

pytestmark = pytest.mark.usefixtures("jax_defaults")

SYMBOLS = 7
CONFIG = Config(
    length=400,
    hidden_size=6,
    embedding_size=3,
    measured=(100, 200),
    rounds=1,
    compared=200,
    truncations=(1, 20),
    segments=(20, 400),
    learning_rates=(1e-2, 1e-2),
    epochs=3,
)


def small(steps=24):
    model = randomised(init_model(jax.random.key(0), SYMBOLS, 3, 5))
    tokens = np.random.default_rng(0).integers(0, SYMBOLS, steps + 1).astype(np.int32)
    return model, sequence_of(tokens)


def small_text():
    """Words of one symbol each, so that there is something to learn."""
    rng = np.random.default_rng(0)
    tokens = np.repeat(rng.integers(0, SYMBOLS, 400), 4).astype(np.int32)
    vocabulary = vocabulary_of(["abcdefg"])
    return texts.Text(sequence_of(tokens[:1000]), sequence_of(tokens[1000:]), vocabulary)


def test_the_text_is_long_enough_for_a_million_steps():
    try:
        text = texts.load()
    except DatasetError as error:
        pytest.skip(str(error))
    assert len(text.train.inputs) >= 1_000_000
    np.testing.assert_array_equal(text.train.inputs[1:], text.train.targets[:-1])
    assert len(text.vocabulary) == 65
    short = texts.first(text.train, 5, "--length")
    assert short.inputs.shape == short.targets.shape == (5,)
    with pytest.raises(ValueError, match="--length is 2000000, but the text has 1003853"):
        texts.first(text.train, 2_000_000, "--length")


def test_all_ways_have_the_loss_of_the_whole_sequence():
    """Of truncated ones the value is that of the whole; their segments do not divide 24 steps."""
    model, sequence = small()
    expected, _ = whole(model, first_carry(model, WAYS["truncated"], 0), sequence)
    for way in WAYS.values():
        loss = truncated(way.loss, 7) if way.truncates else way.loss
        value, _ = jax.jit(loss)(model, first_carry(model, way, 7), sequence)
        assert_close(value, expected, rtol=1e-5)


def reaching(model, sequence, segment, before):
    """The gradient of each segment's loss that reaches so many steps back from its beginning."""
    h, hs = jnp.zeros(5), [jnp.zeros(5)]
    for t in range(len(sequence.inputs)):
        one = jax.tree.map(lambda x, t=t: x[t : t + 1], sequence)
        h = whole(model, h, one)[1]
        hs.append(h)
    total = jax.tree.map(jnp.zeros_like, model)
    for start in range(0, len(sequence.inputs), segment):
        back = min(before, start)
        part = slice(start - back, start + segment)
        here = jax.tree.map(lambda x, part=part: x[part], sequence)

        def loss(model, here=here, back=back, h=hs[start - back]):
            _, states = gru_jax.gru_unroll(model.gru, h, model.embedding[here.inputs])
            logits = gru_jax.readout(model.head, states[back:])
            log_p = jax.nn.log_softmax(logits)
            return -jnp.sum(jnp.take_along_axis(log_p, here.targets[back:, None], axis=1))

        total = jax.tree.map(jnp.add, total, jax.grad(loss)(model))
    return total


@pytest.mark.parametrize(("name", "before"), [("truncated", 0), ("truncated, overlap", 6)])
def test_truncated_gradients_reach_as_far_as_they_say(name, before):
    model, sequence = small()
    found = gradient_of(name, 6)(model, sequence)
    expected = jax.jit(partial(reaching, segment=6, before=before))(model, sequence)
    assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_longer_segments_are_closer_and_one_segment_is_exact():
    model, sequence = small()
    found = compare({"small": model}, sequence, (1, 4, 24))["small"]
    for ways in found.values():
        errors = [ways[length]["relative_error"] for length in ("1", "4", "24")]
        assert errors[0] > errors[1] > 1e-3 > 1e-5 > errors[2]
    plain, overlap = (ways["4"]["relative_error"] for ways in found.values())
    assert overlap < plain


def test_the_deviation_is_a_cosine_and_a_distance():
    exact = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])}
    half = jax.tree.map(lambda x: 0.5 * x, exact)
    assert deviation(half, exact) == pytest.approx({"cosine": 1, "relative_error": 0.5})
    turned = {"a": jnp.array([0.0, 5.0]), "b": jnp.array([0.0])}
    expected = {"cosine": 0, "relative_error": 2**0.5}
    assert deviation(turned, exact) == pytest.approx(expected)


def test_a_pass_is_one_exact_update_or_one_after_each_segment():
    model, sequence = small()
    optimiser = optax.sgd(1e-2)
    state = model, optimiser.init(model), sequence
    gradient = exact_gradient(model, sequence)
    once = jax.tree.map(lambda p, g: p - 1e-2 * g, model, gradient)
    for name in ('save="states"', "chunked_loss"):
        updated, _, nats = cost.pass_through(WAYS[name], optimiser, 6)(*state)
        assert_close(updated, once, rtol=1e-4, atol=1e-5)
        assert 1 < nats < 5
    stepwise, h = model, jnp.zeros(5)
    for start in range(0, 24, 6):
        segment = jax.tree.map(lambda x, start=start: x[start : start + 6], sequence)
        gradient, h = jax.grad(whole, has_aux=True)(stepwise, h, segment)
        stepwise = jax.tree.map(lambda p, g: p - 1e-2 * g, stepwise, gradient)
    updated, _, _ = cost.pass_through(WAYS["truncated"], optimiser, 6)(*state)
    assert_close(updated, stepwise, rtol=1e-4, atol=1e-5)


def test_the_peak_is_at_most_that_of_getrusage():
    """On Linux that is the peak of the process, or of the one that started it."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    most = most / 2**20 if sys.platform == "darwin" else most / 1024
    assert 50 < cost.peak_mebibytes() < most + 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segments": (30,), "learning_rates": (1e-2,)}, "--segments has 30, but must divide"),
        ({"truncations": (7,)}, "--truncations has 7, but must divide --compared = 200"),
        (
            {"measured": (30,)},
            "--measured has 30, but must be multiples of the first of",
        ),
        ({"learning_rates": (1e-2,)}, "--learning-rates has 1 values"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(changes, message, tmp_path):
    config = dataclasses.replace(CONFIG, run=Run(output=tmp_path), **changes)
    with pytest.raises(ValueError, match=message):
        long_sequences.main(config)


def test_a_run_learns_records_and_resumes(tmp_path, monkeypatch):
    """A resumed run has nothing left to do, and measures nothing again."""
    monkeypatch.setattr(texts, "load", small_text)
    monkeypatch.setattr(texts, "files", dict)
    passes = {"cpu_seconds": [0.1, 0.3, 0.2], "peak_mebibytes": 500.0, "temporary_mebibytes": 1.5}
    monkeypatch.setattr(cost, "measured_apart", lambda name, length, config: passes)
    monkeypatch.setattr(gradients, "exact_gradient", lambda model, sequence: model)
    half = partial(jax.tree.map, lambda leaf: 0.5 * leaf)
    monkeypatch.setattr(gradients, "gradient_of", lambda *way: lambda model, sequence: half(model))
    config = dataclasses.replace(CONFIG, run=Run(output=tmp_path))
    found = long_sequences.main(config)
    record = json.loads((tmp_path / "long_sequences-default.json").read_text())
    assert record["results"]["costs"] == found.costs
    assert (tmp_path / "long_sequences-default.png").stat().st_size > 10_000
    assert set(found.costs) == set(WAYS)
    assert found.training["20"]["updates"] == 60
    assert found.training["20"]["validation_loss"] < found.training["400"]["validation_loss"]
    tables = long_sequences.summary(record)
    assert "| 400 | 3 | 0.01 |" in tables["validation"]
    assert "| 20, overlap | 60 | 0.01 |" in tables["validation"]
    memory, times = list(tables.values())[1::-1]
    assert "| way | T = 100 | T = 200 |" in times
    assert "| chunked_loss | 1000.0 | 500.0 |" in times
    assert "| chunked_loss | 1.5 / 500 | 1.5 / 500 |" in memory
    assert "| 20 | 5.0e-01, 1.000000 |" in tables["relative error and cosine"]
    monkeypatch.setattr(cost, "measured_apart", None)
    again = long_sequences.main(dataclasses.replace(config, run=Run(output=tmp_path, resume=True)))
    assert again == found


def test_a_process_of_its_own_measures_one_pass():
    try:
        texts.load()
    except DatasetError as error:
        pytest.skip(str(error))
    entry = cost.measured_apart("chunked_loss", 50_000, dataclasses.replace(CONFIG, rounds=2))
    assert len(entry["seconds"]) == len(entry["cpu_seconds"]) == 4
    assert len(entry["nats_per_pass"]) == 5
    assert entry["nats_per_pass"][-1] < entry["nats_per_pass"][0]
    assert entry["peak_mebibytes"] >= entry["peak_mebibytes_before"] > 50


def test_a_process_that_is_killed_for_memory_ends_the_run_in_one_sentence(monkeypatch):
    def killed(*args, **options):
        return subprocess.CompletedProcess(args, -signal.SIGKILL)

    monkeypatch.setattr(subprocess, "run", killed)
    with pytest.raises(MemoryError):
        cost.measured_apart("chunked_loss", 100, CONFIG)
