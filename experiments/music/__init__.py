"""Do gates help to predict music, and how does a GRU continue a chorale?

model.py is the whole model; run.py trains every cell on every data set, and continuation.py lets
the GRU go on from a piece's first bars.
"""

from experiments.music.config import PRESETS, Config
from experiments.music.run import Result, main, summary

__all__ = ["PRESETS", "Config", "Result", "main", "summary"]
