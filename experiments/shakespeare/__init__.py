"""How well does a GRU predict Shakespeare, character by character? And what does it write?

model.py is the whole model; run.py trains it, evaluates it and lets it write.
"""

from experiments.shakespeare.config import PRESETS, Config
from experiments.shakespeare.run import Result, main, summary

__all__ = ["PRESETS", "Config", "Result", "main", "summary"]
