"""python -m experiments.benchmark."""

from experiments.benchmark import PRESETS, main
from experiments.harness.command_line import launch

if __name__ == "__main__":
    launch(main, PRESETS)
