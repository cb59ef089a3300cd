"""The training loop that every experiment shares."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.harness import checkpoints
from experiments.harness.files import as_json
from experiments.harness.layouts import ONE_DEVICE, Layout
from experiments.harness.progress import Clock, progress
from experiments.harness.updates import State, jitted


def adam(
    learning_rate: float, steps: int, *, b2: float = 0.999, weight_decay: float = 0.0
) -> optax.GradientTransformation:
    """AdamW on gradients of norm 1 at most.

    The rate rises linearly for a twentieth of the steps, then falls along a cosine.
    """
    schedule = optax.warmup_cosine_decay_schedule(0.0, learning_rate, steps // 20, steps)
    adamw = optax.adamw(schedule, b2=b2, weight_decay=weight_decay)
    return optax.chain(optax.clip_by_global_norm(1.0), adamw)


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how fast `fit` trains, and where its checkpoints lie.

    Attributes:
      steps: the number of updates.
      evaluate_every: evaluate and write a checkpoint after so many updates, and at the end; a
        multiple of `steps_per_call`.
      optimiser: an optax transformation.
      items_per_step: how many `unit`s one update consumes, for the progress bar.
      unit: "characters", say.
      folder: for the checkpoints of this run. If there are any, training goes on from the newest.
      baseline: a validation loss that a model which has learnt anything is below; a run that ends
        above it has a warning.
      patience: stop after so many evaluations without a new minimum (of any seed); None never
        does.
      steps_per_call: updates per jitted call.
    """

    steps: int
    evaluate_every: int
    optimiser: optax.GradientTransformation
    items_per_step: int
    unit: str
    folder: Path
    baseline: float = math.inf
    patience: int | None = None
    steps_per_call: int = 10

    def __post_init__(self) -> None:
        if self.evaluate_every % self.steps_per_call:
            raise ValueError(
                f"evaluate_every is {self.evaluate_every}, but must be a multiple of "
                f"steps_per_call = {self.steps_per_call}."
            )


class Fitted(NamedTuple):
    """A finished training run; with S seeds everything is per seed."""

    params: Any  # those of the best evaluation
    loss: jax.Array  # at the best evaluation
    history: list[dict[str, Any]]  # one entry per evaluation
    warnings: list[str]  # sentences on what went wrong


def fit(
    config: TrainingConfig,
    key: jax.Array,
    params: Any,
    *,
    loss: Callable[[Any, Any, Any, jax.Array], tuple[jax.Array, Any]],
    batch_at: Callable[[int], Any],
    evaluate: Callable[[Any], jax.Array],
    carry: Any = (),
    layout: Layout = ONE_DEVICE,
) -> Fitted:
    """Trains: one jitted update, several of them in one `jax.lax.scan`.

    All that an update depends on is the state and the step's number, so that a run that was
    killed, at whatever point, reaches the same parameters to the last bit after resuming.

    Args:
      config: how long, how fast, and where the checkpoints lie.
      key: one key `[]`; or `[S]` for S seeds trained in parallel by `vmap`, on the same batches:
        `params` and `carry` then have a leading axis S.
      params: the first parameters.
      loss: `(params, carry, batch, key) -> (loss, carry)`.
      batch_at: the batch of a step, a pytree of NumPy arrays, from the step's number; of several
        processes each makes its own rows (`batches.own_rows`).
      evaluate: `params -> loss`, the number whose minimum is sought; jitted here.
      carry: what goes from step to step besides the parameters, such as recurrent states.
      layout: over which devices the batch is spread. Evaluated is on one device, of each process.

    Returns:
      The best parameters, their loss, and the history of the evaluations.

    Raises:
      FloatingPointError: the loss in training or in validation (of every seed) is not finite.
      CheckpointError: a checkpoint cannot be written, or none that is there can be read.
    """
    spread = State(None, None, layout.carry, None, None)
    keep = partial(layout.keep, axes=spread)
    train, evaluate, keep_best, new_state = jitted(config.optimiser, key, loss, evaluate, keep)
    state = new_state(params, carry)
    state = jax.tree.map(jnp.copy, state)  # `train` will write over its arrays, not the caller's
    state = layout.put(state, spread)
    history: list[dict[str, Any]] = []
    with checkpoints.open_manager(config.folder) as manager:
        state, history = checkpoints.restore(manager, state)
        start = history[-1]["step"] if history else 0
        clock = Clock(history)
        recent: list[jax.Array] = []
        with progress(config.steps, start) as show:
            for first in range(start, config.steps, config.steps_per_call):
                if _exhausted(history, config.patience):
                    break
                step = min(first + config.steps_per_call, config.steps)
                batches = jax.tree.map(
                    lambda *leaves: np.stack(leaves), *map(batch_at, range(first, step))
                )
                tick = time.perf_counter()
                batches = layout.put_own(batches)
                state, mean = train(state, jnp.asarray(first), batches)
                _check_finite(mean, f"loss within steps {first} to {step}")
                recent.append(mean)
                speed = config.items_per_step * (step - first) / (time.perf_counter() - tick)
                shown = {"loss": f"{np.mean(mean):.3f}", f"{config.unit}/s": f"{speed:,.0f}"}
                if step % config.evaluate_every == 0 or step == config.steps:
                    value = layout.agreed(evaluate(layout.local(state.params)))
                    _check_finite(value, f"validation loss at step {step}")
                    state = keep_best(state, value)
                    entry = {
                        "step": step,
                        "training_loss": np.mean(recent, axis=0).tolist(),
                        "validation_loss": value.tolist(),
                        **clock.read(),
                    }
                    history.append(as_json(entry))
                    recent.clear()
                    checkpoints.save(manager, state, history)
                if history:
                    values = _values(history[-1]["validation_loss"])
                    shown["validation"] = f"{np.mean(values):.3f}"
                show(step, shown)
    warnings = _warnings(state.best_loss, history, config.baseline)
    best_params, best_loss = layout.local((state.best_params, state.best_loss))
    return Fitted(best_params, best_loss, history, warnings)


def seed_of(fitted: Fitted, index: int) -> Any:
    """Of a run of several seeds, the parameters of one."""
    return jax.tree.map(lambda leaf: leaf[index], fitted.params)


def best_seed(fitted: Fitted) -> Any:
    """Of a run of several seeds, the parameters of the one that is best in validation."""
    return seed_of(fitted, int(np.argmin(fitted.loss)))


def _check_finite(loss: jax.Array, what: str) -> None:
    if not np.any(np.isfinite(loss)):
        raise FloatingPointError(f"The {what} is {loss}: try a lower learning rate.")


def _warnings(best: jax.Array, history: list[dict[str, Any]], baseline: float) -> list[str]:
    """What a reader of the result has to know."""
    found = []
    values = _values([entry["validation_loss"] for entry in history]).reshape(len(history), -1)
    if diverged := np.count_nonzero(~np.isfinite(values[-1])):
        found.append(f"the loss of {diverged} of {values.shape[1]} seeds is not finite at the end")
    worse = np.count_nonzero(np.ravel(best) > baseline)
    if worse:
        which = "" if best.ndim == 0 else f" of {worse} of {best.size} seeds"
        found.append(
            f"the best validation loss{which} is {np.max(best):.4g}, worse than the baseline's "
            f"{baseline:.4g}: try a lower learning rate"
        )
    return found


def _values(losses: Any) -> np.ndarray:
    """Losses out of a history as numbers; None, as JSON has it, is NaN."""
    return np.array(losses, np.float64)


def _exhausted(history: list[dict[str, Any]], patience: int | None) -> bool:
    """True if no seed's loss of the last `patience` evaluations is below its minimum before."""
    if patience is None or len(history) <= patience:
        return False
    losses = _values([entry["validation_loss"] for entry in history])
    losses[np.isnan(losses)] = np.inf  # no minimum, as in `keep_best`
    return bool(np.all(losses[-patience:].min(axis=0) >= losses[:-patience].min(axis=0)))
