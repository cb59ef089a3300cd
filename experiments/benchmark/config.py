"""The workloads, the settings of a run, and the presets."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from experiments.benchmark.timing import Mode, Shape
from experiments.harness.settings import DISTINCT, Interval, Output, OutputOptions

Workload = Literal["rl", "mid", "one", "big", "long"]
WORKLOADS: dict[Workload, Shape] = {
    "rl": Shape(128, 64, 64, 128),
    "mid": Shape(256, 32, 128, 256),
    "one": Shape(1000, 1, 64, 256),
    "big": Shape(128, 64, 512, 512),
    "long": Shape(8192, 4, 64, 64),
}
MODES: tuple[Mode, ...] = ("train", "forward")


@dataclass(frozen=True)
class Config:
    """What is timed."""

    preset: Literal[
        "default",
        "quick",
        "tuning",
        "models",
        "derivatives",
        "streaming",
        "compile",
        "devices",
        "accelerators",
        "pods",
    ] = "default"
    """The defaults of everything else: "default" is the published benchmark, "quick" a glance."""
    compare: Literal[
        "libraries",
        "tuning",
        "models",
        "derivatives",
        "streaming",
        "compile",
        "devices",
        "accelerators",
        "pods",
    ] = "libraries"
    """The libraries; ours without each item of its tuning for XLA on CPU; gradients mapped over
    many models; derivatives of all kinds; single steps; the time to compile a gradient; updates
    on two CPU devices and in two processes; programs for GPUs and TPUs; or training on many TPU
    chips."""
    workloads: Annotated[tuple[Workload, ...], DISTINCT] = tuple(WORKLOADS)
    rounds: Annotated[int, Interval("[1, 10000]")] = 20
    """How often each implementation runs."""
    cores: Annotated[int, Interval("[1, 4096]")] = 2
    """The process is pinned to this many cores; "gru_jax devices" has a CPU device for each."""
    tables: bool = True
    """Also how the time grows with T, B and H, what memory training takes, and bfloat16."""
    run: OutputOptions = field(default_factory=Output)


PRESETS = {
    "default": Config(),
    "quick": Config(preset="quick", workloads=("rl", "one"), rounds=5, tables=False),
    "tuning": Config(preset="tuning", compare="tuning", tables=False),
    "models": Config(preset="models", compare="models", tables=False),
    "derivatives": Config(preset="derivatives", compare="derivatives", tables=False),
    "streaming": Config(preset="streaming", compare="streaming", tables=False),
    "compile": Config(preset="compile", compare="compile", rounds=5, tables=False),
    "devices": Config(
        preset="devices", compare="devices", workloads=("rl", "mid", "big", "long"), tables=False
    ),
    "accelerators": Config(
        preset="accelerators",
        compare="accelerators",
        workloads=("rl", "one", "big"),
        tables=False,
    ),
    "pods": Config(preset="pods", compare="pods", tables=False),
}
