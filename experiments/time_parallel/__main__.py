"""python -m experiments.time_parallel."""

from experiments.harness.command_line import launch
from experiments.time_parallel import PRESETS, main

if __name__ == "__main__":
    launch(main, PRESETS)
