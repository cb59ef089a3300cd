"""Trains on one and on two CPU devices, in a process that `test_spread.py` starts.

The number of devices is fixed when JAX starts. It prints by case and number of devices what was
learned, and of each state that would be written to a checkpoint whether it was spread.
"""

import json
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from experiments import behaviour, long_sequences, memory_rl
from experiments.behaviour.data import draw_learners, parts, simulate
from experiments.behaviour.fitting import fit
from experiments.behaviour.model import gru
from experiments.harness import checkpoints
from experiments.harness.devices import ParallelRun
from experiments.harness.runs import OpenRun
from experiments.harness.tokens import Vocabulary
from experiments.long_sequences.data import Text, sequence_of
from experiments.long_sequences.model import WAYS


def fit_behaviour(run):
    """Six fits: the loss of each in validation, and the parameters of the best of each subject."""
    rng = np.random.default_rng(0)
    sessions = simulate(rng, draw_learners(rng, 3), 5, 12)
    fits = fit(run, "gru", gru(2), *parts(sessions, (3, 2)))
    return fits.validation, fits.params


def learn_memory_rl(run):
    """The returns of two seeds while they learn, and of what they have learned."""
    found = memory_rl.run.learn(run, "repeat-2", "gru")
    return [entry["returns"] for entry in found["history"]], found["returns"]


def train_long_sequences(run):
    """The parameters after an epoch through two sequences, whose segments overlap."""
    tokens = np.random.default_rng(0).integers(0, 4, 50).astype(np.int32)
    text = Text(sequence_of(tokens[:33]), sequence_of(tokens[33:]), Vocabulary(tuple("abcd")))
    return long_sequences.run.train(run, text, 4, 1e-2, way=WAYS["truncated, overlap"]).params


CASES = {
    "behaviour": (
        fit_behaviour,
        partial(behaviour.Config, subjects=3, restarts=2, evaluations=1, evaluate_every=10),
    ),
    "memory_rl": (
        learn_memory_rl,
        partial(
            memory_rl.Config,
            hidden_size=5,
            seeds=2,
            environments=4,
            steps=60,
            evaluations=2,
            evaluate_every=1,
            episodes=6,
        ),
    ),
    "long_sequences": (
        train_long_sequences,
        partial(
            long_sequences.Config,
            batch_size=2,
            length=16,
            hidden_size=5,
            embedding_size=3,
            segments=(4,),
            epochs=1,
        ),
    ),
}


def main(folder):
    jax.config.update("jax_num_cpu_devices", 2)
    meshes = {"one": None, "two": Mesh(np.array(jax.devices()), ("batch",))}
    found = {}
    for case, (train, config_with) in CASES.items():
        found[case] = {}
        for name, mesh in meshes.items():
            spread = []

            def save(manager, state, history, spread=spread):
                spread.append(any(not leaf.is_fully_replicated for leaf in jax.tree.leaves(state)))

            checkpoints.save = save
            config = config_with(run=ParallelRun(folder / name))
            leaves = jax.tree.leaves(train(OpenRun(config, {}, mesh)))
            learned = np.concatenate([np.ravel(leaf) for leaf in leaves]).tolist()
            found[case][name] = {"learned": learned, "spread": spread}
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
