"""What does a million steps cost, and how far back must a gradient reach?"""

from experiments.long_sequences.config import PRESETS, Config
from experiments.long_sequences.run import Result, main, summary

__all__ = ["PRESETS", "Config", "Result", "main", "summary"]
