"""The environments of recurrent reinforcement learning: dynamics, observations, best returns."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.memory_rl import environments
from experiments.memory_rl.control import controlled, filter_gains
from experiments.memory_rl.environments import EAST, NORTH, SOUTH, WEST, MazeState, PoleState

pytestmark = pytest.mark.usefixtures("jax_defaults")

KEY = jax.random.key(0)


def test_the_sign_of_a_t_maze_tells_the_turn():
    maze = environments.t_maze(3)
    step = jax.jit(partial(maze.step, KEY))
    for south, sign, right in [(False, [0, 1, 1], NORTH), (True, [1, 1, 0], SOUTH)]:
        state = MazeState(jnp.array(0), jnp.array(south))
        seen, rewards = [], []
        for action in (WEST, NORTH, EAST, SOUTH, WEST, EAST, EAST, EAST, EAST):
            seen.append(maze.observe(KEY, state).tolist())
            state, reward, done = step(state, jnp.array(action))
            rewards.append(float(reward))
            assert not done
        assert seen[:3] == [sign] * 3
        assert seen[3:8] == [[1, 0, 1], [1, 0, 1], sign, [1, 0, 1], [1, 0, 1]]
        assert seen[8] == maze.observe(KEY, state).tolist() == [0, 1, 0]
        np.testing.assert_allclose(rewards, [-0.1, -0.1, 0, -0.1, 0, 0, 0, 0, -0.1])
        for action, reward in [(right, 4.0), (NORTH + SOUTH - right, -0.1)]:
            _, found, done = step(state, jnp.array(action))
            assert done
            np.testing.assert_allclose(found, reward)


def test_goals_lie_in_the_north_and_in_the_south():
    south = jax.vmap(environments.t_maze(3).reset)(jax.random.split(KEY, 1000)).south
    assert abs(np.mean(south) - 0.5) < 0.05


@pytest.mark.parametrize("k", [2, 5])
def test_repeating_the_kth_last_card_is_worth_one(k):
    task = environments.repeat_previous(k)
    step = jax.jit(task.step)
    for offset, worth in [(0, 1.0), (1, -1.0)]:
        state, seen, total = task.reset(KEY), [], 0.0
        for t in range(51):
            seen.append(int(jnp.argmax(task.observe(KEY, state))))
            answer = jnp.array((seen[-k:][0] + offset) % 4)
            state, reward, done = step(jax.random.fold_in(KEY, t), state, answer)
            assert (reward != 0) == (len(seen) >= k)
            assert done == (t == 50)
            total += float(reward)
        np.testing.assert_allclose(total, worth, rtol=1e-5)
        assert len(set(seen)) == 4


def test_the_pole_obeys_its_equations_of_motion():
    """Accelerations solve the two coupled equations, before they were solved for by hand."""
    pole = environments.cart_pole(0.1)
    for action, motion in [(0, [0.3, -0.5, 0.15, 0.8]), (1, [-1.0, 0.2, -0.1, -1.2])]:
        state = PoleState(jnp.array(motion), jnp.array(7))
        after, reward, done = pole.step(KEY, state, jnp.array(action))
        _, velocity, angle, spin = motion
        sine, cosine, force = np.sin(angle), np.cos(angle), 20 * action - 10
        acceleration, turning = np.linalg.solve(
            [[1.1, 0.05 * cosine], [cosine, 0.5 * 4 / 3]],
            [force + 0.05 * spin**2 * sine, 9.8 * sine],
        )
        change = np.array([velocity, acceleration, spin, turning])
        np.testing.assert_allclose(after.motion, motion + 0.02 * change, rtol=1e-5)
        np.testing.assert_allclose(reward, 1 / 200)
        assert not done
        assert after.steps == 8
    for motion, steps, ends in [
        ([2.39, 2.0, 0, 0], 0, True),
        ([0, 0, 0.205, 1.0], 0, True),
        ([0.0, 0, 0, 0], 199, True),
        ([0.0, 0, 0, 0], 198, False),
    ]:
        state = PoleState(jnp.array(motion, jnp.float32), jnp.array(steps))
        assert pole.step(KEY, state, jnp.array(1))[2] == ends


def test_a_pole_is_seen_with_noise_and_can_be_held():
    pole = environments.cart_pole(0.1)
    state = PoleState(jnp.array([0.5, 9.0, -0.1, 9.0]), jnp.array(0))
    seen = jax.vmap(pole.observe, (0, None))(jax.random.split(KEY, 2000), state)
    np.testing.assert_allclose(seen.mean(axis=0), [0.5, -0.1], atol=0.01)
    np.testing.assert_allclose(seen.std(axis=0), [0.1, 0.1], atol=0.01)
    assert np.abs(np.corrcoef(seen.T)[0, 1]) < 0.1

    def step(carry, _):
        state, alive = carry
        gains = jnp.array([0.1, 0.2, 3.0, 1.0])
        state, reward, done = pole.step(KEY, state, (state.motion @ gains > 0).astype(int))
        return (state, alive & ~done), reward * alive

    start = pole.reset(KEY), jnp.ones((), bool)
    _, rewards = jax.lax.scan(step, start, length=200)
    np.testing.assert_allclose(rewards.sum(), pole.optimum, rtol=1e-5)


def test_a_filter_and_a_controller_hold_the_pole():
    assert 0.97 < controlled(0.1) < 1


def test_the_filter_weighs_observations_by_their_noise():
    """Of a state that stays, it takes the mean of all observations."""
    gains = filter_gains(np.eye(4), 1.0)
    prior = 0.1**2 / 12
    for seen, gain in enumerate(gains[:3]):
        expected = (prior + seen * 1e-6) / (1 + prior + seen * 1e-6)
        np.testing.assert_allclose(np.diag(gain[::2]), expected, rtol=2e-3)
        assert not gain[1::2].any()
