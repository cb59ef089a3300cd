"""python -m experiments.sentiment."""

from experiments.harness.command_line import launch
from experiments.sentiment import PRESETS, main

if __name__ == "__main__":
    launch(main, PRESETS)
