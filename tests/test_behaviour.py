"""The behaviour experiment: its learners, its models and its fits, and a whole run in small."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import assert_close

import gru_jax
from experiments import behaviour
from experiments.behaviour import Config
from experiments.behaviour.baselines import LAGS, features, logistic_regression, nats
from experiments.behaviour.data import EVENTS, Learner, draw_learners, parts, simulate
from experiments.behaviour.fitting import advance, begin, keys_of, of_all_fits, train
from experiments.behaviour.model import Model, gru, learner
from experiments.behaviour.plot import portrait
from experiments.behaviour.speed import haiku_gru
from experiments.harness.settings import Run

pytestmark = pytest.mark.usefixtures("jax_defaults")

CONFIG = Config(
    subjects=3,
    trials=30,
    training_sessions=4,
    validation_sessions=2,
    test_sessions=3,
    units=(2,),
    restarts=2,
    evaluations=2,
    evaluate_every=10,
)


def simulated(subjects=3, sessions=9, trials=30):
    rng = np.random.default_rng(0)
    learners = draw_learners(rng, subjects)
    return learners, simulate(rng, learners, sessions, trials)


def test_the_learner_follows_its_equations():
    """One session once more, trial by trial, in scalars."""
    learners, sessions = simulated()
    alpha, forget, beta, tau, phi = (p[1] for p in learners)
    q, trace = [0.0, 0.0], [0.0, 0.0]
    for t in range(30):
        logit = beta * (q[1] - q[0]) + phi * (trace[1] - trace[0])
        np.testing.assert_allclose(sessions.logits[1, t, 4], logit, rtol=1e-5, atol=1e-6)
        if t == 29:
            break
        arm, other = int(sessions.choices[1, t, 4]), 1 - int(sessions.choices[1, t, 4])
        event = sessions.xs[1, t + 1, 4]
        assert event.sum() == 1
        assert event.argmax() // 2 == arm
        q[arm] += alpha * (event.argmax() % 2 - q[arm])
        q[other] *= 1 - forget
        trace[arm] += tau * (1 - trace[arm])
        trace[other] *= 1 - tau
    assert not sessions.xs[:, 0].any()


def test_choices_and_rewards_have_the_stated_probabilities():
    """Of learners that do not learn; which arm is the better one goes by turns."""
    one = np.array([1.0])
    idle = Learner(0 * one, 0 * one, one, one, 2 * one)
    sessions = simulate(np.random.default_rng(0), idle, 400, 60)
    assert abs(sessions.choices[:, 0].mean() - 0.5) < 0.08
    previous = sessions.xs[:, 1:].argmax(axis=-1) // 2
    repeats = (sessions.choices[:, 1:] == previous).mean()
    assert abs(repeats - 1 / (1 + np.exp(-2))) < 0.01
    rewards = sessions.xs[:, 1:].argmax(axis=-1) % 2
    assert abs(rewards.mean() - 0.5) < 0.02


def test_rewards_follow_the_better_arm_until_it_changes():
    """Rewards of one arm are correlated by 0.6² (1 − 2 · 0.03)^lag in sessions of one choice."""
    one = np.array([1.0])
    stubborn = Learner(0 * one, 0 * one, one, one, 40 * one)
    sessions = simulate(np.random.default_rng(0), stubborn, 3000, 12)
    rewards = sessions.xs[0, 1:].argmax(axis=-1) % 2
    for lag in (1, 8):
        found = np.corrcoef(rewards[:-lag].ravel(), rewards[lag:].ravel())[0, 1]
        assert abs(found - 0.36 * 0.94**lag) < 0.03


def test_fitted_learners_have_the_equations_of_the_simulation():
    learners, sessions = simulated()
    for subject in range(3):
        alpha, forget, beta, tau, phi = (p[subject] for p in learners)

        def raw(rate):
            return jnp.float32(np.log(rate / (1 - rate)))

        params = {
            "learning": raw(alpha),
            "forgetting": raw(forget),
            "value": jnp.float32(np.log(beta)),
            "tracing": raw(tau),
            "perseveration": jnp.float32(phi),
        }
        logits = learner(plain=False).logits(params, sessions.xs[subject])
        assert_close(logits, sessions.logits[subject], rtol=1e-4, atol=1e-4)
    plain = simulate(
        np.random.default_rng(0),
        Learner(*np.array([[0.3], [0.0], [2.0], [0.0], [0.0]])),
        2,
        20,
    )
    params = {"learning": raw(0.3), "value": jnp.float32(np.log(2))}
    logits = learner(plain=True).logits(params, plain.xs[0])
    assert_close(logits, plain.logits[0], rtol=1e-4, atol=1e-4)


def test_a_prediction_uses_the_past_alone():
    _, sessions = simulated()
    xs = jnp.asarray(sessions.xs[0])
    for family in (gru(2), learner(plain=False)):
        params = family.init(jax.random.key(0))
        moved = family.logits(params, xs.at[7:].set(xs[7:, ::-1])) - family.logits(params, xs)
        assert not moved[:7].any()
        assert moved[7:].any()


def test_features_are_the_events_of_the_last_trials():
    xs = np.arange(1.0, 1 + 15 * 2 * EVENTS).reshape(15, 2, EVENTS)
    found = features(xs).reshape(15, 2, LAGS, EVENTS)
    for t, lag in [(0, 0), (3, 2), (14, LAGS - 1)]:
        np.testing.assert_array_equal(found[t, :, lag], xs[t - lag])
    assert not found[3, :, 4:].any()


def test_parts_share_no_session():
    _, sessions = simulated()
    first, second, third = parts(sessions, (4, 2, 3))
    np.testing.assert_array_equal(first.xs, sessions.xs[:, :, :4])
    np.testing.assert_array_equal(second.choices, sessions.choices[:, :, 4:6])
    np.testing.assert_array_equal(third.logits, sessions.logits[:, :, 6:])


def test_logistic_regression_predicts_what_follows_from_the_past():
    _, sessions = simulated(subjects=2, sessions=30, trials=50)
    split = parts(sessions, (20, 5, 5))
    found = logistic_regression(*split)
    for subject, loss in enumerate(found):
        ceiling = nats(split[2].logits[subject], split[2].choices[subject])
        assert ceiling - 0.05 < loss < np.log(2) - 0.05


def test_mapped_fits_are_the_fits_alone_and_keep_the_best():
    _, sessions = simulated()
    training, validation, _ = parts(sessions, (4, 2, 3))
    family, keys = gru(2), keys_of(CONFIG)
    data = of_all_fits(CONFIG, (training, validation))
    together = jax.jit(jax.vmap(partial(train, CONFIG, family)))(keys, *data)
    step = jax.jit(partial(advance, CONFIG, family))
    for fit, subject in [(0, 0), (3, 1)]:
        state, losses, mine = begin(CONFIG, family, keys[fit]), [], []
        for part in (training, validation):
            mine.append(type(part)(*(array[subject] for array in part)))
        for _ in range(CONFIG.evaluations):
            state = step(state, *mine)
            logits = family.logits(state.params, mine[1].xs)
            losses.append(nats(np.asarray(logits), mine[1].choices))
        np.testing.assert_allclose(together.best_loss[fit], min(losses), rtol=1e-3)
        best = jax.tree.map(lambda leaf, fit=fit: leaf[fit], together.best_params)
        kept = nats(np.asarray(family.logits(best, mine[1].xs)), mine[1].choices)
        np.testing.assert_allclose(kept, min(losses), rtol=1e-3)


def test_haiku_computes_the_same():
    """Otherwise its time would be that of another model."""
    family, peer = gru(3), haiku_gru(3)
    theirs, ours = peer.init(jax.random.key(0)), family.init(jax.random.key(1))
    layer, linear = theirs["gru"], theirs["linear"]
    assert jax.tree.map(jnp.shape, (ours.gru.w_x, ours.gru.w_h, ours.head.w)) == jax.tree.map(
        jnp.shape, (layer["w_i"], layer["w_h"], linear["w"])
    )
    ours = Model(
        gru_jax.GRUParams(layer["w_i"], layer["w_h"], layer["b"]),
        gru_jax.ReadoutParams(linear["w"], linear["b"]),
    )
    xs = jnp.asarray(simulated()[1].xs[0])
    assert_close(family.logits(ours, xs), peer.logits(theirs, xs), rtol=1e-5, atol=1e-5)


def test_the_portrait_is_the_step_of_the_gru():
    model = gru(2).init(jax.random.key(0))
    xs = simulated()[1].xs[0]
    found = portrait(model, xs, points=3)
    state, event = found.grid[2, 0], np.eye(EVENTS, dtype=np.float32)[3]
    np.testing.assert_allclose(state, [found.states[:, 0].max(), found.states[:, 1].min()])
    after, _ = gru_jax.gru_unroll(model.gru, state, event[None])
    np.testing.assert_allclose(state + found.flow[3, 2, 0], after, rtol=1e-5, atol=1e-6)


def test_a_run_records_and_resumes(tmp_path):
    """It leaves a record and a figure, and a resumed run has nothing left to do."""
    config = Config(**{**vars(CONFIG), "run": Run(output=tmp_path)})
    losses = behaviour.main(config).losses
    record = json.loads((tmp_path / "behaviour-default.json").read_text())
    assert record["results"]["losses"] == losses
    assert (tmp_path / "behaviour-default.png").stat().st_size > 10_000
    assert {"generating model", "Q-learner", "GRU, 2 units"} < set(losses)
    assert all(len(values) == 3 for values in losses.values())
    for name, found in record["results"]["fits"].items():
        curve = [entry["validation_loss"] for entry in found["history"]]
        assert curve[-1] < curve[0], name
    assert record["results"]["fits"]["Q-learner"]["parameters"] == 2
    assert record["results"]["fits"]["GRU, 2 units"]["parameters"] == 45
    assert "| GRU, 2 units | 45 |" in behaviour.summary(record)["held out"]
    again = behaviour.main(Config(**{**vars(config), "run": Run(output=tmp_path, resume=True)}))
    assert again.losses == losses


def test_the_fits_are_timed_beside_haiku(tmp_path):
    changes = {"units": (1,), "rounds": 2, "evaluations": 1, "run": Run(output=tmp_path)}
    config = Config(**{**vars(CONFIG), **changes})
    speed = behaviour.main(config).speed
    assert set(speed["1"]) == {"gru_jax", "Haiku"}
    record = json.loads((tmp_path / "behaviour-default.json").read_text())
    assert "| units | gru_jax | Haiku | ratio |" in behaviour.summary(record)["fits per second"]
