"""python -m experiments.recommendation."""

from experiments.harness.command_line import launch
from experiments.recommendation import PRESETS, main

if __name__ == "__main__":
    launch(main, PRESETS)
