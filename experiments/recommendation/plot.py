"""Recommendations in words; and the metrics of the GRU and its baselines as a figure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.harness.figures import saved_figure
from experiments.recommendation.data import NONE, Cases
from experiments.recommendation.ranking import Ranks

LAST = 50  # the longest list of recommendations that is drawn


def show(scores: np.ndarray, cases: Cases, titles: Sequence[str]) -> None:
    """Prints the five unseen items of the highest scores `[U, V]` for each of the first U users."""
    for user, row in enumerate(scores):
        seen = cases.seen[user][cases.seen[user] != NONE]
        row[seen] = -np.inf
        best = np.argsort(-row)[:5]
        print(f"\n{' saw':>15} {'; '.join(titles[item] for item in seen[-4:])}")
        print(f"{'is recommended':>15} {'; '.join(titles[item] for item in best)}")
        rank = np.sum(~(row < row[cases.targets[user]]))  # as `ranks_of` has it
        print(f"{'saw':>15} {titles[cases.targets[user]]} (rank {rank})")


def groups_of(counts: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Five groups of nearly equal size, from the rarest: the group of each, and their bounds."""
    edges = np.unique(np.quantile(counts, [0.2, 0.4, 0.6, 0.8], method="lower"))
    group = np.searchsorted(edges[edges < counts.max()], counts)
    members = [counts[group == number] for number in range(group.max() + 1)]
    bounds = [np.unique([part.min(), part.max()]) for part in members]
    return group, ["–".join(map(str, bound)) for bound in bounds]


class Shown(NamedTuple):
    """What is drawn of a run."""

    history: Sequence[Mapping[str, Any]]  # of training, whose validation loss is 1 − NDCG@10
    ranks: Mapping[str, Ranks]  # on the test part, by model
    counts: np.ndarray  # [N], how often each test user's next item was chosen in training
    validation: Mapping[str, float]  # NDCG@10 of the baselines on the validation part
    published: Mapping[str, Mapping[str, float]]  # metrics by model


def plot(path: Path, title: str, shown: Shown) -> None:
    """Draws learning, hits by the length of the list, and hits by item popularity, to a PNG."""
    colours = {name: f"C{number}" for number, name in enumerate(shown.ranks)}
    with saved_figure(path, 13, 4.2) as figure:
        figure.suptitle(title)
        learning, lists, popularity = figure.subplots(1, 3)
        steps = [entry["step"] for entry in shown.history]
        curves = 1 - np.array([entry["validation_loss"] for entry in shown.history], float)
        learning.plot(steps, curves.reshape(len(steps), -1), color="C0")
        for name, level in shown.validation.items():
            learning.axhline(level, color=colours[name], linestyle=":")
        learning.set(xlabel="updates", ylabel="NDCG@10, validation", ylim=(0, None))

        group, bounds = groups_of(shown.counts)
        width = 0.8 / len(shown.ranks)
        for number, (name, found) in enumerate(shown.ranks.items()):
            places = np.atleast_2d(found.unseen)
            rates = [np.mean(places <= k) for k in range(1, LAST + 1)]
            lists.plot(range(1, LAST + 1), rates, color=colours[name], label=name)
            hits = [np.mean(places[:, group == part] <= 10) for part in range(len(bounds))]
            x = np.arange(len(bounds)) + (number - (len(shown.ranks) - 1) / 2) * width
            popularity.bar(x, hits, width, color=colours[name], label=name)
        for marker, (name, metrics) in zip("sDo^", shown.published.items(), strict=False):
            label = f"{name}, published"
            lists.plot(10, metrics["HR@10"], marker, color="k", markersize=4, label=label)
        lists.set(xlabel="k: items recommended", ylabel="HR@k, test", ylim=(0, None))
        popularity.set_xticks(range(len(bounds)), bounds)
        popularity.set(
            xlabel="how often the right item was chosen in training", ylabel="HR@10, test"
        )
        for axes in (learning, lists, popularity):
            axes.grid(alpha=0.3)
        lists.legend(frameon=False, fontsize=8)
