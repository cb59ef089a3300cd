"""Processes that tests start: their environment, and what they say."""

import os
import re
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
LOGGED = re.compile(r"WARNING: All log messages before absl::|[IW]\d{4} .*cudart_stub")
"""What JAX's plugin for NVIDIA GPUs, where it is installed, logs while it is imported."""


def environment(**changes):
    """On CPU: JAX's plugins for accelerators complain where there is none."""
    return os.environ | {"PYTHONPATH": str(TOP), "JAX_PLATFORMS": "cpu"} | changes


def lines_of(printed):
    """The lines, without those of a plugin."""
    return [line for line in printed.splitlines() if not LOGGED.match(line)]
