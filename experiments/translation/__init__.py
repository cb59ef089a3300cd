"""How is it pronounced, how is it said in Spanish? An encoder, a decoder, and attention."""

from experiments.translation.config import PRESETS, Config
from experiments.translation.run import Result, main, summary

__all__ = ["PRESETS", "Config", "Result", "main", "summary"]
