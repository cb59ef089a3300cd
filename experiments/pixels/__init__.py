"""Which digit is it, read pixel by pixel? Sequential and permuted MNIST, 784 steps."""

from experiments.pixels.config import PRESETS, Config
from experiments.pixels.run import Result, main, summary

__all__ = ["PRESETS", "Config", "Result", "main", "summary"]
