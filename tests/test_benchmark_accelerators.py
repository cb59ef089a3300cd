"""The benchmark for GPUs and TPUs, with stand-ins for compilers and device. No claim about time."""

import dataclasses
import json

import jax
import pytest

from experiments import benchmark
from experiments.benchmark import accelerators, chip_report, run
from experiments.benchmark.chips import CHIPS, Kernel, MissingCompilerError, Program
from experiments.benchmark.hlo import Launches, Loop
from experiments.benchmark.timing import Problem, Shape, UnsupportedError
from experiments.harness.settings import Output, SettingError

TINY = Shape(steps=6, batch=4, inputs=3, hidden=5)
# what imports of the peers warn about is theirs to mend
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("jax_defaults")]


def compile_here(chip, function, *args):
    """As `compile_for`, where H100 and TPU v5e have a compiler and every program one kernel."""
    if chip not in ("H100", "TPU v5e"):
        raise MissingCompilerError(f"nothing here compiles for {chip}")
    jax.jit(function).lower(*args)
    kernel = Kernel("loop", 1500, *((168, 0, "sm_90a") if chip == "H100" else (None,) * 3))
    return Program("", Launches(3, (Loop(6, 2),)), 2_500_000, 1.25, (kernel,))


@pytest.fixture
def tiny(monkeypatch):
    names = ("gru_jax", "gru_jax pallas", "Flax linen")
    programs = {name: accelerators.PROGRAMS[name] for name in names}
    monkeypatch.setattr(accelerators, "PROGRAMS", programs)
    monkeypatch.setattr(accelerators, "WORKLOADS", {"rl": TINY})
    monkeypatch.setattr(accelerators, "compile_for", compile_here)
    monkeypatch.setattr(run, "pin_to_cores", lambda cores: None)


def configured(tmp_path, **changes):
    preset = benchmark.PRESETS["accelerators"]
    changes = {"workloads": ("rl",), "rounds": 2, "run": Output(tmp_path)} | changes
    return dataclasses.replace(preset, **changes)


def test_programs_are_compiled_for_each_chip_and_timed_on_a_device(
    tiny, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(accelerators, "device", lambda: "stand-in")
    results = benchmark.main(configured(tmp_path))
    record = json.loads((tmp_path / "benchmark-accelerators.json").read_text())
    assert record["results"] == results
    assert (tmp_path / "benchmark-accelerators.png").stat().st_size > 10_000
    output = capsys.readouterr()
    printed = output.out + output.err
    assert "A100 is skipped: nothing here compiles for A100" in printed
    # a kernel refuses a platform that has none, which is CPU here
    assert 'gru_jax pallas is skipped: implementation is "pallas", but there is no' in printed
    assert set(results["chips"]) == {"H100", "TPU v5e"}
    for workloads in results["chips"].values():
        for mode in ("train", "forward"):
            entries = workloads["rl"][mode]
            assert {"gru_jax", "Flax linen"} <= set(entries) <= set(accelerators.PROGRAMS)
            assert "gru_jax pallas" not in entries
            assert entries["gru_jax"]["launches"] == 15
            assert entries["gru_jax"]["kernels"][0]["memory_bytes"] == 1500
    timed = results["device"]["workloads"]["rl"]
    for mode in ("train", "forward"):
        assert {"gru_jax", "Flax linen"} <= set(timed[mode])
        assert all(0 < e["min_ms"] <= e["median_ms"] for e in timed[mode].values())
    shown = benchmark.summary(record)
    assert all(table in printed for table in shown.values())
    assert "| H100: launches per step (per call), train / forward | rl |" in printed
    assert "| TPU v5e: operations per step (per call), train / forward | rl |" in printed
    assert "| gru_jax | 2.5 (15) / 2.5 (15) |" in printed
    assert "| Flax linen | 2.5 (1.2) | 2.5 (1.2) |" in printed
    assert "| gru_jax: loop | H100 | rl train | 168 | 0 | 1.5 |" in printed
    assert "| gru_jax: loop | TPU v5e | rl forward | – | – | 1.5 |" in printed
    assert "| stand-in: train / forward, ms | rl |" in printed
    assert "errors" not in shown


def test_kernels_are_compared_with_the_scan(monkeypatch):
    """By a stand-in whose outputs and gradients are a thousandth too large."""

    def off(shape, mode):
        function, args = accelerators.PROGRAMS["gru_jax"](shape, mode)
        return Problem(lambda *args: jax.tree.map(lambda x: 1.001 * x, function(*args)), args)

    def fails(shape, mode):
        raise UnsupportedError("it has no such sizes")

    programs = {"gru_jax": accelerators.PROGRAMS["gru_jax"], "gru_jax pallas": off}
    monkeypatch.setattr(accelerators, "PROGRAMS", programs)
    errors = accelerators.largest_errors(TINY)
    assert errors == {"gru_jax pallas": pytest.approx(1e-3, rel=1e-2)}
    monkeypatch.setitem(programs, "gru_jax pallas", fails)
    assert accelerators.largest_errors(TINY) == {}


def test_without_a_device_nothing_is_timed(tiny, tmp_path):
    results = benchmark.main(configured(tmp_path))
    assert accelerators.device() is None
    assert set(results) == {"chips"}


def test_without_device_and_compilers_there_is_one_sentence(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(accelerators, "CHIPS", {"A100": CHIPS["A100"]})
    with pytest.raises(SettingError, match="no GPU or TPU, and nothing here compiles for A100"):
        benchmark.main(configured(tmp_path))


def test_only_a_kernel_may_refuse(monkeypatch):
    def refuse(*_):
        raise ValueError("implementation is wrong\nmore")

    with pytest.raises(UnsupportedError, match=r"^implementation is wrong$"):
        accelerators.made(refuse, "gru_jax pallas", TINY, "train")
    with pytest.raises(ValueError, match="more"):
        accelerators.made(refuse, "gru_jax", TINY, "train")


def test_what_was_not_compiled_is_a_dash():
    entry = {"launches": 12, "temporary_bytes": 1e6, "compile_seconds": 1, "kernels": []}
    modes = {"shape": TINY._asdict(), "train": {"peer": entry}, "forward": {}}
    chips = {"H100": {"rl": modes}, "A100": {"rl": modes | {"train": {}, "forward": {"x": entry}}}}
    tables = chip_report.tables({"chips": chips})
    assert "| peer | 2.0 (12) / – |" in tables["launches on H100"]
    assert "| x | – / 2.0 (12) |" in tables["launches on A100"]
    assert "| peer | 1.0 (1.0) | – |" in tables["needs"]
    assert tables["kernels"].count("\n") == 1


def test_errors_of_kernels_are_shown():
    times = {"median_ms": 1.0}
    modes = {
        "shape": TINY._asdict(),
        "largest_errors": {"gru_jax pallas": 0.0004},
        "train": {"gru_jax pallas": times},
        "forward": {"gru_jax pallas": times, "peer": times},
    }
    tables = chip_report.tables({"chips": {}, "device": {"kind": "X", "workloads": {"rl": modes}}})
    assert "| X: train / forward, ms | rl |" in tables["times"]
    assert "| peer | – / 1.0 |" in tables["times"]
    assert "| gru_jax pallas | 4.0e-04 |" in tables["errors"]
    assert "peer" not in tables["errors"]
