"""The README tells the truth: its code runs, its files exist, its numbers are the records'."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.benchmark_report import markdown, markdown_memory, markdown_precision

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.S)
RECORDED = ["shakespeare-default", "shakespeare-full"]


@pytest.mark.usefixtures("jax_defaults")
def test_the_example_learns():
    names = {}
    exec(BLOCKS[0], names)
    variance = float(names["jnp"].var(names["targets"]))
    assert float(names["value"]) < 0.02 * variance


@pytest.mark.parametrize("code", BLOCKS[1:], ids=range(1, len(BLOCKS)))
def test_the_other_code_runs(code, tmp_path):
    """In a process of its own, for one block sets the number of devices."""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_there_are_two_set_up_commands():
    commands = re.findall(r"```sh\n(.*?)```", README, flags=re.S)
    assert [len(command.strip().splitlines()) for command in commands] == [1, 1]
    assert commands[0].rstrip().endswith("-m experiments.shakespeare")
    assert "-m pytest" in commands[1]


def test_the_file_map_is_complete():
    named = set(re.findall(r"^\| `(gru_jax/\w+\.py)`", README, flags=re.M))
    exist = {f"gru_jax/{path.name}" for path in (ROOT / "gru_jax").glob("*.py")}
    assert named == exist - {"gru_jax/__init__.py"}


def test_links_lead_somewhere():
    for page in (ROOT / "README.md", ROOT / "experiments" / "README.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_numbers(name):
    """Both pages show what the record says, and the plot lies beside it."""
    path = ROOT / "experiments" / "results" / f"{name}.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    results, last = record["results"], record["history"][-1]
    numbers = [results["validation_loss"], *results["baselines"].values()]
    for page in (README, (ROOT / "experiments" / "README.md").read_text(encoding="utf-8")):
        (row,) = [line for line in page.splitlines() if f"results/{path.name})" in line]
        for number in numbers:
            assert f"{number:.4f}" in row
        assert f"{results['validation_bits_per_character']:.3f}" in row
        assert f"{round(last['seconds'])} s" in row
        assert record["surroundings"]["date"][:10] in row
    assert path.with_suffix(".png").exists()


def test_the_benchmark_is_the_records():
    path = ROOT / "experiments" / "results" / "benchmark-default.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    results = record["results"]
    assert markdown(results["workloads"]) in README
    assert markdown_memory(results["memory"]) in README
    assert markdown_precision(results["precision"]) in README
    assert "experiments/results/benchmark-default.png" in README
    for page in (README, (ROOT / "experiments" / "README.md").read_text(encoding="utf-8")):
        (line,) = [line for line in page.splitlines() if f"results/{path.name})" in line]
        assert record["surroundings"]["date"][:10] in line


def test_every_record_is_shown():
    page = (ROOT / "experiments" / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "experiments" / "results").iterdir():
        assert f"(results/{path.name})" in page, path.name
