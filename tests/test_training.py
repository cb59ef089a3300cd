"""The training loop that the experiments share: learning, stopping, and surviving a kill."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import fields
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gru_jax
from experiments.harness import checkpoints, training
from experiments.harness.training import TrainingConfig

pytestmark = pytest.mark.usefixtures("jax_defaults")
STEPS = 40


def loss(params, h, xs, key):
    """A small GRU learns to follow its input, with dropout so that the key matters."""
    h, hs = gru_jax.gru_unroll(params, h, xs)
    keep = jax.random.bernoulli(key, 0.9, hs.shape)
    return jnp.mean((jnp.where(keep, hs, 0) - jnp.cos(xs)) ** 2), h


def batch_at(step):
    return np.random.default_rng(step).normal(size=(6, 4, 5)).astype(np.float32)


def evaluate(params):
    return loss(params, jnp.zeros((4, 5)), jnp.asarray(batch_at(999)), jax.random.key(0))[0]


def init(key):
    return gru_jax.init_gru(key, 5, 5)


CONFIG_FIELDS = {each.name for each in fields(TrainingConfig)}


def fit(folder, **changes):
    """`training.fit` with those of its arguments and of its configuration's fields changed."""
    settings = {
        "optimiser": optax.adam(1e-2),
        "steps": STEPS,
        "evaluate_every": 10,
        "steps_per_call": 5,
        "items_per_step": 24,
        "unit": "frames",
        "folder": Path(folder),
    }
    arguments = {
        "key": jax.random.key(1),
        "params": init(jax.random.key(0)),
        "loss": loss,
        "batch_at": batch_at,
        "evaluate": evaluate,
        "carry": jnp.zeros((4, 5)),
    }
    for name, value in changes.items():
        (settings if name in CONFIG_FIELDS else arguments)[name] = value
    return training.fit(TrainingConfig(**settings), **arguments)


def test_learns_and_keeps_the_best_parameters(tmp_path):
    fitted = fit(tmp_path)
    steps = [entry["step"] for entry in fitted.history]
    losses = [entry["validation_loss"] for entry in fitted.history]
    assert steps == [10, 20, 30, 40]
    assert losses[-1] < 0.8 * losses[0]
    assert float(fitted.loss) == min(losses)
    np.testing.assert_allclose(evaluate(fitted.params), fitted.loss, rtol=1e-6)
    seconds = [entry["seconds"] for entry in fitted.history]
    assert seconds == sorted(seconds)


def test_fit_equals_a_plain_loop(tmp_path):
    """Scanned, jitted updates in calls of five equal updates one by one."""
    fitted = fit(tmp_path, evaluate_every=STEPS)
    params, carry, optimiser = init(jax.random.key(0)), jnp.zeros((4, 5)), optax.adam(1e-2)
    state = optimiser.init(params)
    gradient = jax.jit(jax.grad(loss, has_aux=True))
    for step in range(STEPS):
        key = jax.random.fold_in(jax.random.key(1), step)
        gradients, carry = gradient(params, carry, batch_at(step), key)
        updates, state = optimiser.update(gradients, state)
        params = optax.apply_updates(params, updates)
    chex.assert_trees_all_close(fitted.params, params, rtol=1e-4, atol=1e-5)


def test_seeds_in_parallel_equal_each_seed_alone(tmp_path):
    init_keys, keys = jax.random.split(jax.random.key(5), (2, 3))
    parallel = fit(tmp_path, key=keys, params=jax.vmap(init)(init_keys), carry=jnp.zeros((3, 4, 5)))
    assert parallel.loss.shape == (3,)
    for i in range(3):
        alone = fit(tmp_path / str(i), key=keys[i], params=init(init_keys[i]))
        mine = jax.tree.map(lambda leaf, i=i: leaf[i], parallel.params)
        chex.assert_trees_all_close(mine, alone.params, rtol=1e-4, atol=1e-5)
        assert [entry["validation_loss"][i] for entry in parallel.history] == pytest.approx(
            [entry["validation_loss"] for entry in alone.history], rel=1e-4
        )


def test_stops_after_patience_evaluations_without_progress(tmp_path):
    fitted = fit(tmp_path, optimiser=optax.sgd(0.0), patience=2, steps=10 * STEPS)
    assert [entry["step"] for entry in fitted.history] == [10, 20, 30]


def test_a_seed_that_diverged_does_not_stop_the_stopping(tmp_path):
    """NaN is never a minimum: it neither goes on for ever nor hides one."""
    history = [{"validation_loss": [loss, math.nan]} for loss in (3.0, 2.0, 2.5, 2.2)]
    assert training._exhausted(history, 2)
    assert not training._exhausted(history[:3], 2)
    history[0]["validation_loss"][1] = 9.0  # it diverged after this
    assert training._exhausted(history, 2)
    history[-1]["validation_loss"][1] = 8.0  # and came back
    assert not training._exhausted(history, 2)


def test_the_last_call_may_be_shorter(tmp_path):
    fitted = fit(tmp_path, steps=13)
    assert [entry["step"] for entry in fitted.history] == [10, 13]


def test_the_callers_arrays_stay_alive(tmp_path):
    params = init(jax.random.key(0))
    fit(tmp_path, params=params, steps=10)
    assert np.isfinite(params.w_h).all()


def test_refuses_an_interval_that_no_call_ends_at(tmp_path):
    with pytest.raises(ValueError, match="evaluate_every is 7, but must be a multiple of steps_p"):
        fit(tmp_path, evaluate_every=7)


def test_a_diverging_run_raises(tmp_path):
    with pytest.raises(
        FloatingPointError, match="within steps 0 to 5 is nan: try a lower learning"
    ):
        fit(tmp_path, optimiser=optax.sgd(np.inf))


def test_a_finished_run_trains_no_more(tmp_path):
    first = fit(tmp_path)
    again = fit(tmp_path)
    assert again.history == first.history
    chex.assert_trees_all_equal(again.params, first.params)


def nan_after(limit):
    """A validation loss that is NaN from some value of a parameter's norm on."""
    return lambda params: jnp.where(jnp.linalg.norm(params.w_h) > limit, jnp.nan, 1.0)


def test_a_validation_loss_of_nan_raises(tmp_path):
    with pytest.raises(FloatingPointError, match="The validation loss at step 10 is nan: try a lo"):
        fit(tmp_path, evaluate=nan_after(0.0))


def test_one_seed_whose_loss_is_nan_is_warned_about(tmp_path):
    """The others go on; the history has null, which JSON has, for NaN."""
    keys = jax.random.split(jax.random.key(5), 2)
    params = jax.vmap(init)(keys)
    params = dataclasses.replace(params, w_h=params.w_h.at[0].mul(1e3))
    carry = jnp.zeros((2, 4, 5))
    fitted = fit(tmp_path, key=keys, params=params, carry=carry, evaluate=nan_after(1e2), steps=10)
    assert fitted.history[0]["validation_loss"] == [None, 1.0]
    assert fitted.warnings == ["the loss of 1 of 2 seeds is not finite at the end"]
    assert json.dumps(fitted.history, allow_nan=False)


@pytest.mark.parametrize(("baseline", "warned"), [(1e-3, True), (1e3, False)])
def test_a_run_worse_than_its_baseline_is_warned_about(tmp_path, baseline, warned):
    fitted = fit(tmp_path, baseline=baseline, steps=10)
    assert bool(fitted.warnings) == warned
    if warned:
        assert "worse than the baseline's 0.001: try a lower learning rate" in fitted.warnings[0]


def test_of_several_seeds_the_best_in_validation_is_taken():
    params = {"w": jnp.arange(6.0).reshape(3, 2)}
    fitted = training.Fitted(params, jnp.array([2.0, 0.5, jnp.inf]), [], [])
    np.testing.assert_array_equal(training.best_seed(fitted)["w"], [2, 3])


def fit_and_be_killed(folder, where, step, delay):
    """Kills its own process `delay` seconds after a batch or save of that step or later began."""

    def bomb(reached):
        if reached >= step:
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()

    def batch(step):
        if where == "batch":
            bomb(step)
        return batch_at(step)

    def save(manager, state, history, original=checkpoints.save):
        if where == "save":
            bomb(history[-1]["step"])
        original(manager, state, history)

    checkpoints.save = save
    fit(folder, batch_at=batch)
    time.sleep(5)


def test_killed_runs_resume_bit_identically(tmp_path):
    """SIGKILL before the first checkpoint, amid updates, and at six moments of saving.

    A save takes some tens of milliseconds here; on a disk so fast that the last ones outlive
    theirs, they find the run finished.
    """
    expected = fit(tmp_path / "whole")
    folder = tmp_path / "killed"
    code = (
        "import sys, test_training as t; folder, where, step, delay = sys.argv[1:]; "
        "t.fit_and_be_killed(folder, where, int(step), float(delay))"
    )
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])}
    kills = [("batch", 6, 0.0), ("save", 10, 0.0), ("save", 10, 0.01), ("batch", 15, 0.0)]
    kills += [("save", 20, 0.02), ("save", 30, 0.03), ("save", 30, 0.04), ("save", 40, 0.06)]
    killed = 0
    for kill in kills:
        command = [sys.executable, "-c", code, str(folder), *map(str, kill)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode in (-signal.SIGKILL, 0), (kill, done.stderr)
        killed += done.returncode == -signal.SIGKILL
    assert killed >= 6
    resumed = fit(folder)
    chex.assert_trees_all_equal(resumed.params, expected.params)
    assert [entry["validation_loss"] for entry in resumed.history] == [
        entry["validation_loss"] for entry in expected.history
    ]


def test_adam_rises_falls_clips_and_decays():
    """A constant gradient moves a parameter by the rate, whatever its size."""
    optimiser = training.adam(0.1, 40)
    params = jnp.zeros(2)
    state, moved = optimiser.init(params), []
    for _ in range(41):
        updates, state = optimiser.update(jnp.array([3e6, -4e6]), state, params)
        moved.append(float(-updates[0]))
        np.testing.assert_allclose(updates[0], -updates[1], rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(moved[:3], [0, 0.05, 0.1], rtol=1e-3, atol=1e-9)
    assert np.all(np.diff(moved[2:]) < 0)
    np.testing.assert_allclose(moved[-1], 0, atol=1e-9)

    gradients = jnp.array([3e6, 4e6])  # of norm 5e6
    _, clipped = optimiser.update(gradients, optimiser.init(params), params)
    np.testing.assert_allclose(optax.tree.get(clipped, "mu"), 0.1 * gradients / 5e6, rtol=1e-5)

    decaying = training.adam(0.1, 40, weight_decay=0.5)
    state = decaying.init(params)
    for _ in range(2):  # the first has a rate of zero
        updates, state = decaying.update(jnp.zeros(2), state, jnp.array([2.0, -4.0]))
    np.testing.assert_allclose(updates, [-0.05, 0.1], rtol=1e-5)


def test_a_model_without_carry_trains_with_seeds_and_resumes(tmp_path):
    def no_carry(params, carry, xs, key):
        return loss(params, jnp.zeros((4, 5)), xs, key)[0], carry

    keys = jax.random.split(jax.random.key(0), 2)
    arguments = {"loss": no_carry, "carry": (), "key": keys, "params": jax.vmap(init)(keys)}
    whole = fit(tmp_path / "whole", steps=20, **arguments)
    fit(tmp_path / "parts", steps=10, **arguments)
    resumed = fit(tmp_path / "parts", steps=20, **arguments)
    chex.assert_trees_all_equal(resumed.params, whole.params)
