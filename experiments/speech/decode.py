"""From the outputs of connectionist temporal classification (CTC) to labels.

Of each frame the network gives the probabilities of the K − 1 labels and of the blank, which is
number 0. A path is one choice for every frame; it spells what remains once repetitions are
merged and blanks are taken out (Graves et al. 2006).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

BLANK = 0


def greedy(logits: jax.Array, mask: jax.Array) -> jax.Array:
    """What the most probable path spells.

    Args:
      logits: `[T, ..., K]`.
      mask: bool `[T, ...]`, true in the frames that there are.

    Returns:
      Labels `[..., T]`, with 0 after the last.
    """
    best = jnp.moveaxis(jnp.where(mask, jnp.argmax(logits, axis=-1), BLANK), 0, -1)
    before = jnp.pad(best[..., :-1], [(0, 0)] * (best.ndim - 1) + [(1, 0)])
    labels = jnp.where(best == before, BLANK, best)
    order = jnp.argsort(labels == BLANK, axis=-1, stable=True)  # the blanks last
    return jnp.take_along_axis(labels, order, axis=-1)


class Beam(NamedTuple):
    """Prefixes, each with the summed probability of all the paths that spell it."""

    prefixes: jax.Array  # [W, N], 0 after the last label; -1 all over where there is none
    blank: jax.Array  # [W], log probability of the paths that end in a blank
    label: jax.Array  # [W], of those that end in the prefix's last label


def prefix_beam(logits: jax.Array, mask: jax.Array, width: int, longest: int) -> Beam:
    """Prefix beam search (Graves 2006, section 3.2; in the form of Hannun et al. 2014).

    Paths that spell the same add up, so that this can find a labelling that is the most probable
    without any of its paths being so. With as many prefixes as there can be it is exact.

    Args:
      logits: `[T, K]`.
      mask: bool `[T]`, true in the frames that there are.
      width: W, how many prefixes are kept from frame to frame.
      longest: N, labels that a prefix may have at most.

    Returns:
      The last beam, the most probable first.
    """
    labels = jnp.arange(logits.shape[-1])

    def step(beam: Beam, inputs: tuple[jax.Array, jax.Array]) -> tuple[Beam, None]:
        log_p, real = inputs
        lengths = jnp.sum(beam.prefixes != BLANK, axis=-1)
        last = jnp.max(beam.prefixes * (jnp.arange(longest) == lengths[:, None] - 1), axis=-1)
        both = jnp.logaddexp(beam.blank, beam.label)
        # The prefix stays: by a blank, or by its last label once more.
        stay_blank, stay_label = both + log_p[BLANK], beam.label + log_p[last]
        # It grows by a label; by its last one only after a blank.
        before = jnp.where(labels == last[:, None], beam.blank[:, None], both[:, None])
        possible = (labels != BLANK) & (lengths < longest)[:, None]
        grow = jnp.where(possible, before + log_p, -jnp.inf)
        end = jnp.arange(longest) == lengths[:, None]
        grown = beam.prefixes[:, None] + labels[:, None] * end[:, None]  # [W, K, N]
        # One that grew into another prefix of the beam is that prefix.
        same = jnp.all(grown[:, :, None] == beam.prefixes, axis=-1)  # [W, K, W]
        joined = jax.nn.logsumexp(jnp.where(same, grow[:, :, None], -jnp.inf), axis=(0, 1))
        stay_label = jnp.logaddexp(stay_label, joined)
        grow = jnp.where(jnp.any(same, axis=-1), -jnp.inf, grow).reshape(-1)
        # The most probable of all of them.
        prefixes = jnp.concatenate([beam.prefixes, grown.reshape(-1, longest)])
        blank = jnp.concatenate([stay_blank, jnp.full_like(grow, -jnp.inf)])
        label = jnp.concatenate([stay_label, grow])
        score, chosen = jax.lax.top_k(jnp.logaddexp(blank, label), width)
        prefixes = jnp.where((score > -jnp.inf)[:, None], prefixes[chosen], -1)
        new = Beam(prefixes, blank[chosen], label[chosen])
        return jax.tree.map(lambda new, old: jnp.where(real, new, old), new, beam), None

    first = jnp.arange(width) == 0
    nothing = jnp.full(width, -jnp.inf)
    empty = jnp.where(first[:, None], BLANK, -jnp.ones((width, longest), jnp.int32))
    beam = Beam(empty, jnp.where(first, 0.0, nothing), nothing)
    beam, _ = jax.lax.scan(step, beam, (jax.nn.log_softmax(logits), mask))
    return beam


def words_of(labels: np.ndarray) -> list[str]:
    """Labels `[B, N]` as strings of digits, "3 1 4"; label 1 is the digit 0."""
    return [" ".join(str(label - 1) for label in row if label > BLANK) for row in labels]


def word_error(said: Sequence[str], found: Sequence[str]) -> dict[str, float]:
    """The word error rate, and how many words were said, substituted, deleted and inserted."""
    import jiwer

    output = jiwer.process_words(list(said), list(found))
    return {
        "rate": output.wer,
        "words": output.hits + output.substitutions + output.deletions,
        "substituted": output.substitutions,
        "deleted": output.deletions,
        "inserted": output.insertions,
    }
