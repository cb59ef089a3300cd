"""python -m experiments.speech."""

from experiments.harness.command_line import launch
from experiments.speech import PRESETS, main

if __name__ == "__main__":
    launch(main, PRESETS)
