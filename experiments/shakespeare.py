"""How well does a GRU predict Shakespeare, letter by letter? And what does it write?

python -m experiments.shakespeare                  # 38 plays, about two minutes on two cores
python -m experiments.shakespeare --preset full    # tiny Shakespeare, the recorded run
"""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

import gru_jax
from experiments import datasets, records, text, training
from experiments.dropout import drop

EVALUATION_STREAM = 8192  # characters; long enough for the zero state at its start not to matter


@dataclass(frozen=True)
class Config:
    """A character-level GRU language model of Shakespeare."""

    preset: Literal["default", "full"] = "default"
    """Where the other settings' defaults come from."""
    dataset: Literal["plays", "tiny"] = "plays"
    """38 whole plays, or tiny Shakespeare with nanoGPT's split."""
    layers: int = 1
    hidden_size: int = 384
    embedding_size: int = 64
    batch_size: int = 32
    """Streams read side by side."""
    chunk_length: int = 64
    """Characters per stream and update; gradients stop at a chunk's beginning, states do not."""
    steps: int = 1000
    learning_rate: float = 4e-3
    """At its peak: it rises linearly for a twentieth of the steps, then falls along a cosine."""
    dropout: float = 0.0
    """Rate on the output of every layer, one mask for all steps of a chunk."""
    weight_dropout: float = 0.0
    """Rate on the recurrent weights (Merity et al. 2018, "weight-dropped")."""
    evaluate_every: int = 250
    patience: int | None = None
    """Stop after so many evaluations without improvement."""
    seed: int = 0
    prompt: str = "\n"
    sample_length: int = 1000
    temperature: float = 0.8
    run: Annotated[training.Run, tyro.conf.arg(name="")] = field(default_factory=training.Run)


PRESETS = {
    "default": Config(),
    "full": Config(
        preset="full",
        dataset="tiny",
        hidden_size=768,
        batch_size=64,
        chunk_length=128,
        steps=1500,
        learning_rate=3e-3,
        dropout=0.4,
        weight_dropout=0.3,
        evaluate_every=100,
    ),
}


# nanoGPT's README: a transformer of 10.7 million parameters on a GPU, and one of 0.8 million after
# three minutes on a CPU; nats per character of the same validation text.
PUBLISHED = {"plays": {}, "tiny": {"nanoGPT, GPU": 1.4697, "nanoGPT, CPU": 1.88}}


class Model(NamedTuple):
    """The parameters: tokens to vectors, GRU layers one on top of the other, logits."""

    embedding: jax.Array  # [V, E]
    layers: tuple[gru_jax.GRUParams, ...]
    head: gru_jax.ReadoutParams  # [H, V]


class Result(NamedTuple):
    """What a run found, in nats per character unless said otherwise."""

    validation_loss: float
    baselines: dict[str, float]
    sample: str
    fitted: training.Fitted


def init_model(key: jax.Array, config: Config, vocabulary_size: int) -> Model:
    """Draws the parameters."""
    embedding_key, head_key, *layer_keys = jax.random.split(key, 2 + config.layers)
    sizes = [config.embedding_size] + [config.hidden_size] * config.layers
    return Model(
        jax.random.normal(embedding_key, (vocabulary_size, config.embedding_size)),
        tuple(map(gru_jax.init_gru, layer_keys, sizes[:-1], sizes[1:])),
        gru_jax.init_readout(head_key, config.hidden_size, vocabulary_size),
    )


def zero_states(model: Model, batch_size: int) -> tuple[jax.Array, ...]:
    """The states before the first character, `[B, H]` per layer."""
    return tuple(gru_jax.zero_state(layer, (batch_size,)) for layer in model.layers)


def forward(
    model: Model, hs: Any, tokens: jax.Array, config: Config, key: jax.Array | None = None
) -> tuple[Any, jax.Array]:
    """Logits `[T, B, V]` for the characters after `tokens [T, B]`; with a key, with dropout."""
    xs = model.embedding[tokens]
    last = []
    keys = jax.random.split(key, (len(model.layers), 2)) if key is not None else None
    for i, (layer, h) in enumerate(zip(model.layers, hs, strict=True)):
        if keys is not None:
            w_h = drop(keys[i, 0], layer.w_h, config.weight_dropout)
            layer = dataclasses.replace(layer, w_h=w_h)
        h, xs = gru_jax.gru_unroll(layer, h, xs)
        last.append(h)
        if keys is not None:
            xs = xs * drop(keys[i, 1], jnp.ones_like(xs[:1]), config.dropout)
    return tuple(last), gru_jax.readout(model.head, xs)


def step(model: Model, hs: Any, token: jax.Array) -> tuple[Any, jax.Array]:
    """One character, for `gru_jax.generate`: the new states, and logits `[..., V]`."""
    x = model.embedding[token]
    new = []
    for layer, h in zip(model.layers, hs, strict=True):
        x = gru_jax.gru_step(layer, h, x)
        new.append(x)
    return tuple(new), gru_jax.readout(model.head, x)


def evaluate(model: Model, tokens: np.ndarray, config: Config) -> jax.Array:
    """Mean loss over a whole text, read in parallel streams, each from a zero state."""
    streams = math.ceil(len(tokens) / EVALUATION_STREAM)
    chunks = math.ceil((len(tokens) - 1) / streams / config.chunk_length)
    count = streams * chunks * config.chunk_length

    # [chunks, T, streams]; what is missing at the end counts for nothing
    def arrange(a: np.ndarray) -> np.ndarray:
        a = np.pad(a, (0, count - len(a)))
        return a.reshape(streams, chunks, -1).transpose(1, 2, 0)

    inputs, targets = arrange(tokens[:-1]), arrange(tokens[1:])
    real = arrange(np.ones(len(tokens) - 1, bool))

    def body(hs: Any, chunk: Any) -> Any:
        inputs, targets, real = chunk
        hs, logits = forward(model, hs, inputs, config)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        return hs, jnp.sum(jnp.where(real, losses, 0))

    _, sums = jax.lax.scan(body, zero_states(model, streams), (inputs, targets, real))
    return jnp.sum(sums) / (len(tokens) - 1)


def sample(key: jax.Array, model: Model, config: Config, symbols: str) -> jax.Array:
    """Tokens `[sample_length, 1]` with which the model goes on from the prompt."""
    prompt = text.encode(config.prompt, symbols)[:, None]
    generate = jax.jit(gru_jax.generate, static_argnames=("step", "length", "temperature"))
    tokens: jax.Array = generate(
        key,
        step,
        model,
        zero_states(model, 1),
        prompt,
        config.sample_length,
        temperature=config.temperature,
    )[1]
    return tokens


def write(key: jax.Array, model: Model, config: Config, symbols: str) -> str:
    """The prompt, and what the model makes of it."""
    tokens = np.asarray(sample(key, model, config, symbols))[:, 0]
    return config.prompt + "".join(symbols[token] for token in tokens)


def main(config: Config) -> Result:
    """Trains, evaluates beside the baselines, writes a text, a record and a plot."""
    surroundings = records.surroundings()
    load = {"plays": datasets.shakespeare, "tiny": datasets.tiny_shakespeare}[config.dataset]
    whole = load()
    symbols = "".join(sorted(set(whole.train) | set(whole.validation)))
    train, validation = (text.encode(part, symbols) for part in (whole.train, whole.validation))
    baselines = text.ngram_baselines(train, validation, len(symbols))

    def loss(model: Model, hs: Any, batch: text.Batch, key: jax.Array) -> tuple[jax.Array, Any]:
        hs = jax.tree.map(lambda h: jnp.where(batch.is_first, 0, h), hs)
        hs, logits = forward(model, hs, batch.tokens[:-1], config, key)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.tokens[1:])
        return losses.mean(), hs

    init_key, train_key, write_key = jax.random.split(jax.random.key(config.seed), 3)
    model = init_model(init_key, config, len(symbols))
    # refuses a prompt or a temperature now rather than after training
    jax.eval_shape(lambda key, model: sample(key, model, config, symbols), write_key, model)
    name = f"shakespeare-{config.preset}"
    fitted = training.fit(
        loss,
        model,
        zero_states(model, config.batch_size),
        lambda step: text.batch_at(
            step, train, config.chunk_length, config.batch_size, config.seed
        ),
        lambda model: evaluate(model, validation, config),
        key=train_key,
        optimiser=training.adam(config.learning_rate, config.steps, b2=0.99),
        steps=config.steps,
        evaluate_every=config.evaluate_every,
        patience=config.patience,
        items_per_step=config.batch_size * config.chunk_length,
        unit="characters",
        folder=config.run.output / f"{name}.checkpoints",
        resume=config.run.resume,
        settings=records.settings_of(config),
    )
    written = write(write_key, fitted.params, config, symbols)
    validation_loss = float(fitted.loss)
    results = {
        "validation_loss": validation_loss,
        "validation_bits_per_character": validation_loss / math.log(2),
        "baselines": baselines,
        "published": PUBLISHED[config.dataset],
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(model)),
        "sample": written,
    }
    records.write_record(config.run.output / f"{name}.json", config, surroundings, fitted, results)
    others = baselines | PUBLISHED[config.dataset]
    records.plot_losses(
        config.run.output / f"{name}.png", name, fitted, others, "nats per character"
    )
    print(written, end="\n\n")
    for label, value in {"validation": validation_loss, **others}.items():
        print(f"{label:>12}: {value:.4f} nats, {value / math.log(2):.4f} bits per character")
    print(f"record and plot: {config.run.output / name}.json and .png")
    return Result(validation_loss, baselines, written, fitted)


if __name__ == "__main__":
    training.launch(main, PRESETS)
