"""The training loop that every experiment shares."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from experiments.harness import checkpoints
from experiments.harness.command_line import settings_of


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
      folder: for the checkpoints of this run. An earlier run's are replaced.
      resume: go on from the newest checkpoint there, if there is one.
      settings: what the run depends on, JSON; resuming under other settings is refused.
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
    resume: bool
    settings: Mapping[str, Any]
    patience: int | None = None
    steps_per_call: int = 10

    def __post_init__(self) -> None:
        if self.evaluate_every % self.steps_per_call:
            raise ValueError(
                f"evaluate_every is {self.evaluate_every}, but must be a multiple of "
                f"steps_per_call = {self.steps_per_call}."
            )

    @classmethod
    def of(cls, config: Any, folder: str, **rest: Any) -> "TrainingConfig":
        """Takes from an experiment's configuration what has the same name and meaning in all.

        Args:
          config: with the fields `evaluate_every` and `run`.
          folder: for the checkpoints, within the run's output.
          **rest: the other attributes.
        """
        return cls(
            evaluate_every=config.evaluate_every,
            folder=config.run.output / folder,
            resume=config.run.resume,
            settings=settings_of(config),
            **rest,
        )


class Fitted(NamedTuple):
    """A finished training run; with S seeds everything is per seed."""

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
    config: TrainingConfig,
    key: jax.Array,
    params: Any,
    *,
    loss: Callable[[Any, Any, Any, jax.Array], tuple[jax.Array, Any]],
    batch_at: Callable[[int], Any],
    evaluate: Callable[[Any], jax.Array],
    carry: Any = (),
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
      batch_at: the batch of a step, a pytree of NumPy arrays, from the step's number.
      evaluate: `params -> loss`, the number whose minimum is sought; jitted here.
      carry: what goes from step to step besides the parameters, such as recurrent states.

    Returns:
      The best parameters, their loss, and the history of the evaluations.

    Raises:
      ValueError: resuming a run that had other settings.
      FloatingPointError: the loss (of every seed) is no longer finite.
    """
    train, evaluate, keep_best, init = _compile(config.optimiser, key, loss, evaluate)
    state = _State(params, init(params), carry, params, jnp.full(key.shape, jnp.inf, jnp.float32))
    state = jax.tree.map(jnp.copy, state)  # `train` will write over its arrays, not the caller's
    history: list[dict[str, Any]] = []
    with checkpoints.open_manager(config.folder, resume=config.resume) as manager:
        if config.resume:
            state, history = checkpoints.restore(manager, state, config.settings)
        start = history[-1]["step"] if history else 0
        clock = _Clock(history)
        recent: list[jax.Array] = []
        with tqdm(total=config.steps, initial=start, unit="step", dynamic_ncols=True) as bar:
            for first in range(start, config.steps, config.steps_per_call):
                if _exhausted(history, config.patience):
                    break
                step = min(first + config.steps_per_call, config.steps)
                batches = jax.tree.map(
                    lambda *leaves: np.stack(leaves), *map(batch_at, range(first, step))
                )
                tick = time.perf_counter()
                state, mean = train(state, jnp.asarray(first), batches)
                if not np.any(np.isfinite(mean)):
                    raise FloatingPointError(
                        f"the loss is {mean} within steps {first} to {step}: "
                        "try a lower learning rate."
                    )
                recent.append(mean)
                speed = config.items_per_step * (step - first) / (time.perf_counter() - tick)
                shown = {"loss": f"{np.mean(mean):.3f}", f"{config.unit}/s": f"{speed:,.0f}"}
                if step % config.evaluate_every == 0 or step == config.steps:
                    value = evaluate(state.params)
                    state = keep_best(state, value)
                    history.append(
                        {
                            "step": step,
                            "training_loss": np.mean(recent, axis=0).tolist(),
                            "validation_loss": value.tolist(),
                            **clock.read(),
                        }
                    )
                    recent.clear()
                    checkpoints.save(manager, state, history, config.settings)
                if history:
                    shown["validation"] = f"{np.mean(history[-1]['validation_loss']):.3f}"
                bar.set_postfix(shown, refresh=False)
                bar.update(step - first)
    return Fitted(state.best_params, state.best_loss, history)


def _compile(
    optimiser: optax.GradientTransformation,
    key: jax.Array,
    loss: Callable[..., Any],
    evaluate: Callable[..., Any],
) -> tuple[Callable[..., Any], ...]:
    """The jitted parts of `fit`, written for one seed and mapped over several."""

    def update(state: _State, key: jax.Array, batch: Any, step: jax.Array) -> Any:
        gradient = jax.value_and_grad(loss, has_aux=True)
        step_key = jax.random.fold_in(key, step)
        (value, carry), gradients = gradient(state.params, state.carry, batch, step_key)
        updates, optimiser_state = optimiser.update(gradients, state.optimiser, state.params)
        params = optax.apply_updates(state.params, updates)
        return state._replace(params=params, optimiser=optimiser_state, carry=carry), value

    def keep_best(state: _State, value: jax.Array) -> _State:
        new, old = (state.params, value), (state.best_params, state.best_loss)
        best_params, best_loss = jax.tree.map(partial(jnp.where, value < state.best_loss), new, old)
        return state._replace(best_params=best_params, best_loss=best_loss)

    init = optimiser.init
    if key.ndim:
        update = jax.vmap(update, in_axes=(0, 0, None, None))
        evaluate, keep_best, init = map(jax.vmap, (evaluate, keep_best, init))

    @partial(jax.jit, donate_argnums=0)
    def train(state: _State, first: jax.Array, batches: Any) -> tuple[_State, jax.Array]:
        def body(state: _State, inputs: tuple[Any, jax.Array]) -> Any:
            batch, step = inputs
            return update(state, key, batch, step)

        count = len(jax.tree.leaves(batches)[0])
        state, losses = jax.lax.scan(body, state, (batches, first + jnp.arange(count)))
        return state, losses.mean(axis=0)

    return train, jax.jit(evaluate), jax.jit(keep_best, donate_argnums=0), init


class _Clock:
    """Seconds of training, those before a resumption included."""

    def __init__(self, history: list[dict[str, Any]]) -> None:
        names = ("seconds", "cpu_seconds")
        before = [history[-1][name] for name in names] if history else [0.0, 0.0]
        now = time.perf_counter(), time.process_time()
        self.origins = dict(zip(names, np.subtract(now, before).tolist(), strict=True))

    def read(self) -> dict[str, float]:
        """Seconds of the wall clock and of the processor."""
        return {
            "seconds": time.perf_counter() - self.origins["seconds"],
            "cpu_seconds": time.process_time() - self.origins["cpu_seconds"],
        }


def _exhausted(history: list[dict[str, Any]], patience: int | None) -> bool:
    """True if no seed's loss of the last `patience` evaluations is below its minimum before."""
    if patience is None or len(history) <= patience:
        return False
    losses = np.array([entry["validation_loss"] for entry in history])
    losses[np.isnan(losses)] = np.inf  # no minimum, as in `keep_best`
    return bool(np.all(losses[-patience:].min(axis=0) >= losses[:-patience].min(axis=0)))
