"""Why gates? A tanh RNN, an LSTM and a GRU of equal size where a long memory is rewarded."""

from experiments.long_memory.config import PRESETS, Config
from experiments.long_memory.run import Result, main, summary

__all__ = ["PRESETS", "Config", "Result", "main", "summary"]
