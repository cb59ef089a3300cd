"""A small experiment that is one of several processes, which `test_devices.py` starts.

`python run_processes.py DIES_AT OPTION...`: at that step the process kills itself.
"""

import os
import signal
import sys
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

import gru_jax
from experiments.harness import training
from experiments.harness.batches import own_rows
from experiments.harness.command_line import launch
from experiments.harness.devices import ParallelOptions, ParallelRun
from experiments.harness.layouts import Layout
from experiments.harness.runs import begun
from experiments.harness.settings import BatchSize

STEPS, TIME, SIZE = 30, 6, 5


@dataclass(frozen=True)
class Config:
    preset: str = "default"
    batch_size: BatchSize = 4
    run: ParallelOptions = field(default_factory=ParallelRun)


def loss(params, h, batch, key):
    """A GRU with dropout follows its input; its state goes on from batch to batch."""
    xs, weight = batch
    h, hs = gru_jax.gru_unroll(params, h, xs)
    keep = jax.random.bernoulli(key, 0.9, hs.shape)
    return weight * jnp.mean((jnp.where(keep, hs, 0) - jnp.cos(xs)) ** 2), h


def main(config, dies_at=-1):
    every = np.arange(config.batch_size)

    def rows_of(step, rows):
        xs = np.random.default_rng(step).normal(size=(TIME, config.batch_size, SIZE))
        return xs[:, rows].astype(np.float32), np.float32(1 + step % 2)

    def batch_at(step):
        if step == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return rows_of(step, own_rows(every))

    with begun(config) as run:
        layout = Layout(run.mesh, batch=(1, None))
        params = gru_jax.init_gru(jax.random.key(0), SIZE, SIZE)
        fitted = training.fit(
            training.TrainingConfig(
                steps=STEPS,
                evaluate_every=10,
                optimiser=training.adam(1e-2, STEPS),
                items_per_step=config.batch_size,
                unit="rows",
                folder=run.checkpoints,
                steps_per_call=5,
            ),
            jax.random.key(1),
            params,
            loss=loss,
            batch_at=batch_at,
            evaluate=lambda params: loss(
                params, jnp.zeros((config.batch_size, SIZE)), rows_of(999, every), jax.random.key(0)
            )[0],
            carry=jnp.zeros((config.batch_size, SIZE)),
            layout=layout,
        )
        run.save_model(fitted.params)
        rows = layout.whole(layout.put(every, 0))
        run.write_record({"rows": rows.tolist()}, history=fitted.history)
        run.conclude("done")


if __name__ == "__main__":
    dies_at = int(sys.argv.pop(1))
    launch(lambda config: main(config, dies_at), {"default": Config()})
