"""The recurrences that are solved: of random weights, and of language models."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

import gru_jax
from experiments.shakespeare import Config as Shakespeare
from experiments.shakespeare.data import Tokens, encoded, files

TEXT = Shakespeare(dataset="tiny")
"""Names the text, which its experiment fetches."""


class Problem(NamedTuple):
    """A GRU and the inputs that it reads from a zero state."""

    params: gru_jax.GRUParams
    xs: jax.Array  # [T, I]

    def first(self, steps: int) -> "Problem":
        """The same, of the first steps."""
        return Problem(self.params, self.xs[:steps])


def text() -> Tokens:
    """Loads the text, in nanoGPT's two parts."""
    return encoded(TEXT)


def hashes() -> dict[str, str]:
    """The sha256 of the file that `text` reads."""
    return files(TEXT)


def random_problem(draw: int, hidden: int, gain: float, steps: int) -> Problem:
    """Normal inputs and `init_gru`'s weights, the recurrent ones multiplied by the gain; I = H."""
    keys = jax.random.split(jax.random.key(draw))
    params = gru_jax.init_gru(keys[0], hidden, hidden)
    params = dataclasses.replace(params, w_h=gain * params.w_h)
    return Problem(params, jax.random.normal(keys[1], (steps, hidden), jnp.float32))
