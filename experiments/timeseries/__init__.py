"""Whose utterance is it, and how much electricity will be used tomorrow?"""

from experiments.timeseries.config import PRESETS, Config
from experiments.timeseries.run import Result, main, summary

__all__ = ["PRESETS", "Config", "Result", "main", "summary"]
