"""The experiment on time-parallel evaluation: its measures, its tables, and a run in small."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import assert_close

import gru_jax
from experiments import time_parallel
from experiments.benchmark.chips import MissingCompilerError, Program
from experiments.benchmark.hlo import Launches, Loop
from experiments.harness.settings import Run
from experiments.harness.tokens import Vocabulary
from experiments.shakespeare.data import Tokens
from experiments.time_parallel import data, launches, report, speed
from experiments.time_parallel.config import Config
from experiments.time_parallel.data import Problem, random_problem
from experiments.time_parallel.newton import (
    linear,
    lyapunov_exponent,
    residual_curve,
    scan_residual,
)

pytestmark = pytest.mark.usefixtures("jax_defaults")
EPS = float(jnp.finfo(jnp.float32).eps)


@pytest.mark.parametrize("full", [True, False])
def test_the_linear_recurrence_is_that_of_a_loop(full):
    rng = np.random.default_rng(0)
    j, g = rng.normal(size=(9, 3, 3)), rng.normal(size=(9, 3))
    delta, expected = np.zeros(3), []
    for j_t, g_t in zip(j, g, strict=True):
        delta = (j_t if full else np.diag(np.diag(j_t))) @ delta + g_t
        expected.append(delta)
    given = j if full else np.diagonal(j, axis1=1, axis2=2)
    assert_close(linear(jnp.asarray(given), jnp.asarray(g)), np.stack(expected), rtol=1e-4)


@pytest.mark.parametrize("jacobian", ["full", "diagonal"])
def test_the_curve_is_that_of_the_library(jacobian):
    """The residual falls below a tolerance at the iteration that `gru_unroll_parallel` reports."""
    problem = random_problem(0, 4, 1.0, 60)
    curve = residual_curve(problem, full=jacobian == "full", safeguarded=True, iterations=20)
    for tolerance in (1e-1, 1e-3):
        options = {"jacobian": jacobian, "tolerance": tolerance}
        solution = gru_jax.gru_unroll_parallel(problem.params, None, problem.xs, **options)[2]
        assert int(solution.iterations) == int(np.argmax(np.asarray(curve) <= tolerance))


def test_the_exponent_is_that_of_the_jacobians_product():
    problem = random_problem(0, 4, 1.0, 40)
    h, product = jnp.zeros(4), np.eye(4)
    for x in problem.xs:
        j = jax.jacfwd(lambda h, x=x: gru_jax.gru_step(problem.params, h, x))(h)
        product = np.asarray(j, np.float64) @ product
        h = gru_jax.gru_step(problem.params, h, x)
    growth = np.log(np.linalg.norm(product @ np.full(4, 0.5))) / 40
    assert_close(lyapunov_exponent(problem), growth, rtol=1e-3)
    # with z = σ(b) everywhere and nothing else, a difference shrinks by 1 − z in each step
    idle = jax.tree.map(jnp.zeros_like, problem.params)
    idle = dataclasses.replace(idle, b=idle.b.at[:4].set(-1.0))
    assert_close(
        lyapunov_exponent(Problem(idle, problem.xs)), jnp.log(1 - jax.nn.sigmoid(-1.0)), rtol=1e-5
    )


def test_the_scans_residual_is_rounding():
    assert 0 <= scan_residual(random_problem(0, 8, 2.0, 100)) <= 4 * EPS


def test_gains_multiply_recurrent_weights():
    one, three = (random_problem(1, 5, gain, 7) for gain in (1.0, 3.0))
    assert_close(three.params.w_h, 3 * one.params.w_h)
    assert_close((three.params.w_x, three.xs), (one.params.w_x, one.xs))
    assert_close(one.first(3).xs, one.xs[:3])
    assert np.any(np.asarray(random_problem(2, 5, 1.0, 7).xs != one.xs))


def tiny_text():
    tokens = np.random.default_rng(0).integers(0, 6, 5000).astype(np.int32)
    return Tokens(tokens[:4000], tokens[4000:], Vocabulary(tuple("abcdef")))


def compile_here(chip, function, *args, assumed=()):
    """As `compile_for`: every program with 9 launches outside, and 5 and 2 in its two loops."""
    assert chip == "H100"
    assert callable(function)
    return Program("loops" if assumed else "", Launches(9, ()), 1000, 1.0, ())


def launches_here(text, trips):
    assert text == "loops"
    return Launches(9, (Loop(trips[0], 5), Loop(trips[1], 2)))


@pytest.fixture
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(data, "text", tiny_text)
    return Config(
        lengths=(20,),
        timed_lengths=(20,),
        hidden_sizes=(3,),
        gains=(1.0, 8.0),
        draws=2,
        max_iterations=12,
        steps=10,
        evaluate_every=10,
        rounds=1,
        run=Run(tmp_path),
    )


def test_a_run_solves_times_and_counts(small, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(launches, "compile_for", compile_here)
    monkeypatch.setattr(launches, "launches", launches_here)
    monkeypatch.setattr(launches, "kernel", launches.MAKES["gru_unroll"])
    result = time_parallel.main(small)
    record = json.loads((tmp_path / "time_parallel-default.json").read_text())
    assert record["results"]["solved"] == json.loads(json.dumps(result.solved))
    assert (tmp_path / "time_parallel-default.png").stat().st_size > 10_000
    kinds = [found["weights"] for found in result.solved]
    assert kinds == ["random, gain 1", "random, gain 8", "untrained on text", "trained on text"]
    easy, hard = result.solved[:2]
    assert max(easy["lengths"]["20"]["full"]["iterations"]) <= 6
    assert all(easy["lengths"]["20"]["full"]["converged"])
    assert max(easy["lyapunov"]) < 0
    assert len(hard["lengths"]["20"]["diagonal"]["residual"]) == 2
    (timed,), (counted,) = result.times, result.launches
    assert timed["shape"] == {"steps": 20, "batch": 1, "inputs": 3, "hidden": 3}
    assert counted["forward"]["gru_unroll"]["iteration"] == 0
    full = counted["train"]["full"]
    assert (full["outside"], full["iteration"], full["finishing_step"]) == (9, 5, 2)
    tables = report.summary(record)
    printed = capsys.readouterr().out
    assert all(table in printed for table in tables.values())
    total = 9 + 5 * timed["iterations"]["full"]
    assert f"| parallel, full | {total} / {total} |" in tables["launches"]
    assert "| kernel | 9 / 9 |" in tables["launches"]
    # without a compiler the record says so; nothing is left to train, and all is solved again

    def missing(*_, **__):
        raise MissingCompilerError("nothing here compiles for H100")

    monkeypatch.setattr(launches, "compile_for", missing)
    monkeypatch.setattr(speed, "measure", lambda _: result.times)
    again = time_parallel.main(dataclasses.replace(small, run=Run(tmp_path, resume=True)))
    assert (again.solved, again.models) == (result.solved, result.models)
    assert again.launches == []
    record = json.loads((tmp_path / "time_parallel-default.json").read_text())
    assert record["warnings"][-1].startswith("launches are not counted: nothing here compiles")
    assert "launches" not in report.summary(record)


def test_what_did_not_converge_is_shown():
    solutions = {"iterations": [7, 9], "residual": [0.0, 0.0], "converged": [True, True]}
    assert report.shown(solutions) == "9"
    assert report.shown(solutions | {"converged": [False, True]}) == "9 (1 of 2 –)"
    assert report.shown(solutions | {"converged": [False, False]}) == "–"
