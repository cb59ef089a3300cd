"""The benchmark runs, skips by name what it cannot run, and counts right. No claim about time."""

import dataclasses
import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import benchmark
from experiments.benchmark import (
    compiling,
    derivatives,
    models,
    parallel,
    run,
    streaming,
    studies,
    timing,
)
from experiments.benchmark.ours import OURS
from experiments.benchmark.peers import PEERS
from experiments.benchmark.timing import Shape, UnsupportedError
from experiments.harness.records import cores
from experiments.harness.settings import Output
from gru_jax.recurrence.cpu import Tuning

CORES = cores()
TINY = Shape(steps=6, batch=2 * CORES, inputs=3, hidden=5)  # divisible among the devices
# what imports of the peers warn about is theirs to mend
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("jax_defaults"),
]


@pytest.fixture
def tiny(monkeypatch):
    """One small workload, and as many cores as there are."""
    monkeypatch.setattr(run, "WORKLOADS", {"rl": TINY})
    monkeypatch.setattr(run, "pin_to_cores", lambda cores: None)


def test_a_run_leaves_a_record_and_a_figure(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "haiku", None)  # as if it were not installed
    config = benchmark.Config(workloads=("rl",), rounds=3, tables=False, run=Output(tmp_path))
    results = benchmark.main(config)
    record = json.loads((tmp_path / "benchmark-default.json").read_text())
    assert record["results"] == results
    assert record["settings"] == {
        "preset": "default",
        "compare": "libraries",
        "workloads": ["rl"],
        "rounds": 3,
        "cores": 2,
        "tables": False,
    }
    assert (tmp_path / "benchmark-default.png").stat().st_size > 10_000
    printed = capsys.readouterr()
    assert "rl train: Haiku is skipped: import of haiku halted" in printed.out + printed.err
    assert "rl train: NumPy is skipped: runs forward only" in printed.out + printed.err
    assert "| gru_jax |" in printed.out
    for mode in ("train", "forward"):
        entries = results["workloads"]["rl"][mode]
        assert {"gru_jax", "plain scan", "Flax linen"} <= set(entries)
        assert ("gru_jax devices" in entries) == (CORES > 1)
        assert "Haiku" not in entries
        for entry in entries.values():
            assert 0 < entry["min_ms"] <= entry["median_ms"]
        ratios = [entry["ratio"] for name, entry in entries.items() if name not in OURS]
        assert min(ratios) == 1


def test_tuning_is_compared_item_by_item(tiny, tmp_path, capsys):
    output = Output(tmp_path)
    config = dataclasses.replace(
        benchmark.PRESETS["tuning"], workloads=("rl",), rounds=2, run=output
    )
    entries = benchmark.main(config)["workloads"]["rl"]["train"]
    names = {"gru_jax", "without all", *(f"without {item}" for item in Tuning._fields)}
    assert set(entries) == names
    table = capsys.readouterr().out
    assert all(f"| {name} |" in table for name in names - {"gru_jax"})


@pytest.mark.parametrize("preset", ["models", "derivatives"])
def test_models_and_derivatives_are_timed(preset, tmp_path, monkeypatch, capsys):
    small = {name: many._replace(models=2, shape=TINY) for name, many in models.MANY.items()}
    monkeypatch.setattr(models, "MANY", small)
    monkeypatch.setattr(models, "COUNTS", (1, 2))
    few = {name: derivatives.DERIVATIVES[name]._replace(shape=TINY) for name in ("jvp by xs",)}
    monkeypatch.setattr(derivatives, "DERIVATIVES", few)
    monkeypatch.setattr(run, "pin_to_cores", lambda cores: None)
    config = benchmark.PRESETS[preset]
    results = benchmark.main(dataclasses.replace(config, rounds=1, run=Output(tmp_path)))
    for entries in results.get("workloads", results).values():
        assert set(entries) >= {"sizes", "gru_jax", "plain scan", "Flax linen"}
    assert (tmp_path / "benchmark-models.png").exists() == (preset == "models")
    (table,) = benchmark.summary(
        json.loads((tmp_path / f"benchmark-{preset}.json").read_text())
    ).values()
    assert table in capsys.readouterr().out


def timed_preset(preset, tmp_path, monkeypatch):
    """The results of a preset, and that its table is printed."""
    monkeypatch.setattr(run, "pin_to_cores", lambda cores: None)
    config = benchmark.PRESETS[preset]
    results = benchmark.main(dataclasses.replace(config, rounds=1, run=Output(tmp_path)))
    record = json.loads((tmp_path / f"benchmark-{preset}.json").read_text())
    (table,) = benchmark.summary(record).values()
    return results, table


def test_single_steps_are_timed(tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "SIZES", (3,))
    monkeypatch.setattr(streaming, "CALLS", 2)
    results, table = timed_preset("streaming", tmp_path, monkeypatch)
    assert set(results) == {"H = 3, closed over", "H = 3, arguments"}
    for entries in results.values():
        assert set(entries) >= {"gru_jax", "gru_jax before", "gru_jax stack", "Flax linen"}
    assert table.count("\n| ") == len(streaming.MAKES) + len(streaming.OTHERS)


@pytest.mark.parametrize("make", streaming.MAKES.values())
def test_single_steps_go_on_from_the_state_before(make, monkeypatch):
    try:
        weights, step = make(TINY)
    except ImportError as reason:
        pytest.skip(str(reason))
    monkeypatch.setattr(streaming, "CALLS", 3)
    x, h = jnp.asarray(timing.draw(1, TINY.inputs)), jnp.zeros((1, TINY.hidden))
    for _ in range(3):
        h = step(weights, h, x)
    for closed in (True, False):
        result = streaming.on_jax(make, closed, TINY, "forward").call()
        np.testing.assert_allclose(result, h, rtol=1e-5)


def test_compilation_is_timed_by_phases(tmp_path, monkeypatch):
    programs = {"stack": (TINY, compiling.PROGRAMS["4 bidirectional layers"][1])}
    monkeypatch.setattr(compiling, "PROGRAMS", programs)
    results, table = timed_preset("compile", tmp_path, monkeypatch)
    assert set(results["stack"]) == {"gru_jax", "plain scan", "Flax linen"}
    assert all(seconds > 0 for each in results["stack"].values() for seconds in each.values())
    assert table.count("\n| ") == 3


def test_updates_are_timed_on_devices_and_in_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "WORKLOADS", {"rl": TINY})
    config = dataclasses.replace(benchmark.PRESETS["devices"], workloads=("rl",))
    monkeypatch.setitem(benchmark.PRESETS, "devices", config)
    losses, spread = {}, parallel.spread

    def remembering(*arguments):
        ready = spread(*arguments)

        def call():
            losses.setdefault(arguments[:2], []).append(ready.call())

        return ready._replace(call=call)

    monkeypatch.setattr(parallel, "spread", remembering)
    _, table = timed_preset("devices", tmp_path, monkeypatch)
    (expected,) = np.transpose(losses[1, 1])
    assert expected[0] > expected[1]  # updates they are
    for found in losses.values():
        for each in np.transpose(found):
            np.testing.assert_allclose(each, expected, rtol=1e-5)
    assert [line.split(" | ")[0] for line in table.splitlines()[2:]] == [
        "| 1 device",
        "| 2 devices",
        "| 2 processes",
    ]
    assert "(1.00)" in table.splitlines()[2]


def test_stacks_that_are_compiled_are_equal():
    xs = jnp.asarray(timing.draw(6, 2, 3))
    (weights, ours), (_, plain) = compiling.our_stack(TINY), compiling.plain_stack(TINY)
    np.testing.assert_allclose(ours(weights, xs), plain(weights, xs), atol=1e-6)


def test_sweep_memory_and_precision_are_measured(monkeypatch):
    monkeypatch.setattr(studies, "BASE", TINY)
    monkeypatch.setattr(studies, "SWEEP", {"steps": (2, 4), "batch": (1, 2)})
    monkeypatch.setattr(studies, "LENGTHS", (200, 400))
    monkeypatch.setattr(studies, "WORKLOADS", {"rl": TINY, "big": TINY})
    swept = studies.sweep(rounds=2)
    assert set(swept) == {"steps", "batch"}
    assert set(swept["steps"]["train"]["gru_jax"]) == {"2", "4"}
    memory = studies.memory()
    assert memory['gru_jax save="chunks"']["400"] < memory["Flax linen"]["400"]
    assert memory["Flax linen"]["200"] < memory["Flax linen"]["400"]
    precision = studies.precision(rounds=2)["rl"]
    assert 1e-5 < precision["largest_error_of_hs"] < 0.1
    assert 1e-5 < precision["largest_error_of_dw_h"] < 0.1


@pytest.mark.parametrize("mode", ["forward", "train"])
@pytest.mark.parametrize("name", [*OURS, *PEERS])
def test_every_implementation_runs(name, mode):
    try:
        ready = (OURS | PEERS)[name](TINY, mode)
    except (ImportError, UnsupportedError) as reason:
        pytest.skip(str(reason))
    result = ready.call()
    if name == "gru_jax devices":  # its arrays stay in its process
        return
    if mode == "forward":
        (hs,) = result[0:1] if isinstance(result, (tuple, list)) else (result,)
        hs = np.asarray(hs)
        shape = (4, 6, 5) if name.startswith("Keras") else (6, 4, 5)
        assert hs.size == 6 * 4 * 5
        assert hs.squeeze().shape == shape
        assert np.all(np.isfinite(hs))
        assert np.std(hs) > 0.01


def test_the_gradient_is_timed_with_respect_to_weights_and_inputs():
    ready = timing.on_jax(
        lambda shape: (jnp.float32(2), lambda weight, xs: weight * xs), Shape(2, 3, 4, 4), "train"
    )
    value, (d_weight, d_xs) = ready.call()
    xs = timing.draw(2, 3, 4)
    np.testing.assert_allclose(value, np.sum(2 * xs * xs), rtol=1e-6)
    np.testing.assert_allclose(d_weight, np.sum(xs * xs), rtol=1e-6)
    np.testing.assert_allclose(d_xs, 2 * xs, rtol=1e-6)


def test_ratios_are_of_medians_to_the_fastest_peer(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def taking(*seconds):
        left = iter((100, *seconds))  # the first call is not timed

        def call():
            clock[0] += next(left)

        return lambda *_: timing.Ready(call)

    entries = timing.timed(
        "test",
        TINY,
        "forward",
        {"gru_jax": taking(1, 8, 3), "peer": taking(2, 4, 5), "slow": taking(9, 9, 9)},
        rounds=3,
    )
    assert entries["gru_jax"][:3] == (3000, 1000, 0.75)
    assert entries["peer"][:3] == (4000, 2000, 1)
    assert entries["slow"][:3] == (9000, 9000, 2.25)
