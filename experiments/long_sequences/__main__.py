"""python -m experiments.long_sequences."""

from experiments.harness.command_line import launch
from experiments.long_sequences import PRESETS, main

if __name__ == "__main__":
    launch(main, PRESETS)
