"""How fast is it? Our GRU and every peer, timed in turns in one process."""

from experiments.benchmark.config import PRESETS, Config
from experiments.benchmark.run import main, summary

__all__ = ["PRESETS", "Config", "main", "summary"]
