"""python -m experiments.pixels."""

from experiments.harness.command_line import launch
from experiments.pixels import PRESETS, main

if __name__ == "__main__":
    launch(main, PRESETS)
