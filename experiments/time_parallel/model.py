"""Character-level language models, untrained and trained: GRUs that have something to remember."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import gru_jax
from experiments.harness import training
from experiments.harness.layouts import Layout
from experiments.harness.runs import OpenRun
from experiments.shakespeare import Config as Shakespeare
from experiments.shakespeare.data import Batch, Tokens, batch_at, streams_of
from experiments.shakespeare.model import Model, evaluate, init_model, loss_of
from experiments.time_parallel.config import Config
from experiments.time_parallel.data import Problem

EVALUATION_STREAM = 1000  # characters


def learn(run: OpenRun, hidden: int, text: Tokens) -> tuple[Model, training.Fitted]:
    """The model of the experiment on Shakespeare with so many units, before and after training."""
    config: Config = run.config
    settings = Shakespeare(
        dataset="tiny",
        hidden_size=hidden,
        embedding_size=hidden,
        batch_size=config.batch_size,
    )
    init_key, train_key = jax.random.split(jax.random.key(0))
    model = init_model(settings, init_key, len(text.vocabulary))
    chunk, batch = settings.chunk_length, settings.batch_size
    streams = streams_of(text.validation, EVALUATION_STREAM, chunk)
    fitted = training.fit(
        training.TrainingConfig(
            steps=config.steps,
            evaluate_every=config.evaluate_every,
            optimiser=training.adam(config.learning_rate, config.steps, b2=0.99),
            items_per_step=batch * chunk,
            unit="characters",
            folder=run.checkpoints / str(hidden),
            baseline=float(np.log(len(text.vocabulary))),
        ),
        train_key,
        model,
        loss=partial(loss_of, settings),
        batch_at=lambda step: batch_at(step, text.train, chunk, batch, 0),
        evaluate=lambda model: evaluate(settings, model, streams),
        carry=gru_jax.zero_state(model.stack, (batch,)),
        layout=Layout(run.mesh, batch=Batch(1, None), carry=0),
    )
    return model, fitted


def reading(model: Model, tokens: Any, steps: int) -> Problem:
    """The model's GRU and what it reads of a text."""
    (params,) = model.stack.layers
    assert isinstance(params, gru_jax.GRUParams)
    return Problem(params, model.embedding[jnp.asarray(tokens[:steps])])
