"""Trains the recommender, and ranks all items for every user, as the baselines do.

Leave-one-out: each user's last item is for testing, the one before for validation, and neither is
ever trained on. In testing the history goes on to the validation item. All items are ranked but
those the user has had, as S³-Rec's code does; the record also has the ranks among all items.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import gru_jax
from experiments.harness import records, training
from experiments.harness.layouts import Layout
from experiments.harness.models import opened, params_of
from experiments.harness.runs import OpenRun, begun
from experiments.harness.settings import SettingError
from experiments.recommendation import data, plot
from experiments.recommendation.config import Config
from experiments.recommendation.data import Cases, Pairs, cases_of, pairs_of
from experiments.recommendation.model import Model, init_model, logits_of, loss_of, states_of
from experiments.recommendation.ranking import (
    Ranks,
    baselines,
    metrics_of,
    ndcg_at,
    popularity,
    ranks_of,
)

SHOWN = 4  # users whose recommendations are printed
RECOMMENDED = 10  # items, with --use

# Zhou et al. 2020 (S³-Rec), the table in the README of their code: all items ranked.
PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
    "ml100k": {},
    "beauty": {
        "PopRec": {"HR@10": 0.0152, "NDCG@10": 0.0068},
        "GRU4Rec": {"HR@10": 0.0283, "NDCG@10": 0.0137},
        "SASRec": {"HR@10": 0.0605, "NDCG@10": 0.0318},
    },
}


class Result(NamedTuple):
    """What a run found on the test part."""

    ranks: dict[str, Ranks]  # by model; [S, N] of the GRU, [N] of the baselines
    metrics: dict[str, dict[str, dict[str, float]]]  # by policy and model
    fitted: training.Fitted


def gru_ranks(model: Model, cases: Cases) -> Ranks:
    """The ranks that the model gives to what users chose."""
    return ranks_of(lambda h: logits_of(model, h), states_of(model, cases), cases)


def show(model: Model, cases: Cases, titles: list[str]) -> None:
    """Prints what the model recommends to some users."""
    scores = np.array(logits_of(model, states_of(model, cases)[:SHOWN]))
    plot.show(scores, cases, titles)


def train(
    run: OpenRun, pairs: Pairs, validation: Cases, items: int, *, baseline: float
) -> training.Fitted:
    """Trains all seeds, and keeps of each the parameters that are best in validation."""
    config: Config = run.config
    init_key, train_key = jax.random.split(jax.random.key(0))
    init = jax.jit(jax.vmap(lambda key: init_model(config, key, items)))
    return training.fit(
        training.TrainingConfig(
            steps=config.steps,
            evaluate_every=config.evaluate_every,
            optimiser=training.adam(config.learning_rate, config.steps),
            items_per_step=config.batch_size * config.chunk_length * config.seeds,
            unit="items",
            folder=run.checkpoints,
            baseline=baseline,
        ),
        jax.random.split(train_key, config.seeds),
        init(jax.random.split(init_key, config.seeds)),
        loss=partial(loss_of, config),
        batch_at=lambda step: data.batch_at(step, pairs, config.batch_size, config.chunk_length),
        evaluate=lambda model: 1 - ndcg_at(10, gru_ranks(model, validation).unseen),
        carry=jnp.zeros((config.seeds, config.batch_size, config.hidden_size)),
        layout=Layout(run.mesh, batch=1, carry=1),
    )


def main(config: Config) -> Result | list[str]:
    """Trains, ranks all items for every user; writes a model, a record and a figure.

    With `config.use`, recommends for a user's items, and nothing else.
    """
    if config.use is not None:
        return use(config)
    with begun(config, lambda: data.files(config.dataset)) as run:
        choices = data.load(config.dataset)
        pairs = pairs_of(choices.histories)
        validation, test = (cases_of(choices.histories, held_out) for held_out in (2, 1))
        levels = {
            name: float(ndcg_at(10, found.unseen))
            for name, found in baselines(choices.items, pairs, validation).items()
        }
        baseline = 1 - levels["popularity"]
        fitted = train(run, pairs, validation, choices.items, baseline=baseline)
        titles = choices.titles or [str(1 + item) for item in range(choices.items)]
        run.save_model(training.best_seed(fitted), titles=titles)
        found = jax.jit(jax.vmap(lambda model: gru_ranks(model, test)))(fitted.params)
        ranks = jax.device_get({"GRU": found} | baselines(choices.items, pairs, test))
        if choices.titles is not None:
            show(training.seed_of(fitted, 0), test, choices.titles)
        metrics = {
            policy: {name: metrics_of(getattr(found, policy)) for name, found in ranks.items()}
            for policy in Ranks._fields
        }
        counts = popularity(choices.items, pairs)[test.targets]
        published = PUBLISHED[config.dataset]
        run.warnings.extend(fitted.warnings)
        report(run, metrics, plot.Shown(fitted.history, ranks, counts, levels, published))
    return Result(ranks, metrics, fitted)


def use(config: Config) -> list[str]:
    """Recommends for a user's items with the model of a finished run."""
    config, saved = opened(config)
    titles = saved.knows["titles"]
    model = params_of(saved, lambda: init_model(config, jax.random.key(0), len(titles)))
    chosen = jnp.array(items_of(config.items, titles), jnp.int32)
    h, _ = gru_jax.gru_unroll(model.gru, gru_jax.zero_state(model.gru), model.embedding[chosen])
    scores = np.array(logits_of(model, h))
    scores[chosen] = -np.inf
    found = [titles[item] for item in np.argsort(-scores)[:RECOMMENDED]]
    print(f"after: {'; '.join(titles[item] for item in chosen)}")
    print(*found, sep="\n")
    return found


def items_of(names: Sequence[str], titles: Sequence[str]) -> list[int]:
    """The numbers of items that are named by their titles, or by a part of them.

    Raises:
      SettingError: no item, or several, have such a title; or none is named.
    """
    if not names:
        raise SettingError("--items is empty, but must name what was chosen, in order.")
    found = []
    for name in names:
        exact = [i for i, title in enumerate(titles) if title.lower() == name.lower()]
        matches = exact or [i for i, title in enumerate(titles) if name.lower() in title.lower()]
        if len(matches) != 1:
            some = "; ".join(titles[i] for i in matches[:5]) or "none"
            raise SettingError(
                f"--items has {name!r}, but must match one title; it matches {some}."
            )
        found += matches
    return found


def report(run: OpenRun, metrics: dict[str, Any], shown: plot.Shown) -> None:
    """Writes the record and the figure, and prints the tables."""
    results = {
        "metrics": metrics,
        "metrics_of_seeds": [metrics_of(ranks) for ranks in shown.ranks["GRU"].unseen],
        "published": shown.published,
        "baselines_ndcg_at_10_validation": shown.validation,
    }
    record = run.write_record(results, history=shown.history)
    plot.plot(run.record.with_suffix(".png"), run.record.stem, shown)
    tables = {f"test, {policy} items ranked": table for policy, table in metrics.items()}
    for title, table in (tables | {"published, unseen items ranked": shown.published}).items():
        print(f"\n{title}" * bool(table))
        for name, row in table.items():
            print(f"{name:>28}: {'  '.join(f'{key} {value:.4f}' for key, value in row.items())}")
    run.conclude("HR@10 {GRU, HR@10}, NDCG@10 {GRU, NDCG@10}".format_map(summary(record)))


def summary(record: Mapping[str, Any]) -> dict[str, str]:
    """The numbers of a record that README.md shows: hits, and their discounted gain."""
    numbers, results = {}, record["results"]
    for metric in ("HR@10", "NDCG@10"):
        seeds = [found[metric] for found in results["metrics_of_seeds"]]
        numbers[f"GRU, {metric}"] = records.spread(seeds, 4)
        for name, found in results["metrics"]["unseen"].items():
            if name != "GRU":
                numbers[f"{name}, {metric}"] = f"{found[metric]:.4f}"
    return numbers
