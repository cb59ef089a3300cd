"""The settings of a run, and the presets."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from experiments.harness.cells import Name
from experiments.harness.devices import ParallelOptions, ParallelRun
from experiments.harness.settings import (
    DISTINCT,
    USAGE,
    BatchSize,
    EvaluateEvery,
    Interval,
    LearningRate,
    Rate,
    Seeds,
    Size,
    Steps,
    Use,
)

Dataset = Literal["jsb", "nottingham"]
LONGEST_OPENING = 64
PIECES = 77  # of the test part of the chorales, which has the fewest


@dataclass(frozen=True)
class Config:
    """Cells of equal size that predict the next frame of a piano roll."""

    preset: Literal["default", "full", "tunes", "tunes-full"] = "default"
    """Where the other settings' defaults come from."""
    datasets: Annotated[tuple[Dataset, ...], DISTINCT] = ("jsb",)
    """Bach's chorales, or British and American folk tunes."""
    cells: Annotated[tuple[Name, ...], DISTINCT] = ("rnn", "lstm", "gru")
    hidden_size: Size = 46
    """Of the GRU; the others get the size with the nearest number of parameters."""
    input_dropout: Rate = 0.1
    """Rate on the notes that the cell reads."""
    output_dropout: Rate = 0.1
    """Rate on the states that the head reads."""
    weight_dropout: Rate = 0.1
    """Rate on the recurrent weights (Merity et al. 2018, "weight-dropped")."""
    batch_size: BatchSize = 16
    """Pieces in an update."""
    steps: Steps = 800
    learning_rate: LearningRate = 5e-3
    evaluate_every: EvaluateEvery = 100
    seeds: Seeds = 3
    use: Use = None
    prompt: Annotated[Path | None, USAGE] = None
    """A MIDI file to continue, best in C, instead of a piece of the test part."""
    piece: Annotated[int, Interval(f"[0, {PIECES - 1}]"), USAGE] = 0
    """Which piece of the test part to continue."""
    opening: Annotated[int, Interval(f"[1, {LONGEST_OPENING}]"), USAGE] = 16
    """Frames of it that are given: a chorale has one in a beat, a tune two."""
    length: Annotated[int, Interval("[1, 10000]"), USAGE] = 48
    """Frames that the model writes."""
    voices: Annotated[int, Interval("[0, 88]"), USAGE] = 4
    """Notes in each of these frames; with 0 every note is drawn by itself."""
    temperature: Annotated[float, Interval("[0, 1000]"), USAGE] = 0.8
    """0 takes the most probable notes, 1 draws them by the model's own odds."""
    sample_seed: Annotated[int, Interval("[0, 4294967295]"), USAGE] = 0
    """Another one draws another continuation."""
    run: ParallelOptions = field(default_factory=ParallelRun)


PRESETS = {
    "default": Config(),
    "full": Config(
        preset="full",
        hidden_size=200,
        input_dropout=0.2,
        output_dropout=0.4,
        weight_dropout=0.3,
        steps=1500,
        learning_rate=3e-3,
    ),
    "tunes": Config(
        preset="tunes",
        datasets=("nottingham",),
        input_dropout=0.0,
        weight_dropout=0.0,
        steps=3000,
        learning_rate=8e-3,
        evaluate_every=250,
    ),
    "tunes-full": Config(
        preset="tunes-full",
        datasets=("nottingham",),
        cells=("gru", "lstm"),
        hidden_size=600,
        output_dropout=0.6,
        weight_dropout=0.5,
        steps=8000,
        learning_rate=3e-3,
        evaluate_every=250,
        seeds=1,
    ),
}
