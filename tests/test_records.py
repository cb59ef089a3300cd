"""Records and figures are written whole, and say what they were measured on."""

import json
import math
from pathlib import Path

import jax
import pytest

from experiments.harness import processor, records
from experiments.harness.figures import plot_losses, saved_figure
from experiments.harness.files import write_json

HISTORY = [
    {"step": step, "training_loss": [2.0 / step, 1.0], "validation_loss": [2.5 / step, 1.5]}
    for step in (1, 2, 3)
]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    path.write_text("old")

    def write_text(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_text", write_text)
    with pytest.raises(OSError, match="No space left"):
        write_json(path, {})
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]
    assert path.read_text() == "old"


def test_json_has_null_for_what_is_not_finite(tmp_path):
    value = {"a": [math.nan, (1.5, math.inf)], "b": {"c": -math.inf}, "d": [None, True, 3, "x"]}
    write_json(tmp_path / "a.json", value)
    expected = {"a": [None, [1.5, None]], "b": {"c": None}, "d": [None, True, 3, "x"]}
    assert json.loads((tmp_path / "a.json").read_text()) == expected


def test_a_curve_with_a_gap_is_drawn(tmp_path):
    history = [*HISTORY, {"step": 4, "training_loss": [1.0, None], "validation_loss": [1.0, None]}]
    plot_losses(tmp_path / "run.png", "run", history, "loss", baselines={"chance": 1.0})
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")


def test_a_failed_drawing_leaves_no_figure(tmp_path):
    with pytest.raises(ZeroDivisionError), saved_figure(tmp_path / "a.png", 3, 2):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_the_environment_names_versions_and_the_processor():
    environment = records.environment()
    assert environment["jax"] == jax.__version__
    assert set(environment) >= {
        "date",
        "machine",
        "processor",
        "instruction_sets",
        "commit",
        "tree",
    }
    assert all(environment.values())


INTEL = """processor : 0
model name : Intel(R) Xeon(R) Platinum
flags : fpu sse4_2 amx_tile avx512f fma avx2 avx avx512_bf16 amx_bf16
processor : 1
model name : another
flags : avx
"""
ARM = "processor : 0\nBogoMIPS : 243.75\nFeatures : fp asimd sve bf16\n"
MAC = """machdep.cpu.brand_string: Intel(R) Core(TM) i9
machdep.cpu.features: FPU SSE4.2 AVX1.0 FMA
machdep.cpu.leaf7_features: AVX2 BMI1
"""


@pytest.mark.parametrize(
    ("description", "model", "sets"),
    [
        (
            INTEL,
            "Intel(R) Xeon(R) Platinum",
            "amx_bf16, amx_tile, avx, avx2, avx512_bf16, avx512f, fma, sse4_2",
        ),
        (ARM, "unknown", "asimd, bf16, sve"),
        (MAC, "Intel(R) Core(TM) i9", "avx, avx2, fma, sse4_2"),
        ("machdep.cpu.brand_string: Apple M2\n", "Apple M2", "unknown"),
        ("", "unknown", "unknown"),
    ],
)
def test_the_processor_is_read_from_what_the_system_says(monkeypatch, description, model, sets):
    monkeypatch.setattr(processor, "_description", lambda: description)
    assert processor.processor() == {"processor": model, "instruction_sets": sets}


def test_the_spread_over_seeds():
    assert records.spread([0.1, 0.3], 2) == "0.20 ± 0.10"
    assert records.spread([0.1, 0.3], 1, scale=100) == "20.0 ± 10.0"
    assert records.spread([0.25], 1, scale=100) == "25.0"  # one seed does not deviate
