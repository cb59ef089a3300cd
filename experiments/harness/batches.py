"""Which rows an update learns from: a function of its number, so that a run can be resumed.

Of several processes each makes its own rows of the batch.
"""

from collections.abc import Sequence

import jax
import numpy as np

GROUP = 10
"""So many updates in a row have sequences of one length: `training.fit` runs them in one call."""


def similar_rows_at(
    step: int, lengths: np.ndarray, limits: Sequence[int], size: int
) -> tuple[np.ndarray, int]:
    """`size` rows whose lengths lie between two neighbouring limits, and the upper one.

    Each limit is drawn as often as its rows are many, for `GROUP` updates at a time; then as few
    steps as can be are spent on padding. Rows longer than the last limit count as of that length.
    """
    bucket_of = np.searchsorted(limits[:-1], lengths)
    rng = np.random.default_rng([len(limits), step // GROUP])
    bucket = bucket_of[rng.integers(len(lengths))]
    (members,) = np.nonzero(bucket_of == bucket)
    rows = np.random.default_rng([1, step]).choice(members, size, replace=len(members) < size)
    return rows, limits[bucket]


def own_rows(rows: np.ndarray) -> np.ndarray:
    """This process's share of what the rows of a batch are made from, along the first axis.

    All processes draw the same `rows`, so that their number does not change the batch.
    """
    count = len(rows) // jax.process_count()
    first = count * jax.process_index()
    return rows[first : first + count]
