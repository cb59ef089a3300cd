"""Is a sentence happy? A bidirectional GRU over words, and the words that it decided by."""

from experiments.sentiment.config import PRESETS, Config
from experiments.sentiment.run import Result, main, summary

__all__ = ["PRESETS", "Config", "Result", "main", "summary"]
