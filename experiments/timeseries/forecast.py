"""How much electricity will be used on the next day? Training, calibration, and the test."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.harness import training
from experiments.harness.batches import own_rows
from experiments.harness.layouts import Layout
from experiments.harness.runs import OpenRun
from experiments.timeseries import demand, plot
from experiments.timeseries.baselines import forecasts
from experiments.timeseries.config import Config
from experiments.timeseries.demand import Scale, Series, Windows, windows_of
from experiments.timeseries.models import (
    LEVELS,
    MEDIAN,
    Forecaster,
    init_forecaster,
    pinball,
    quantiles_of,
)


def init_all(config: Config, key: jax.Array) -> Forecaster:
    """Draws the parameters of every seed."""
    sizes = (config.hidden_size,) * config.layers
    keys = jax.random.split(key, config.seeds)
    return jax.vmap(lambda key: init_forecaster(key, sizes))(keys)


def train(
    run: OpenRun, series: Series, scale: Scale, origins: np.ndarray, validation: Windows
) -> training.Fitted:
    """Trains all seeds, and keeps of each the parameters best in validation."""
    config: Config = run.config
    init_key, train_key = jax.random.split(jax.random.key(0))

    def batch_at(step: int) -> Windows:
        rng = np.random.default_rng([4, step])
        drawn = rng.choice(origins[1:-1], config.batch_size)
        shifts = rng.integers(-config.shift, config.shift, config.batch_size, endpoint=True)
        return windows_of(series, scale, own_rows(drawn + shifts), config.days)

    def loss(
        model: Forecaster, carry: Any, windows: Windows, key: jax.Array
    ) -> tuple[jax.Array, Any]:
        level_key, dropout_key = jax.random.split(key)
        levels = config.noise * jax.random.normal(level_key, (config.batch_size,))
        windows = demand.raised(windows, levels)
        found = quantiles_of(model, windows, config.dropout, dropout_key)
        return pinball(found, windows.demand), carry

    fitted = training.fit(
        training.TrainingConfig(
            steps=config.steps,
            evaluate_every=config.evaluate_every,
            optimiser=training.adam(
                config.learning_rate, config.steps, weight_decay=config.weight_decay
            ),
            items_per_step=config.batch_size * config.seeds,
            unit="days",
            folder=run.checkpoints,
            baseline=float(pinball(_yesterday(validation), validation.demand)),
        ),
        jax.random.split(train_key, config.seeds),
        init_all(config, init_key),
        loss=loss,
        batch_at=batch_at,
        evaluate=lambda model: pinball(
            quantiles_of(model, validation), jnp.asarray(validation.demand)
        ),
        layout=Layout(run.mesh, batch=Windows(1, 1, 1, 1)),
    )
    run.warnings.extend(fitted.warnings)
    return fitted


def _yesterday(windows: Windows) -> jax.Array:
    """All quantiles at the demand of a day before."""
    return jnp.repeat(jnp.asarray(windows.day_before)[..., None], len(LEVELS), axis=-1)


@jax.jit
def predict(models: Forecaster, windows: Windows) -> jax.Array:
    """Of every seed's model, the quantiles `[S, 48, B, 19]`, normalised."""
    return jax.vmap(lambda model: quantiles_of(model, windows))(models)


def corrections_of(quantiles: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    """What to add to each quantile `[..., 19]`, so that so many outcomes `[...]` are below it.

    Conformalized quantile regression (Romano et al. 2019), here of every quantile by itself: found
    on days that were not learned from, it holds for other days like them.
    """
    errors = (outcomes[..., None] - quantiles).reshape(-1, len(LEVELS))
    return np.array([np.quantile(column, p) for column, p in zip(errors.T, LEVELS, strict=True)])


def scores_of(quantiles: np.ndarray, outcomes: np.ndarray, point: Any = None) -> dict[str, Any]:
    """How good the quantiles `[48, B, 19]` of the outcomes `[48, B]` are.

    Args:
      quantiles: in MW.
      outcomes: in MW.
      point: the forecast `[48, B]`; None takes the median.

    Returns:
      Errors and quantile loss in MW, the error in per cent, and the share of the outcomes below
      each quantile.
    """
    errors = np.abs((quantiles[..., MEDIAN] if point is None else point) - outcomes)
    return {
        "MAE": float(errors.mean()),
        "MAPE": float(100 * np.mean(errors / outcomes)),
        "pinball": float(pinball(jnp.asarray(quantiles), jnp.asarray(outcomes))),
        "below": np.mean(outcomes[..., None] <= quantiles, axis=(0, 1)).tolist(),
    }


def forecast(run: OpenRun) -> dict[str, Any]:
    """Trains, calibrates by the validation part, tests beside the baselines; saves the models."""
    config: Config = run.config
    series = demand.load()
    parts = demand.parts_of(series)
    scale = demand.scale_of(series, parts[1][0])
    validation, test = (windows_of(series, scale, part, config.days) for part in parts[1:])
    fitted = train(run, series, scale, parts[0], validation)
    calibration, raw = (
        megawatts(predict(fitted.params, each), scale) for each in (validation, test)
    )
    known, outcomes = (megawatts(each.demand, scale) for each in (validation, test))
    together = raw.mean(axis=0)
    corrections = corrections_of(calibration.mean(axis=0), known)
    calibrated = np.sort(together + corrections, axis=-1)
    seeds = [
        np.sort(each + corrections_of(before, known), axis=-1)
        for before, each in zip(calibration, raw, strict=True)
    ]
    others = forecasts(series, scale, parts, LEVELS)
    run.save_model(fitted.params, scale=scale, corrections=corrections.tolist())
    results = {
        "validation_pinball": (scale.demand[1] * fitted.loss).tolist(),
        "seeds": [scores_of(each, outcomes) for each in seeds],
        "before calibration": [scores_of(each, outcomes) for each in raw],
        "mean quantiles": scores_of(calibrated, outcomes),
        "baselines": {
            name: scores_of(each.quantiles, outcomes, each.point) for name, each in others.items()
        },
    }
    weeks = plot.Weeks(outcomes, calibrated, others["linear"].point)
    plot.plot_demand(run.record.with_suffix(".png"), weeks, results, series.dates[parts[2]])
    return results | {"history": fitted.history}


def megawatts(xs: Any, scale: Scale) -> np.ndarray:
    """Normalised demand in MW."""
    mean, deviation = scale.demand
    return mean + deviation * np.asarray(xs, np.float64)
