"""How well scores rank the items that users chose next, among all items; two baselines."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.recommendation.data import NONE, Cases, Pairs


class Ranks(NamedTuple):
    """The place of each user's next item, from 1."""

    unseen: Any  # [N] among the items that the user has not had
    all: Any  # [N] among all items


def ranks_of(score: Callable[[Any], jax.Array], queries: Any, cases: Cases) -> Ranks:
    """Ranks each case's target by its score. Items of equal score, or of none (NaN), go first.

    Args:
      score: the scores `[V]` of all items, from one query.
      queries: what it needs to know of each user, arrays `[N, ...]`.
      cases: the users.
    """

    def rank(case: Any) -> Ranks:
        query, seen, target = case
        scores = score(query)
        ahead = ~(scores < scores[target])  # with the target itself
        ahead_and_seen = ahead.at[seen].get(mode="fill", fill_value=False)
        return Ranks(jnp.sum(ahead) - jnp.sum(ahead_and_seen), jnp.sum(ahead))

    ranks: Ranks = jax.lax.map(rank, (queries, cases.seen, cases.targets), batch_size=512)
    return ranks


def ndcg_at(k: int, ranks: Any) -> jax.Array:
    """Normalised discounted cumulative gain of one right item: 1 / log₂(1 + rank), 0 beyond k."""
    return jnp.mean(jnp.where(ranks <= k, 1 / jnp.log2(1.0 + ranks), 0))


def metrics_of(ranks: Any) -> dict[str, float]:
    """Hit rates, NDCG@10 and the mean reciprocal rank, over all users (and seeds)."""
    rates = {f"HR@{k}": float(np.mean(ranks <= k)) for k in (5, 10, 20)}
    return rates | {"NDCG@10": float(ndcg_at(10, ranks)), "MRR": float(np.mean(1 / ranks))}


def popularity(items: int, pairs: Pairs) -> np.ndarray:
    """How often each item was chosen in training, `[V]`."""
    firsts = pairs.inputs[np.cumsum(pairs.lengths) - pairs.lengths]
    return np.bincount(np.concatenate([firsts, pairs.targets]), minlength=items)


def followers(items: int, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """What came after each item in training, and how often: `[V, K]` each, filled with `NONE`."""
    codes, counts = np.unique(
        pairs.inputs.astype(np.int64) * items + pairs.targets, return_counts=True
    )
    before, after = np.divmod(codes, items)
    place = np.arange(len(codes)) - np.searchsorted(before, before)
    found = np.full((items, place.max() + 1), NONE)
    times = np.zeros(found.shape, np.float32)
    found[before, place], times[before, place] = after, counts
    return found, times


def baselines(items: int, pairs: Pairs, cases: Cases) -> dict[str, Ranks]:
    """Ranks by counts of the training part: of items, and of what came right after the last one.

    Items that came after it equally often, mostly never, go by their popularity.
    """
    counts = popularity(items, pairs)
    found, times = map(jnp.asarray, followers(items, pairs))
    shares = jnp.asarray(counts / (1 + counts.max()), jnp.float32)  # below 1

    def score(item: jax.Array) -> jax.Array:
        return shares.at[found[item]].add(times[item], mode="drop")

    last_items = cases.inputs.reshape(-1)[cases.last]
    return {
        "what followed the last item": ranks_of(score, last_items, cases),
        "popularity": ranks_of(lambda _: shares, last_items, cases),
    }
