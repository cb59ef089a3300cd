"""Trains every policy on every task, all seeds at once, and evaluates what they have learned."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.harness.layouts import Layout
from experiments.harness.pieces import in_pieces
from experiments.harness.records import markdown_table, spread
from experiments.harness.runs import OpenRun, begun
from experiments.memory_rl import plot
from experiments.memory_rl.config import Config
from experiments.memory_rl.control import controlled
from experiments.memory_rl.environments import environment_of
from experiments.memory_rl.model import Agent, feed_forward, gru
from experiments.memory_rl.ppo import Problem, State, begin_all, evaluate, train
from experiments.memory_rl.speed import timed_updates

NAMES = {"gru": "GRU", "shifted": "GRU, resets one step early", "feed-forward": "feed-forward"}
LIBRARIES = ("gru_jax", "Flax")


class Result(NamedTuple):
    """What a run found."""

    tasks: dict[str, Any]  # by task: the optimum, and by policy what `learn` returns
    speed: dict[str, Any]  # by number of seeds and library


def problem_of(config: Config, task: str, policy: str) -> Problem:
    """What one run of PPO is about."""
    environment = environment_of(task)
    sizes = environment.observation_size, config.hidden_size, environment.actions
    agent: Agent
    if policy == "feed-forward":
        agent = feed_forward(sizes)
    else:
        agent = gru(sizes, learned_reset=config.learned_reset)
    return Problem(config, environment, agent, dones_as_resets=policy == "shifted")


def learn(run: OpenRun, task: str, policy: str) -> dict[str, Any]:
    """Trains one policy on one task with all seeds, which are spread over the devices."""
    config: Config = run.config
    problem, every = problem_of(config, task, policy), config.evaluate_every
    layout, keys = Layout(run.mesh), jax.random.split(jax.random.key(0), config.seeds)

    @partial(jax.jit, donate_argnums=0)
    def mapped(state: State, first: Any) -> tuple[State, jax.Array, jax.Array]:
        updates = jax.vmap(partial(train, problem, updates=every), in_axes=(0, 0, None))
        state, returns = updates(state, keys, first)
        finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(state.params)]
        return layout.keep(state, 0), returns, jnp.all(jnp.stack(finite))

    def piece(state: State, first: int) -> tuple[State, dict[str, Any]]:
        state, *found = mapped(state, first)
        returns, finite = layout.whole(found)
        if not finite:
            raise FloatingPointError(
                f"Parameters of {task}, {policy}, are not finite: lower --learning-rate."
            )
        return state, {"returns": returns.tolist()}

    def shown(entry: dict[str, Any]) -> dict[str, str]:
        trained = entry["step"] * config.seeds * config.environments * config.steps
        mean = np.mean(np.array(entry["returns"], float))  # None, as JSON has it, is NaN
        return {"return": f"{mean:.3f}", "steps/s": f"{trained / entry['seconds']:,.0f}"}

    state, history = in_pieces(
        run.checkpoints / f"{task}-{policy}",
        layout.put(begin_all(problem, keys), 0),
        piece,
        shown,
        updates=config.updates,
        every=every,
    )
    evaluated = jax.jit(jax.vmap(partial(evaluate, problem, episodes=config.episodes)))
    fresh = jax.vmap(jax.random.fold_in, (0, None))(keys, config.updates)  # no update had these
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)) // config.seeds,
        "returns": layout.whole(evaluated(state.params, fresh)).tolist(),
        "history": history,
    }


def main(config: Config) -> Result:
    """Trains every policy on every task, or times updates; writes a record and a figure."""
    with begun(config, spread=() if config.rounds else ("seeds",)) as run:
        if config.rounds:
            return timing(run)
        tasks: dict[str, Any] = {}
        for task in config.tasks:
            tasks[task] = {**bounds(task), "policies": {}}
            for policy in config.policies:
                print(f"{task}, {NAMES[policy]}:", flush=True)
                tasks[task]["policies"][policy] = learn(run, task, policy)
        record = run.write_record({"tasks": tasks})
        steps = config.environments * config.steps
        plot.plot(run.record.with_suffix(".png"), tasks, NAMES, steps)
        print(summary(record)["returns"])
        run.conclude(f"{', '.join(config.policies)} on {', '.join(config.tasks)}")
    return Result(tasks, {})


def bounds(task: str) -> dict[str, float | None]:
    """The return that no policy exceeds, one that is attained, and the best without memory."""
    environment = environment_of(task)
    kind, _, number = task.rpartition("-")
    attained = controlled(float(number)) if kind == "cart-pole" else environment.optimum
    limits = {"optimum": environment.optimum, "memoryless": environment.memoryless}
    return {**limits, "attained": attained}


def timing(run: OpenRun) -> Result:
    """Times updates beside Flax'."""
    speed = timed_updates(run.config, partial(problem_of, run.config, run.config.tasks[0]))
    record = run.write_record({"speed": speed})
    print(summary(record)["environment steps per second"])
    run.conclude("the updates are timed")
    return Result({}, speed)


def summary(record: Mapping[str, Any]) -> dict[str, str]:
    """The numbers of a record that README.md shows: its table."""
    results, settings = record["results"], record["settings"]
    if "speed" in results:
        rows = []
        for seeds, libraries in results["speed"].items():
            steps = int(seeds) * settings["environments"] * settings["steps"]
            rates = [1e3 * steps / libraries[name]["median_ms"] for name in LIBRARIES]
            rows.append([seeds, *(f"{rate:,.0f}" for rate in rates), f"{rates[0] / rates[1]:.2f}"])
        table = markdown_table(["seeds", *LIBRARIES, "ratio"], rows)
        return {"environment steps per second": table}
    policies = settings["policies"]
    rows = []
    for task, found in results["tasks"].items():
        memoryless = "–" if found["memoryless"] is None else f"{found['memoryless']:.2f}"
        exact = found["attained"] == found["optimum"]
        least = "" if exact else f"at least {found['attained']:.3f}, at most "
        cells = [spread(found["policies"][policy]["returns"], 3) for policy in policies]
        rows.append([task, f"{least}{found['optimum']:.2f}", memoryless, *cells])
    head = "task", "optimum", "without memory", *(NAMES[policy] for policy in policies)
    return {"returns": markdown_table(head, rows)}
