"""How few units predict a subject's choices? Tiny GRUs of simulated bandits."""

from experiments.behaviour.config import PRESETS, Config
from experiments.behaviour.run import Result, main, summary

__all__ = ["PRESETS", "Config", "Result", "main", "summary"]
