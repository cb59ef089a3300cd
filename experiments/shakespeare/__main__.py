"""python -m experiments.shakespeare."""

from experiments.harness.command_line import launch
from experiments.shakespeare import PRESETS, main

if __name__ == "__main__":
    launch(main, PRESETS)
