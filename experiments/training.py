"""What every experiment shares: its command line, one training loop, checkpoints."""

import argparse
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from tqdm import tqdm

from experiments import checkpoints
from experiments.datasets import DatasetError

RUNS = Path(__file__).resolve().parents[1] / "runs"

Config = TypeVar("Config")


@dataclasses.dataclass(frozen=True)
class Run:
    """Where a run's files lie and whether it goes on from them."""

    output: Path = RUNS
    """Folder for the record, the plot and the checkpoints."""
    resume: bool = False
    """Go on from the last checkpoint of a run with the same settings."""


def parse(presets: Mapping[str, Config], arguments: Sequence[str] | None = None) -> Config:
    """Reads the command line: --preset chooses the defaults, every other option overrides one.

    Args:
      presets: configurations by name, the default one first. A configuration is a frozen
        dataclass with a field `preset`.
      arguments: instead of the process's own.

    Returns:
      The configuration.
    """
    names = list(presets)
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    chooser.add_argument("--preset", default=names[0])
    chosen = chooser.parse_known_args(arguments)[0].preset
    default = presets.get(chosen, presets[names[0]])  # tyro will refuse an unknown preset
    return tyro.cli(type(default), default=default, args=arguments)


def launch(main: Callable[[Config], Any], presets: Mapping[str, Config]) -> None:
    """Runs an experiment from the command line; missing data ends it with one sentence."""
    config = parse(presets)
    try:
        main(config)
    except DatasetError as error:
        raise SystemExit(str(error)) from None


def adam(
    learning_rate: float, steps: int, *, b2: float = 0.999, weight_decay: float = 0.0
) -> optax.GradientTransformation:
    """AdamW on gradients of norm 1 at most.

    The rate rises linearly for a twentieth of the steps, then falls along a cosine.
    """
    schedule = optax.warmup_cosine_decay_schedule(0.0, learning_rate, steps // 20, steps)
    adamw = optax.adamw(schedule, b2=b2, weight_decay=weight_decay)
    return optax.chain(optax.clip_by_global_norm(1.0), adamw)


class Fitted(NamedTuple):
    """A finished training run."""

    params: Any  # those of the best evaluation
    loss: jax.Array  # at the best evaluation
    history: list[dict[str, Any]]  # one entry per evaluation


class _State(NamedTuple):
    params: Any
    optimiser: Any
    carry: Any
    best_params: Any
    best_loss: jax.Array


def fit(
    loss: Callable[[Any, Any, Any, jax.Array], tuple[jax.Array, Any]],
    params: Any,
    carry: Any,
    batch_at: Callable[[int], Any],
    evaluate: Callable[[Any], jax.Array],
    *,
    key: jax.Array,
    optimiser: optax.GradientTransformation,
    steps: int,
    evaluate_every: int,
    steps_per_call: int = 10,
    patience: int | None = None,
    items_per_step: int,
    unit: str,
    folder: Path,
    resume: bool,
    settings: Mapping[str, Any],
) -> Fitted:
    """Trains: one jitted update, several of them in one `jax.lax.scan`.

    All that an update depends on is the state and the step's number, so that a run that was
    killed, at whatever point, reaches the same parameters to the last bit after resuming.

    Args:
      loss: `(params, carry, batch, key) -> (loss, carry)`.
      params: the first parameters.
      carry: what goes from step to step beside the parameters, such as recurrent states.
      batch_at: the batch of a step, a pytree of NumPy arrays, from the step's number.
      evaluate: `params -> loss`, the number whose minimum is sought; jitted here.
      key: one key `[]`; or `[S]` for S seeds trained side by side by `vmap`, on the same batches:
        `params` and `carry` then have a leading axis S.
      optimiser: an optax transformation.
      steps: the number of updates.
      evaluate_every: evaluate and write a checkpoint after so many updates, and at the end.
      steps_per_call: updates per jitted call.
      patience: stop after so many evaluations without a new minimum (of any seed).
      items_per_step: how many `unit`s one update consumes, for the progress bar.
      unit: "characters", say.
      folder: for the checkpoints of this run. An earlier run's are replaced.
      resume: go on from the newest checkpoint there, if there is one.
      settings: what the run depends on, JSON; resuming under other settings is refused.

    Returns:
      A `Fitted`. With S seeds everything in it is per seed.

    Raises:
      ValueError: `evaluate_every` is no multiple of `steps_per_call`, or resuming a run that had
        other settings.
      FloatingPointError: the loss (of every seed) is no longer finite.
    """
    if evaluate_every % steps_per_call:
        raise ValueError(
            f"evaluate_every is {evaluate_every}, but must be a multiple of "
            f"steps_per_call = {steps_per_call}."
        )

    def update(
        params: Any, optimiser_state: Any, carry: Any, key: jax.Array, batch: Any, step: jax.Array
    ) -> Any:
        gradient = jax.value_and_grad(loss, has_aux=True)
        step_key = jax.random.fold_in(key, step)
        (value, carry), gradients = gradient(params, carry, batch, step_key)
        updates, optimiser_state = optimiser.update(gradients, optimiser_state, params)
        return optax.apply_updates(params, updates), optimiser_state, carry, value

    init = optimiser.init
    if key.ndim:
        update = jax.vmap(update, in_axes=(0, 0, 0, 0, None, None))
        init, evaluate = jax.vmap(init), jax.vmap(evaluate)
    evaluate = jax.jit(evaluate)

    @partial(jax.jit, donate_argnums=0)
    def train(state: _State, first: jax.Array, batches: Any) -> tuple[_State, jax.Array]:
        def body(state: _State, inputs: tuple[Any, jax.Array]) -> tuple[_State, jax.Array]:
            batch, step = inputs
            params, optimiser_state, carry, value = update(*state[:3], key, batch, step)
            return _State(params, optimiser_state, carry, *state[3:]), value

        count = len(jax.tree.leaves(batches)[0])
        state, losses = jax.lax.scan(body, state, (batches, first + jnp.arange(count)))
        return state, losses.mean(axis=0)

    @partial(jax.jit, donate_argnums=0)
    def keep_best(state: _State, value: jax.Array) -> _State:
        better = value < state.best_loss

        def choose(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(
                better.reshape(better.shape + (1,) * (new.ndim - better.ndim)), new, old
            )

        best_params = jax.tree.map(choose, state.params, state.best_params)
        return state._replace(best_params=best_params, best_loss=choose(value, state.best_loss))

    state = _State(params, init(params), carry, params, jnp.full(key.shape, jnp.inf, jnp.float32))
    state = jax.tree.map(jnp.copy, state)  # `train` will write over its arrays, not the caller's
    history: list[dict[str, Any]] = []
    with checkpoints.open_manager(folder, resume) as manager:
        if resume:
            state, history = checkpoints.restore(manager, state, settings)
        start = history[-1]["step"] if history else 0
        before = history[-1] if history else {"seconds": 0.0, "cpu_seconds": 0.0}
        wall, cpu = time.perf_counter(), time.process_time()
        recent: list[jax.Array] = []
        with tqdm(total=steps, initial=start, unit="step", dynamic_ncols=True) as bar:
            for first in range(start, steps, steps_per_call):
                if _exhausted(history, patience):
                    break
                count = min(steps_per_call, steps - first)
                batches = jax.tree.map(
                    lambda *leaves: np.stack(leaves), *map(batch_at, range(first, first + count))
                )
                tick = time.perf_counter()
                state, mean = train(state, jnp.asarray(first), batches)
                if not np.any(np.isfinite(mean)):
                    raise FloatingPointError(
                        f"the loss is {mean} within steps {first} to {first + count}: "
                        "try a lower learning rate."
                    )
                recent.append(mean)
                shown = {"loss": f"{np.mean(mean):.3f}"}
                speed = items_per_step * count / (time.perf_counter() - tick)
                shown[f"{unit}/s"] = f"{speed:,.0f}"
                step = first + count
                if step % evaluate_every == 0 or step == steps:
                    value = evaluate(state.params)
                    state = keep_best(state, value)
                    history.append(
                        {
                            "step": step,
                            "training_loss": np.mean(recent, axis=0).tolist(),
                            "validation_loss": value.tolist(),
                            "seconds": before["seconds"] + time.perf_counter() - wall,
                            "cpu_seconds": before["cpu_seconds"] + time.process_time() - cpu,
                        }
                    )
                    recent.clear()
                    checkpoints.save(manager, state, history, settings)
                if history:
                    shown["validation"] = f"{np.mean(history[-1]['validation_loss']):.3f}"
                bar.set_postfix(shown, refresh=False)
                bar.update(count)
    return Fitted(state.best_params, state.best_loss, history)


def _exhausted(history: list[dict[str, Any]], patience: int | None) -> bool:
    """True if no seed's loss of the last `patience` evaluations is below its minimum before."""
    if patience is None or len(history) <= patience:
        return False
    losses = np.array([entry["validation_loss"] for entry in history])
    losses[np.isnan(losses)] = np.inf  # no minimum, as in `keep_best`
    return bool(np.all(losses[-patience:].min(axis=0) >= losses[:-patience].min(axis=0)))
