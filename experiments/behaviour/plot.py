"""The figure: held-out likelihoods, and the phase portrait of a two-unit GRU."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import gru_jax
from experiments.behaviour.data import EVENTS, NAMES, Sessions
from experiments.behaviour.model import Model, name_of
from experiments.harness.figures import saved_figure

COLOURS = ("C3", "C1", "C0", "C2")  # of the events


class Portrait(NamedTuple):
    """How the state of a two-unit GRU moves."""

    grid: np.ndarray  # [G, G, 2], states
    probability: np.ndarray  # [G, G], of arm 1
    flow: np.ndarray  # [EVENTS, G, G, 2], the change of the state by an event
    states: np.ndarray  # [M, 2], those of held-out sessions


def portrait(model: Model, xs: np.ndarray, points: int = 13) -> Portrait:
    """The flow over the states that the sessions `[T, S, EVENTS]` visit."""
    _, hs = gru_jax.gru_unroll(model.gru, None, xs)
    states = np.asarray(hs).reshape(-1, 2)
    sides = np.linspace(states.min(axis=0), states.max(axis=0), points).T
    grid = jnp.asarray(np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1))
    events = jnp.broadcast_to(jnp.eye(EVENTS)[:, None, None], (EVENTS, points, points, EVENTS))
    before = jnp.broadcast_to(grid, (EVENTS, *grid.shape))
    flow = gru_jax.gru_step(model.gru, before, events) - before
    probability = jax.nn.sigmoid(gru_jax.readout(model.head, grid)[..., 0])
    return Portrait(*map(np.asarray, (grid, probability, flow, states)))


class Shown(NamedTuple):
    """The GRU of two units of one subject."""

    model: Model
    logits: np.ndarray  # [T, S], on the subject's held-out sessions
    sessions: Sessions


def plot(
    path: Path,
    losses: Mapping[str, Sequence[float]],
    units: tuple[int, ...],
    shown: Shown | None,
) -> None:
    """Draws the figure to a PNG.

    Args:
      path: of the PNG.
      losses: held-out nats per trial of every subject, by model.
      units: of the GRUs among them.
      shown: whose portrait is drawn; None where no GRU has two units.
    """
    with saved_figure(path, 15, 7.2 if shown else 3.6) as figure:
        rows = figure.subplots(2 if shown else 1, 4, squeeze=False)
        _likelihoods(rows[0][0], losses, units)
        if shown is None:
            for axes in rows[0][1:]:
                axes.set_axis_off()
            return
        learner, logits, xs = shown.sessions.logits, shown.logits, shown.sessions.xs
        limit = 1.05 * float(max(np.abs(learner).max(), np.abs(logits).max()))
        _changes(rows[0][1], "the learner", learner, xs, limit)
        _changes(rows[0][2], "its GRU of two units", logits, xs, limit)
        axes = rows[0][3]
        axes.plot(learner.ravel(), logits.ravel(), "k.", markersize=1, alpha=0.4)
        axes.plot([-limit, limit], [-limit, limit], "C7:")
        axes.set(title="log-odds of arm 1", xlabel="of the learner", ylabel="of its GRU")
        found = portrait(shown.model, xs)
        for axes, name, flow in zip(rows[1], NAMES, found.flow, strict=True):
            _flow(axes, found, flow)
            axes.set(title=name, xlabel="$h_1$", ylabel="$h_2$")


def _likelihoods(axes: Any, losses: Mapping[str, Sequence[float]], units: tuple[int, ...]) -> None:
    """Nats per trial above the generating model's, mean and standard error over the subjects."""
    ceiling = np.array(losses["generating model"])
    names = [name_of(n) for n in units]
    excess = [losses[name] - ceiling for name in names]
    errors = [each.std() / np.sqrt(len(each)) for each in excess]
    axes.errorbar(range(len(units)), [e.mean() for e in excess], errors, fmt="ko-", label="GRU")
    others = [name for name in losses if name not in (*names, "generating model")]
    for i, name in enumerate(others):
        level = (losses[name] - ceiling).mean()
        axes.axhline(level, color=f"C{i}", linestyle=":", label=name)
    axes.set_xticks(range(len(units)), map(str, units))
    axes.set(xlabel="units", ylabel="nats per trial above the generating model", title="held out")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)


def _changes(axes: Any, title: str, logits: np.ndarray, xs: np.ndarray, limit: float) -> None:
    """The change of the log-odds by what happened, over the log-odds before."""
    events = xs[1:].argmax(axis=-1)
    for event, (name, colour) in enumerate(zip(NAMES, COLOURS, strict=True)):
        here = events == event
        before, after = logits[:-1][here], logits[1:][here]
        axes.plot(before, after - before, ".", color=colour, markersize=2, label=name)
    axes.axhline(0, color="C7", linewidth=0.8)
    axes.set(xlim=(-limit, limit), title=title, xlabel="log-odds of arm 1", ylabel="its change")
    axes.legend(frameon=False, fontsize=8, markerscale=4)


def _flow(axes: Any, found: Portrait, flow: np.ndarray) -> None:
    x, y = found.grid[..., 0], found.grid[..., 1]
    axes.contourf(x, y, found.probability, levels=20, cmap="RdBu", vmin=0, vmax=1, alpha=0.5)
    axes.contour(x, y, found.probability, levels=[0.5], colors="k", linewidths=0.8)
    axes.plot(*found.states.T, "k.", markersize=1, alpha=0.25)
    axes.quiver(x, y, flow[..., 0], flow[..., 1], angles="xy", width=0.004)
