"""Steps per second of training, beside the same loop with Flax' GRU in the way of PureJaxRL."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmark.timing import Mode, Ready, Shape, ready, timed
from experiments.memory_rl.config import Config
from experiments.memory_rl.model import Agent
from experiments.memory_rl.ppo import Problem, begin_all, update

SEEDS = (1, 8)
"""How many are trained at once."""


def flax_gru(sizes: tuple[int, int, int]) -> Agent:
    """`nn.GRUCell` in `nn.scan`, with `jnp.where` for resets; acting is a scan of one step."""
    from flax import linen as nn

    _, hidden, actions = sizes

    class ScannedRNN(nn.Module):  # type: ignore[misc]
        @partial(
            nn.scan,
            variable_broadcast="params",
            in_axes=0,
            out_axes=0,
            split_rngs={"params": False},
        )
        @nn.compact  # type: ignore[untyped-decorator]
        def __call__(self, carry: jax.Array, x: Any) -> Any:
            ins, resets = x
            carry = jnp.where(resets[:, None], jnp.zeros_like(carry), carry)
            return nn.GRUCell(hidden)(carry, ins)

    def dense(size: int, scale: float) -> nn.Dense:
        return nn.Dense(size, kernel_init=nn.initializers.orthogonal(scale))

    class ActorCritic(nn.Module):  # type: ignore[misc]
        @nn.compact  # type: ignore[untyped-decorator]
        def __call__(self, h: jax.Array, x: Any) -> Any:
            xs, resets = x
            embedding = nn.relu(dense(hidden, 2**0.5)(xs))
            h, hs = ScannedRNN()(h, (embedding, resets))
            return h, (dense(actions, 0.01)(hs), dense(1, 1.0)(hs)[..., 0])

    network = ActorCritic()

    def zero_state(rows: int) -> jax.Array:
        return jnp.zeros((rows, hidden))

    def init(key: jax.Array) -> Any:
        inputs = jnp.zeros((1, 1, sizes[0])), jnp.zeros((1, 1), bool)
        return network.init(key, zero_state(1), inputs)

    def act(params: Any, h: jax.Array, x: jax.Array, resets: jax.Array) -> Any:
        h, heads = network.apply(params, h, (x[None], resets[None]))
        return h, jax.tree.map(lambda leaf: leaf[0], heads)

    def unroll(params: Any, h0: jax.Array, xs: jax.Array, resets: jax.Array) -> Any:
        return network.apply(params, h0, (xs, resets))[1]

    return Agent(init, zero_state, act, unroll)


def timed_updates(config: Config, problem_of: Any) -> dict[str, Any]:
    """By number of seeds and library: how long one update of all seeds takes, in turns."""
    ours: Problem = problem_of("gru")
    environment = ours.environment
    sizes = environment.observation_size, config.hidden_size, environment.actions
    theirs = ours._replace(agent=flax_gru(sizes))

    def updates(problem: Problem, seeds: int, shape: Shape, mode: Mode) -> Ready:
        keys = jax.random.split(jax.random.key(0), seeds)
        return ready(jax.vmap(partial(update, problem)), begin_all(problem, keys), keys)

    found: dict[str, Any] = {}
    shape = Shape(config.steps, config.environments, sizes[0], config.hidden_size)
    for seeds in SEEDS:
        made = {
            "gru_jax": partial(updates, ours, seeds),
            "Flax": partial(updates, theirs, seeds),
        }
        entries = timed(f"{seeds} seeds", shape, "train", made, config.rounds)
        found[str(seeds)] = {name: entry._asdict() for name, entry in entries.items()}
    return found
