"""python -m experiments.music."""

from experiments.harness.command_line import launch
from experiments.music import PRESETS, main

if __name__ == "__main__":
    launch(main, PRESETS)
