"""The recurrent reinforcement learning experiment: rollouts, PPO, and a whole run in small."""

import dataclasses
import json
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import assert_close

import gru_jax
from experiments import memory_rl
from experiments.benchmark.timing import Ready
from experiments.harness.settings import Run, SettingError, check
from experiments.memory_rl import Config, ppo, speed
from experiments.memory_rl.plot import curves_of
from experiments.memory_rl.run import problem_of
from experiments.memory_rl.speed import flax_gru

pytestmark = pytest.mark.usefixtures("jax_defaults")

KEY = jax.random.key(0)
CONFIG = Config(
    tasks=("t-maze-1",),
    hidden_size=8,
    seeds=2,
    environments=8,
    steps=16,
    evaluations=2,
    evaluate_every=10,
    episodes=10,
)


def problem_with(task="t-maze-2", policy="gru", **changes):
    """A problem and a state before its first update; the heads say something, resets matter."""
    problem = problem_of(dataclasses.replace(CONFIG, **changes), task, policy)
    state = ppo.begin(problem, KEY)
    params = state.params
    actor = dataclasses.replace(params.actor, w=100 * params.actor.w)
    reset = params.reset_state
    if reset is not None:
        params = params._replace(reset_state=jnp.linspace(-0.9, 0.9, len(reset)))
    return problem, state._replace(params=params._replace(actor=actor))


@pytest.mark.parametrize("learned_reset", [True, False])
def test_states_of_the_learner_are_those_of_acting(learned_reset):
    """Of two rollouts in a row, through the ends of episodes, also between the two.

    What is compared are the values and log-probabilities of all steps, which depend on the states
    before them. They are of order 1, so that 1e-5 is some hundred roundings of float32, which the
    two orders of summation accumulate over 16 steps.
    """
    problem, state = problem_with("t-maze-1", learned_reset=learned_reset, environments=32)
    roll = jax.jit(lambda key, carry: ppo.rolled_out(problem, key, state.params, carry, 16))
    unroll = jax.jit(partial(problem.agent.unroll, state.params))
    before, crossed = state.carry, 0
    for number in range(2):
        carry, rollout = roll(jax.random.fold_in(KEY, number), before)
        logits, values = unroll(before.h, rollout.xs, rollout.resets)
        log_probs = ppo.log_prob(jax.nn.log_softmax(logits), rollout.actions)
        assert_close(values, rollout.values, rtol=0, atol=1e-5)
        assert_close(log_probs, rollout.log_probs, rtol=0, atol=1e-5)
        assert rollout.resets[0].tolist() == before.begins.tolist()
        assert rollout.resets[1:].tolist() == rollout.dones[:-1].tolist()
        assert carry.begins.tolist() == rollout.dones[-1].tolist()
        assert rollout.dones.any()
        crossed += rollout.resets[0].sum() * number
        _, wrong = unroll(before.h, rollout.xs, rollout.dones)
        assert jnp.abs(wrong - rollout.values).max() > 0.01
        before = carry
    assert 0 < crossed < 32


def test_an_episode_that_ends_is_followed_by_another():
    problem, state = problem_with()
    roll = jax.jit(partial(ppo.rolled_out, problem, steps=40))
    carry, rollout = roll(KEY, state.params, state.carry)
    rollout = jax.tree.map(np.array, rollout)
    dones, rewards = rollout.dones, rollout.rewards
    for row in range(8):
        total = 0.0
        for t in range(40):
            total += rewards[t, row]
            np.testing.assert_allclose(rollout.returns[t, row], total, atol=1e-5)
            sign = rollout.xs[t, row].tolist() in ([0, 1, 1], [1, 1, 0])
            assert sign or not rollout.resets[t, row]
            total *= not dones[t, row]
        np.testing.assert_allclose(carry.returns[row], total, atol=1e-5)
    assert dones.any(axis=0).all()


def test_advantages_are_discounted_sums_of_errors():
    rng = np.random.default_rng(0)
    values, rewards = rng.normal(size=(2, 7, 3)).astype(np.float32)
    dones, last = rng.random((7, 3)) < 0.3, rng.normal(size=3).astype(np.float32)
    rollout = ppo.Rollout(*[jnp.zeros(0)] * 4, *map(jnp.asarray, (values, rewards, dones, rewards)))
    found = ppo.advantages_of(rollout, jnp.asarray(last))
    following = np.concatenate([values[1:], last[None]])
    for row in range(3):
        for t in range(7):
            expected, weight = 0.0, 1.0
            for s in range(t, 7):
                after = 0.0 if dones[s, row] else 0.99 * following[s, row]
                expected += weight * (rewards[s, row] + after - values[s, row])
                weight *= 0.99 * 0.95
                if dones[s, row]:
                    break
            np.testing.assert_allclose(found[t, row], expected, rtol=1e-4, atol=1e-5)


def test_the_first_gradient_is_that_of_the_policy_gradient():
    """At the rollout's own parameters the ratio is 1, and nothing is clipped."""
    problem, state = problem_with(entropy=0.0)
    roll = jax.jit(partial(ppo.rolled_out, problem, steps=16))
    _, rollout = roll(KEY, state.params, state.carry)
    advantages = jax.random.normal(KEY, rollout.rewards.shape)
    batch = ppo.Batch(rollout, advantages, state.carry.h[None])

    def plain(params):
        logits, values = problem.agent.unroll(params, state.carry.h, rollout.xs, rollout.resets)
        chosen = ppo.log_prob(jax.nn.log_softmax(logits), rollout.actions)
        scaled = (advantages - advantages.mean()) / advantages.std()
        errors = (values - advantages - rollout.values) ** 2
        return jnp.mean(0.25 * errors - chosen * scaled)

    expected = jax.jit(jax.grad(plain))(state.params)
    found = jax.jit(jax.grad(partial(ppo.loss, problem)))(state.params, batch)
    assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert jnp.abs(found.reset_state).max() > 1e-4


def test_a_feed_forward_policy_has_no_memory():
    problem, state = problem_with(policy="feed-forward")
    assert problem.agent.zero_state(8).shape == state.carry.h.shape
    xs = jax.random.normal(KEY, (5, 8, 3))
    resets = jnp.zeros((5, 8), bool)
    h, (logits, values) = problem.agent.act(state.params, state.carry.h, xs[4], resets[4])
    assert_close(h, state.carry.h, rtol=0, atol=0)
    last = problem.agent.unroll(state.params, h, xs.at[:4].set(0), resets)
    assert_close((logits, values), (last[0][4], last[1][4]), rtol=1e-5, atol=1e-6)


def test_flax_computes_the_same():
    """Otherwise its time would be that of another model."""
    problem, state = problem_with(learned_reset=False)
    roll = jax.jit(partial(ppo.rolled_out, problem, steps=16))
    carry, rollout = roll(KEY, state.params, state.carry)
    peer = flax_gru((3, 8, 4))
    theirs = peer.init(KEY)
    layers = [theirs["params"][f"Dense_{i}"] for i in range(3)]
    linear = [gru_jax.ReadoutParams(layer["kernel"], layer["bias"]) for layer in layers]
    core = gru_jax.convert.from_linen(theirs)
    ours = type(state.params)(linear[0], core, linear[1], linear[2], None)
    inputs = state.carry.h, rollout.xs, rollout.resets
    one = carry.h, carry.x, carry.begins
    for theirs_of, ours_of, given in [
        (peer.unroll, problem.agent.unroll, inputs),
        (peer.act, problem.agent.act, one),
    ]:
        expected = jax.jit(ours_of)(ours, *given)
        assert_close(jax.jit(theirs_of)(theirs, *given), expected, rtol=1e-5, atol=1e-5)
    sizes = [leaf.shape for leaf in jax.tree.leaves(ours)]
    assert sizes == [leaf.shape for leaf in jax.tree.leaves(state.params)]


def test_the_table_says_between_what_an_optimum_lies_and_curves_have_gaps():
    history = [{"step": 10, "returns": [None, 0.5]}, {"step": 20, "returns": [None, None]}]
    found = {"optimum": 1.0, "memoryless": None, "attained": 0.9876}
    policies = {"gru": {"returns": [0.25, 0.75], "history": history}}
    results = {"tasks": {"cart-pole-0.1": {**found, "policies": policies}}}
    table = memory_rl.summary({"results": results, "settings": {"policies": ["gru"]}})["returns"]
    assert "| cart-pole-0.1 | at least 0.988, at most 1.00 | – | 0.500 ± 0.250 |" in table
    curves = curves_of(policies["gru"])
    assert curves.mean(axis=1).tolist() == [0.5, None]


@pytest.mark.parametrize("task", ["t-maze-0", "repeat-1", "repeat-52", "cart-pole", "maze-3"])
def test_tasks_that_there_are_not_are_refused(task):
    with pytest.raises(SettingError, match="t-maze-N"):
        check(dataclasses.replace(CONFIG, tasks=(task,)))


def test_a_run_records_and_resumes(tmp_path):
    """A GRU learns what needs a memory; a resumed run reaches the same bits."""
    changes = {"environments": 32, "hidden_size": 16, "evaluations": 3, "learning_rate": 1e-2}
    config = dataclasses.replace(CONFIG, **changes, policies=("gru",), run=Run(output=tmp_path))
    found = memory_rl.main(config).tasks
    record = json.loads((tmp_path / "memory_rl-default.json").read_text())
    assert record["results"]["tasks"] == found
    assert (tmp_path / "memory_rl-default.png").stat().st_size > 10_000
    run = found["t-maze-1"]["policies"]["gru"]
    assert 3.5 < min(run["returns"]) <= max(run["returns"]) <= 4
    assert [entry["step"] for entry in run["history"]] == [10, 20, 30]
    assert len(run["returns"]) == len(run["history"][0]["returns"]) == 2
    assert "| t-maze-1 | 4.00 | 1.95 |" in memory_rl.summary(record)["returns"]
    shutil.rmtree(tmp_path / "memory_rl-default.checkpoints" / "t-maze-1-gru" / "30")
    again = memory_rl.main(dataclasses.replace(config, run=Run(output=tmp_path, resume=True)))
    resumed = again.tasks["t-maze-1"]["policies"]["gru"]
    assert resumed["returns"] == run["returns"]
    assert resumed["history"][-1]["returns"] == run["history"][-1]["returns"]


def test_updates_are_timed_beside_flax(tmp_path, monkeypatch):
    """Here the updates are traced only, which is quicker than to compile them."""

    def traced(program, *args):
        state, _ = jax.eval_shape(program, *args)
        assert jax.tree.leaves(state) == jax.tree.leaves(jax.eval_shape(lambda: args[0]))
        return Ready(lambda: state)

    monkeypatch.setattr(speed, "ready", traced)
    monkeypatch.setattr(speed, "SEEDS", (2,))
    config = dataclasses.replace(CONFIG, rounds=2, run=Run(output=tmp_path))
    found = memory_rl.main(config).speed
    assert set(found["2"]) == {"gru_jax", "Flax"}
    record = json.loads((tmp_path / "memory_rl-default.json").read_text())
    table = memory_rl.summary(record)["environment steps per second"]
    assert "| seeds | gru_jax | Flax | ratio |" in table
