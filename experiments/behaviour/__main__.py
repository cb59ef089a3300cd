"""python -m experiments.behaviour."""

from experiments.behaviour import PRESETS, main
from experiments.harness.command_line import launch

if __name__ == "__main__":
    launch(main, PRESETS)
