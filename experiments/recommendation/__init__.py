"""What will a user choose next? GRU4Rec (Hidasi et al. 2016), all items ranked."""

from experiments.recommendation.config import PRESETS, Config
from experiments.recommendation.run import Result, main, summary

__all__ = ["PRESETS", "Config", "Result", "main", "summary"]
