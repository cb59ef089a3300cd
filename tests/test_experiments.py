"""What holds for every experiment: it is listed with its question and its commands."""

import subprocess
import sys
from pathlib import Path

from experiments.__main__ import listing

FOLDER = Path(__file__).resolve().parents[1] / "experiments"


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
