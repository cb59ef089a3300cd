"""python -m experiments.memory_rl."""

from experiments.harness.command_line import launch
from experiments.memory_rl import PRESETS, main

if __name__ == "__main__":
    launch(main, PRESETS)
