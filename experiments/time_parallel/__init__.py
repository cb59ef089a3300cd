"""When can a GRU be evaluated in parallel over time?

newton.py follows the residual iteration by iteration, and run.py asks how many iterations
`gru_unroll_parallel` needs, of which weights; speed.py and launches.py ask what that costs.
"""

from experiments.time_parallel.config import PRESETS, Config
from experiments.time_parallel.report import summary
from experiments.time_parallel.run import Result, main

__all__ = ["PRESETS", "Config", "Result", "main", "summary"]
