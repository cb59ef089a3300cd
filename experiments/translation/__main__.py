"""python -m experiments.translation."""

from experiments.harness.command_line import launch
from experiments.translation import PRESETS, main

if __name__ == "__main__":
    launch(main, PRESETS)
