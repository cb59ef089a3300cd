"""What holds for every experiment: it is listed, and the pages say what its record says."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.__main__ import listing

FOLDER = Path(__file__).resolve().parents[1] / "experiments"
APPLICATIONS = sorted(
    path.stem
    for path in (FOLDER / "results").glob("*.json")
    if not path.stem.startswith(("benchmark", "shakespeare"))
)


def test_every_script_is_listed():
    paths = FOLDER.glob("*.py")
    scripts = {path.stem for path in paths if "launch(main, " in path.read_text(encoding="utf-8")}
    assert {"benchmark", "shakespeare", "sentiment", "long_memory"} <= scripts
    entries = listing().split("\n\n")
    assert len(entries) == len(scripts)
    for entry in entries:
        question, *commands = entry.splitlines()
        assert "? " in question
        (named,) = {command.split()[2] for command in commands}
        assert named.removeprefix("experiments.") in scripts


def test_the_command():
    command = [sys.executable, "-m", "experiments"]
    done = subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True)
    assert done.returncode == 0
    assert listing() in done.stdout


def spread(values, digits, scale=1.0):
    values = scale * np.array(values)
    return f"{values.mean():.{digits}f} ± {values.std():.{digits}f}"


def sentiment(results):
    yield f"{spread(results['accuracy'], 2, 100)} %"
    yield f"{100 * results['accuracy_together']:.2f} %"
    for accuracy in results["baselines"].values():
        yield f"{100 * accuracy:.2f} %"


def translation(results):
    for scores in (results["scores"]["beam of 5"], results["scores"]["greedy"]):
        yield f"{100 * scores['sequence error']:.2f} %"
        yield f"{100 * scores['token error']:.2f} %"


def verses(results):
    yield f"{results['scores']['beam of 5']['BLEU']:.2f}"
    yield f"{results['scores']['greedy']['BLEU']:.2f}"
    for scores in results["baselines"].values():
        yield f"{scores['BLEU']:.2f}"


def speech(results):
    yield f"{spread(results['isolated']['accuracy'], 2, 100)} %"
    for way in ("greedy", "prefix beam"):
        yield f"{spread([found['rate'] for found in results['connected'][way]], 2, 100)} %"
    yield f"{100 * results['isolated']['baselines']['logistic regression']:.2f} %"


def recommendation(results):
    for metric in ("HR@10", "NDCG@10"):
        yield spread([found[metric] for found in results["metrics_of_seeds"]], 4)
        for name, found in results["metrics"]["unseen"].items():
            if name != "GRU":
                yield f"{found[metric]:.4f}"


def long_memory(results):
    yield spread(results["adding-600"]["cells"]["gru"]["test_loss"], 4)
    for task in results.values():
        for found in task["cells"].values():
            yield spread(found["test_loss"], 4)


NUMBERS = {
    "sentiment-default": sentiment,
    "sentiment-full": sentiment,
    "translation-full": translation,
    "translation-verses": verses,
    "speech-full": speech,
    "recommendation-full": recommendation,
    "long_memory-full": long_memory,
}


@pytest.mark.parametrize("name", APPLICATIONS)
def test_the_pages_say_what_the_record_says(name):
    """Its numbers stand in its row here, the first of them on the front page, too."""
    record = json.loads((FOLDER / "results" / f"{name}.json").read_text(encoding="utf-8"))
    numbers = list(NUMBERS[name](record["results"]))
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    (row,) = [line for line in page.splitlines() if f"(results/{name}.json)" in line]
    told = page if name == "long_memory-full" else row  # which has a table of its own
    for number in numbers:
        assert number in told, number
    assert record["surroundings"]["date"][:10] in row
    seconds = sum(map(float, re.findall(r"'cpu_seconds': ([0-9.]+)}\]", str(record))))
    assert f"{round(seconds)} s" in row
    front = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    assert numbers[0] in front
