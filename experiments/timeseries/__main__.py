"""python -m experiments.timeseries."""

from experiments.harness.command_line import launch
from experiments.timeseries import PRESETS, main

if __name__ == "__main__":
    launch(main, PRESETS)
