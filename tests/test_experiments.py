"""What holds for every experiment: it is listed, runs, and its page says what its record says."""

import dataclasses
import importlib
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.__main__ import rows
from experiments.harness.settings import RUNS, settings_of

FOLDER = Path(__file__).resolve().parents[1] / "experiments"
RESULTS = FOLDER / "results"
ROWS = {row.name: row for row in rows()}
PAGES = {
    name: (FOLDER / name / "README.md").read_text(encoding="utf-8")
    for name, row in ROWS.items()
    if row.page.endswith("README.md")
}
RECORDS = [(name, path.stem) for name in PAGES for path in sorted(RESULTS.glob(f"{name}-*.json"))]
every_experiment = pytest.mark.parametrize("name", ROWS)
every_page = pytest.mark.parametrize("name", PAGES)


def test_the_table_has_every_package_that_can_be_run():
    runnable = {path.parent.name for path in FOLDER.glob("*/__main__.py")}
    assert set(ROWS) == runnable
    assert {"shakespeare", "benchmark", "long_memory"} <= runnable


def test_the_list_of_experiments_is_printed():
    command = [sys.executable, "-m", "experiments"]
    done = subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True)
    assert done.returncode == 0
    for row in ROWS.values():
        assert f"{row.question}\n{row.command}\n{row.time}\n" in done.stdout


@every_experiment
def test_its_row_asks_a_question_and_names_its_command(name):
    row = ROWS[name]
    assert row.page in (f"{name}/README.md", f"{name}/")
    assert row.question.endswith("?")
    assert row.command == f"python -m experiments.{name}"


@every_experiment
def test_its_package_has_config_presets_main_and_summary(name):
    package = importlib.import_module(f"experiments.{name}")
    assert package.PRESETS["default"] == package.Config()
    for preset, config in package.PRESETS.items():
        assert isinstance(config, package.Config)
        assert config.preset == preset
        assert config.run.output == RUNS
        assert json.dumps(settings_of(config))
    with pytest.raises(dataclasses.FrozenInstanceError):
        package.Config().preset = "other"
    assert callable(package.main)
    assert callable(package.summary)


@every_experiment
def test_its_command_explains_every_setting(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module(f"experiments.{name}", run_name="__main__")
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    config = importlib.import_module(f"experiments.{name}").Config
    for field in dataclasses.fields(config):
        option = field.name.replace("_", "-") if field.name != "run" else "output"
        assert f"--{option}" in printed


@every_page
def test_its_page_names_its_command_and_presets(name):
    page = PAGES[name]
    assert ROWS[name].question in page or ROWS[name].question.rstrip("?") in page
    assert f"\n{ROWS[name].command}" in page
    presets = importlib.import_module(f"experiments.{name}").PRESETS
    assert set(re.findall(r"--preset ([\w-]+)", page)) == set(presets) - {"default"}


@every_page
def test_links_of_its_page_lead_somewhere(name):
    for target in re.findall(r"\]\((?!https:)([^)#]+)\)", PAGES[name]):
        assert (FOLDER / name / target).exists(), target


@pytest.mark.parametrize("path", sorted(RESULTS.iterdir()), ids=lambda path: path.name)
def test_every_result_is_linked_from_its_page(path):
    name = path.name.split("-")[0]
    assert name in ROWS
    page = PAGES.get(name, (FOLDER / "README.md").read_text(encoding="utf-8"))
    link = f"(../results/{path.name})" if name in PAGES else f"(results/{path.name})"
    assert link in page


@pytest.mark.parametrize(("name", "stem"), RECORDS)
def test_its_page_says_what_its_record_says(name, stem):
    """The numbers, the date and the time; where a page has several records, in its row."""
    record = json.loads((RESULTS / f"{stem}.json").read_text(encoding="utf-8"))
    page = PAGES[name]
    (row,) = [line for line in page.splitlines() if f"(../results/{stem}.json)" in line]
    numbers = importlib.import_module(f"experiments.{name}").summary(record)
    assert numbers
    several = sum(other == name for other, _ in RECORDS) > 1
    for label, number in numbers.items():
        assert number in (row if several and "\n" not in number else page), (label, number)
    assert record["environment"]["date"][:10] in row
    last = re.findall(r"'cpu_seconds': ([0-9.]+)}\]", str(record))  # of each training run
    assert not last or f"{round(sum(map(float, last)))} s" in row


@every_page
def test_numbers_of_its_row_are_those_of_its_page(name):
    """In whichever form: .0283 and 0.0283 are the same."""
    (line,) = [
        line
        for line in (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith(f"| [{name}]")
    ]
    for number in re.findall(r"\d*\.\d+", line.split("|")[5]):
        assert number in PAGES[name], number
    seconds = re.findall(r"\d+ s of CPU", ROWS[name].time)
    assert all(each in PAGES[name] for each in seconds)
