"""The README tells the truth: its code runs, its files exist, its numbers are the records'."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECORDED = ["shakespeare-default", "shakespeare-full"]


@pytest.mark.usefixtures("jax_defaults")
def test_the_example_learns():
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    names = {}
    exec(code, names)
    variance = float(names["jnp"].var(names["targets"]))
    assert float(names["value"]) < 0.02 * variance


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


def test_every_record_is_shown():
    assert {path.stem for path in (ROOT / "experiments" / "results").glob("*.json")} == set(
        RECORDED
    )
