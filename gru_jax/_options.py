"""What stays the same at all steps of a recurrence, besides its weights."""

from typing import Literal, NamedTuple

import jax

Save = Literal["gates", "states", "chunks"]


class Options(NamedTuple):
    """The static options of `gru_unroll`."""

    save: Save
    reverse: bool
    unroll: int


class Constants(NamedTuple):
    """What is the same at all steps besides the weights, `[..., H]` or None."""

    scale: jax.Array | None  # multiplies the state where it enters the products
    reset_state: jax.Array | None  # replaces the state at a reset
