"""Counts the iterations of Newton's method, and asks what they cost."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import gru_jax
from experiments.harness.progress import progress
from experiments.harness.runs import OpenRun, begun
from experiments.shakespeare.data import Tokens
from experiments.time_parallel import data, launches, plot, report, speed
from experiments.time_parallel.config import Config
from experiments.time_parallel.data import Problem
from experiments.time_parallel.model import learn, reading
from experiments.time_parallel.newton import lyapunov_exponent, residual_curve, scan_residual

CURVE_LENGTH, CURVE_ITERATIONS = 1000, 30


class Result(NamedTuple):
    """What a run found."""

    models: dict[str, Any]  # by the number of units: loss and history of a language model
    solved: list[dict[str, Any]]  # of each kind of weights and H, what `solved` returns
    times: list[dict[str, Any]]  # see speed.py
    launches: list[dict[str, Any]]  # see launches.py


class Family(NamedTuple):
    """Problems of one kind of weights."""

    name: str
    hidden: int
    draws: list[Problem]  # of the greatest length


def families(config: Config, models: dict[int, Any], text: Tokens) -> Iterator[Family]:
    """Every kind of weights, with each H."""
    steps = max(config.lengths)
    for hidden in config.hidden_sizes:
        for gain in config.gains:
            draws = range(config.draws)
            problems = [data.random_problem(draw, hidden, gain, steps) for draw in draws]
            yield Family(f"random, gain {gain:g}", hidden, problems)
        for name, model in zip(("untrained", "trained"), models[hidden], strict=True):
            yield Family(f"{name} on text", hidden, [reading(model, text.validation, steps)])


def solved(config: Config, family: Family, advance: Callable[[], None]) -> dict[str, Any]:
    """Of each draw the Lyapunov exponent, and by T and Jacobian the `Solution`."""
    found: dict[str, Any] = {
        "weights": family.name,
        "hidden_size": family.hidden,
        "lyapunov": [float(lyapunov_exponent(problem)) for problem in family.draws],
        "lengths": {},
        "curves": {},
    }
    for steps in config.lengths:
        problems = [problem.first(steps) for problem in family.draws]
        entry: dict[str, Any] = {"scan": [float(scan_residual(each)) for each in problems]}
        for jacobian in speed.JACOBIANS:
            solutions = [solution_of(config, each, jacobian) for each in problems]
            entry[jacobian] = {
                name: [solution[name] for solution in solutions] for name in solutions[0]
            }
            advance()
        found["lengths"][str(steps)] = entry
    problem = family.draws[0].first(CURVE_LENGTH)
    for jacobian in speed.JACOBIANS:
        found["curves"][jacobian] = {
            name: np.asarray(
                residual_curve(
                    problem,
                    full=jacobian == "full",
                    safeguarded=safeguarded,
                    iterations=CURVE_ITERATIONS,
                )
            ).tolist()
            for name, safeguarded in (("safeguarded", True), ("plain", False))
        }
    return found


def solution_of(config: Config, problem: Problem, jacobian: Any) -> dict[str, Any]:
    """What `gru_unroll_parallel` says of a problem."""
    _, _, solution = gru_jax.gru_unroll_parallel(
        problem.params,
        None,
        problem.xs,
        jacobian=jacobian,
        max_iterations=config.max_iterations,
    )
    return {name: np.asarray(value).item() for name, value in solution._asdict().items()}


def main(config: Config) -> Result:
    """Trains language models, solves everything, times it; writes a record and a figure."""
    with begun(config, data.hashes) as run:
        result = measured(run)
        record = run.write_record(result._asdict())
        plot.plot(run.record.with_suffix(".png"), record["results"])
        print(*report.summary(record).values(), sep="\n\n")
        run.conclude(f"{len(result.solved)} kinds of weights solved")
    return result


def measured(run: OpenRun) -> Result:
    """Everything that the record has."""
    config: Config = run.config
    text = data.text()
    models, trained = {}, {}
    for hidden in config.hidden_sizes:
        print(f"language model of {hidden} units:", flush=True)
        model, fitted = learn(run, hidden, text)
        run.warnings.extend(f"{hidden} units: {warning}" for warning in fitted.warnings)
        trained[hidden] = model, fitted.params
        models[str(hidden)] = {"validation_loss": float(fitted.loss), "history": fitted.history}
    kinds = len(config.hidden_sizes) * (len(config.gains) + 2)
    total = kinds * len(config.lengths) * len(speed.JACOBIANS)
    print("iterations:", flush=True)
    with progress(total, 0) as show:
        done = iter(range(1, total + 1))
        solutions = [
            solved(config, family, lambda: show(next(done), {}))
            for family in families(config, trained, text)
        ]
    return Result(models, solutions, speed.measure(config), launches.measure(run))
