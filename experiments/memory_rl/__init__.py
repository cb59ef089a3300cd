"""What does a memory gain, and what does a wrong reset cost? Recurrent PPO in JAX."""

from experiments.memory_rl.config import PRESETS, Config
from experiments.memory_rl.run import Result, main, summary

__all__ = ["PRESETS", "Config", "Result", "main", "summary"]
