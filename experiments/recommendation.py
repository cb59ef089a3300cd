"""What will a user choose next? GRU4Rec (Hidasi et al. 2016), all items ranked.

python -m experiments.recommendation                  # MovieLens-100K, minutes on two cores
python -m experiments.recommendation --preset full    # Amazon Beauty, the recorded run

The histories of all users stand end to end in the rows of a batch, without padding: the paper's
session-parallel batches. Where one ends and the next begins the state is reset. The items' vectors
are both the inputs and, after a linear map of the state, the classes. The loss is the cross-entropy
over all items, or for many items an estimate of it from a sample that the whole batch shares.

Leave-one-out: each user's last item is for testing, the one before for validation, and neither is
ever trained on. In testing the history goes on to the validation item. All items are ranked but
those the user has had, as S³-Rec's code does; the record also has the ranks among all items.
Every model is measured alike. Whatever shares its score with the right item ranks before it.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import gru_jax
from experiments import (
    recommendation_data,
    recommendation_plot,
    recommendation_ranking,
    records,
    training,
)
from experiments.dropout import drop
from experiments.recommendation_data import Batch, Cases, batch_at, cases_of, pairs_of
from experiments.recommendation_ranking import Ranks, baselines, metrics_of, ndcg_at, ranks_of

SHOWN = 4  # users whose recommendations are printed


@dataclass(frozen=True)
class Config:
    """A recommender."""

    preset: Literal["default", "full"] = "default"
    """Where the other settings' defaults come from."""
    dataset: Literal["ml100k", "beauty"] = "ml100k"
    """MovieLens-100K or Amazon Beauty."""
    embedding_size: int = 64
    hidden_size: int = 64
    dropout: float = 0.5
    """Rate on the items' vectors and on the states, drawn anew at each step."""
    negatives: int = 0
    """Items that the loss's sum over all items is estimated from; 0 takes all."""
    batch_size: int = 64
    """Rows that stand side by side."""
    chunk_length: int = 16
    """Steps to backpropagate through; the states go on from one chunk to the next."""
    steps: int = 1500
    learning_rate: float = 4e-3
    """At its peak: it rises linearly for a twentieth of the steps, then falls along a cosine."""
    evaluate_every: int = 150
    seeds: int = 3
    """Trained side by side by vmap."""
    run: Annotated[training.Run, tyro.conf.arg(name="")] = field(default_factory=training.Run)


PRESETS = {
    "default": Config(),
    "full": Config(
        preset="full",
        dataset="beauty",
        hidden_size=128,
        negatives=1024,
        batch_size=128,
        chunk_length=10,
        steps=2400,
        evaluate_every=200,
    ),
}

# Zhou et al. 2020 (S³-Rec), the table in the README of their code: all items ranked.
PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
    "ml100k": {},
    "beauty": {
        "PopRec": {"HR@10": 0.0152, "NDCG@10": 0.0068},
        "GRU4Rec": {"HR@10": 0.0283, "NDCG@10": 0.0137},
        "SASRec": {"HR@10": 0.0605, "NDCG@10": 0.0318},
    },
}


class Model(NamedTuple):
    """The parameters."""

    embedding: jax.Array  # [V, E]
    gru: gru_jax.GRUParams
    head: gru_jax.ReadoutParams  # [H, E]
    bias: jax.Array  # [V]


class Result(NamedTuple):
    """What a run found on the test part."""

    ranks: dict[str, Ranks]  # by model; [S, N] of the GRU, [N] of the baselines
    metrics: dict[str, dict[str, dict[str, float]]]  # by policy and model
    fitted: training.Fitted


def init_model(key: jax.Array, config: Config, items: int) -> Model:
    """Draws the parameters."""
    embedding_key, gru_key, head_key = jax.random.split(key, 3)
    return Model(
        0.1 * jax.random.normal(embedding_key, (items, config.embedding_size)),
        gru_jax.init_gru(gru_key, config.embedding_size, config.hidden_size),
        gru_jax.init_readout(head_key, config.hidden_size, config.embedding_size),
        jnp.zeros(items),
    )


def logits_of(model: Model, h: jax.Array) -> jax.Array:
    """Logits `[..., V]` of the next item."""
    return gru_jax.readout(model.head, h) @ model.embedding.T + model.bias


def loss_of(
    model: Model, h: jax.Array, batch: Batch, config: Config, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The mean loss in training, and the states that the next chunk goes on from."""
    input_key, state_key, item_key = jax.random.split(key, 3)
    xs = drop(input_key, model.embedding[batch.inputs], config.dropout)
    h, hs = gru_jax.gru_unroll(model.gru, h, xs, resets=batch.is_first)

    hs = gru_jax.readout(model.head, drop(state_key, hs, config.dropout))
    right = jnp.sum(hs * model.embedding[batch.targets], axis=-1) + model.bias[batch.targets]
    if not config.negatives:
        return jnp.mean(jax.nn.logsumexp(hs @ model.embedding.T + model.bias, axis=-1) - right), h
    items = len(model.bias)
    others = jax.random.randint(item_key, (config.negatives,), 0, items)
    logits = hs @ model.embedding[others].T + model.bias[others]
    # Each stands for as many of the items - 1 wrong ones; the right one, if drawn, for none.
    logits += jnp.log((items - 1) / config.negatives)
    logits = jnp.where(others == batch.targets[..., None], -jnp.inf, logits)
    return jnp.mean(jnp.logaddexp(jax.nn.logsumexp(logits, axis=-1), right) - right), h


def states_of(model: Model, cases: Cases) -> jax.Array:
    """The state `[N, H]` after each user's history."""
    h0 = gru_jax.zero_state(model.gru, cases.inputs.shape[1:])
    xs = model.embedding[cases.inputs]
    _, hs = gru_jax.gru_unroll(model.gru, h0, xs, resets=cases.is_first)
    return jnp.take(hs.reshape(-1, hs.shape[-1]), cases.last, axis=0)


def gru_ranks(model: Model, cases: Cases) -> Ranks:
    """The ranks that the model gives to what users chose."""
    return ranks_of(lambda h: logits_of(model, h), states_of(model, cases), cases)


def show(model: Model, cases: Cases, titles: list[str]) -> None:
    """Prints what the model recommends to some users."""
    scores = np.array(logits_of(model, states_of(model, cases)[:SHOWN]))
    recommendation_plot.show(scores, cases, titles)


def main(config: Config) -> Result:
    """Trains, ranks all items for every user beside the baselines; writes a record and a figure."""
    surroundings = records.surroundings()
    load = {"ml100k": recommendation_data.ml100k, "beauty": recommendation_data.beauty}
    data = load[config.dataset]()
    pairs = pairs_of(data.histories)
    validation, test = (cases_of(data.histories, held_out) for held_out in (2, 1))
    init_key, train_key = jax.random.split(jax.random.key(0))
    init = jax.jit(jax.vmap(lambda key: init_model(key, config, data.items)))
    models = init(jax.random.split(init_key, config.seeds))
    fitted = training.fit(
        lambda model, h, batch, key: loss_of(model, h, batch, config, key),
        models,
        jnp.zeros((config.seeds, config.batch_size, config.hidden_size)),
        lambda step: batch_at(step, pairs, config.batch_size, config.chunk_length),
        lambda model: 1 - ndcg_at(10, gru_ranks(model, validation).unseen),
        key=jax.random.split(train_key, config.seeds),
        optimiser=training.adam(config.learning_rate, config.steps),
        steps=config.steps,
        evaluate_every=config.evaluate_every,
        items_per_step=config.batch_size * config.chunk_length * config.seeds,
        unit="items",
        folder=config.run.output / f"recommendation-{config.preset}.checkpoints",
        resume=config.run.resume,
        settings=records.settings_of(config),
    )
    found = jax.jit(jax.vmap(lambda model: gru_ranks(model, test)))(fitted.params)
    ranks = jax.device_get({"GRU": found} | baselines(data.items, pairs, test))
    if data.titles is not None:
        show(jax.tree.map(lambda leaf: leaf[0], fitted.params), test, data.titles)
    metrics = {
        policy: {name: metrics_of(getattr(found, policy)) for name, found in ranks.items()}
        for policy in Ranks._fields
    }
    result = Result(ranks, metrics, fitted)
    levels = {
        name: float(ndcg_at(10, found.unseen))
        for name, found in baselines(data.items, pairs, validation).items()
    }
    counts = recommendation_ranking.popularity(data.items, pairs)[test.targets]
    report(config, surroundings, result, levels, counts)
    return result


def report(
    config: Config, surroundings: Any, result: Result, levels: dict[str, float], counts: np.ndarray
) -> None:
    """Writes the record and the figure, and prints the tables."""
    path = config.run.output / f"recommendation-{config.preset}.json"
    published = PUBLISHED[config.dataset]
    results = {
        "metrics": result.metrics,
        "metrics_of_seeds": [metrics_of(ranks) for ranks in result.ranks["GRU"].unseen],
        "published": published,
        "baselines_ndcg_at_10_validation": levels,
    }
    records.write_record(path, config, surroundings, result.fitted, results)
    recommendation_plot.plot(
        path.with_suffix(".png"), path.stem, result.fitted, result.ranks, counts, levels, published
    )
    tables = {f"test, {policy} items ranked": table for policy, table in result.metrics.items()}
    for title, table in (tables | {"published, unseen items ranked": published}).items():
        print(f"\n{title}" * bool(table))
        for name, row in table.items():
            print(f"{name:>28}: {'  '.join(f'{key} {value:.4f}' for key, value in row.items())}")
    print(f"record and figure: {path} and .png")


if __name__ == "__main__":
    training.launch(main, PRESETS)
