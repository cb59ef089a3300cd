"""python -m experiments.long_memory."""

from experiments.harness.command_line import launch
from experiments.long_memory import PRESETS, main

if __name__ == "__main__":
    launch(main, PRESETS)
