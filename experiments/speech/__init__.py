"""Which digits were spoken? A GRU on real recordings: one digit, and strings of them by CTC."""

from experiments.speech.config import PRESETS, Config
from experiments.speech.run import Result, main, summary

__all__ = ["PRESETS", "Config", "Result", "main", "summary"]
