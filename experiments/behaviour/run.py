"""Fits every model to every subject, and asks how well each predicts held-out choices."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.behaviour import plot
from experiments.behaviour.baselines import logistic_regression, nats
from experiments.behaviour.config import PRESETS, Config
from experiments.behaviour.data import Sessions, draw_learners, parts, simulate
from experiments.behaviour.fitting import Fits, fit
from experiments.behaviour.model import Family, gru, learner, name_of
from experiments.behaviour.speed import timed_fits
from experiments.harness.records import markdown_table
from experiments.harness.runs import OpenRun, begun

LIBRARIES = ("gru_jax", "Haiku")
STEPS = PRESETS["full"].steps  # of the fits whose number per second is told
CEILING = "generating model"


class Result(NamedTuple):
    """What a run found: held-out nats per trial of every subject, or what the timing found."""

    losses: dict[str, list[float]]  # by model
    speed: dict[str, Any]  # by units and library


def families(config: Config) -> dict[str, Family]:
    """What is fitted by gradients, by name."""
    grus = {name_of(units): gru(units) for units in config.units}
    return {"Q-learner": learner(plain=True), "generating equations": learner(plain=False), **grus}


def main(config: Config) -> Result:
    """Fits all models and compares them, or times the fits; writes a record and a figure."""
    with begun(config, spread=() if config.rounds else ("subjects", "restarts")) as run:
        rng = np.random.default_rng(0)
        learners = draw_learners(rng, config.subjects)
        sizes = config.training_sessions, config.validation_sessions, config.test_sessions
        split = parts(simulate(rng, learners, sum(sizes), config.trials), sizes)
        if config.rounds:
            return timing(run, split)
        return fitting(run, split)


def timing(run: OpenRun, split: tuple[Sessions, ...]) -> Result:
    """Times the fits beside Haiku's."""
    speed = timed_fits(run.config, *split[:2])
    record = run.write_record({"speed": speed})
    print(summary(record)["fits per second"])
    run.conclude("the fits are timed")
    return Result({}, speed)


def fitting(run: OpenRun, split: tuple[Sessions, ...]) -> Result:
    """Fits all models, and compares them by the test sessions."""
    test = split[-1]
    fitted_losses: dict[str, list[float]] = {}
    fits: dict[str, Any] = {}
    shown = None
    for name, family in families(run.config).items():
        print(f"{name}:", flush=True)
        fitted = fit(run, name, family, *split[:2])
        logits = np.asarray(jax.jit(jax.vmap(family.logits))(fitted.params, test.xs))
        fitted_losses[name] = per_subject(logits, test)
        fits[name] = {
            "parameters": sum(leaf[0].size for leaf in jax.tree.leaves(fitted.params)),
            "validation_of_restarts": fitted.validation.mean(axis=0).tolist(),
            "history": fitted.history,
        }
        if name == name_of(2):
            shown = shown_subject(fitted, logits, test)
    losses = {
        CEILING: per_subject(test.logits, test),
        "logistic regression": logistic_regression(*split),
        **fitted_losses,
    }
    record = run.write_record({"losses": losses, "fits": fits})
    plot.plot(run.record.with_suffix(".png"), losses, run.config.units, shown)
    print(summary(record)["held out"])
    run.conclude(f"{', '.join(fits)} fitted to {run.config.subjects} subjects")
    return Result(losses, {})


def per_subject(logits: np.ndarray, part: Sessions) -> list[float]:
    """The nats per trial of every subject."""
    return [nats(*each) for each in zip(logits, part.choices, strict=True)]


def shown_subject(fitted: Fits, logits: np.ndarray, test: Sessions) -> plot.Shown:
    """The subject whose loss in validation is the median one."""
    order = np.argsort(fitted.validation.min(axis=1))
    subject = order[len(order) // 2]
    model = jax.tree.map(lambda leaf: leaf[subject], fitted.params)
    return plot.Shown(model, logits[subject], Sessions(*(array[subject] for array in test)))


def summary(record: Mapping[str, Any]) -> dict[str, str]:
    """The numbers of a record that README.md shows: its table."""
    results = record["results"]
    if "speed" in results:
        settings, rows = record["settings"], []
        timed_steps = settings["evaluations"] * settings["evaluate_every"]
        updates = settings["subjects"] * settings["restarts"] * timed_steps
        for units, libraries in results["speed"].items():
            medians = [
                libraries[name]["median_ms"] if name in libraries else np.nan for name in LIBRARIES
            ]
            cells = [f"{1e3 * updates / STEPS / median:.2f}" for median in medians]
            rows.append([units, *cells, f"{medians[1] / medians[0]:.2f}"])
        return {"fits per second": markdown_table(["units", *LIBRARIES, "ratio"], rows)}
    losses = {name: np.array(values) for name, values in results["losses"].items()}
    head = "model", "parameters", "nats per trial", "above the generating model", "likelihood"
    rows = []
    for name, values in losses.items():
        excess = values - losses[CEILING]
        error = excess.std() / np.sqrt(len(excess))
        parameters = results["fits"].get(name, {"parameters": "–"})["parameters"]
        above = "–" if name == CEILING else f"{excess.mean():.4f} ± {error:.4f}"
        likelihood = f"{100 * np.exp(-values.mean()):.2f} %"
        rows.append([name, str(parameters), f"{values.mean():.4f}", above, likelihood])
    return {"held out": markdown_table(head, rows)}
