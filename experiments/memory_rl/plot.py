"""The figure: learning curves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.figures import saved_figure

COLOURS = {"gru": "k", "shifted": "C3", "feed-forward": "C0"}


def plot(path: Path, tasks: Mapping[str, Any], names: Mapping[str, str], steps: int) -> None:
    """Draws mean and standard deviation over the seeds of the returns in training, to a PNG.

    Args:
      path: of the PNG.
      tasks: what the run found of each.
      names: of the policies.
      steps: of the environments in one update of one seed.
    """
    with saved_figure(path, 5 * len(tasks), 4) as figure:
        for axes, (task, found) in zip(
            np.atleast_1d(figure.subplots(1, len(tasks))), tasks.items(), strict=True
        ):
            for policy, run in found["policies"].items():
                curves = curves_of(run)
                taken = [steps * entry["step"] for entry in run["history"]]
                mean, spread = curves.mean(axis=1), curves.std(axis=1)
                axes.plot(taken, mean, color=COLOURS[policy], label=names[policy])
                limits = mean - spread, mean + spread
                axes.fill_between(taken, *limits, color=COLOURS[policy], alpha=0.2, linewidth=0)
            exact = found["attained"] == found["optimum"]
            label = "optimum" if exact else "bound"
            axes.axhline(found["optimum"], color="C2", linestyle="--", label=label)
            if not exact:
                level, label = found["attained"], "filter and controller"
                axes.axhline(level, color="C2", linestyle="-.", label=label)
            if found["memoryless"] is not None:
                level = found["memoryless"]
                axes.axhline(level, color="C7", linestyle=":", label="optimum without memory")
            right = [curves_of(run) for name, run in found["policies"].items() if name != "shifted"]
            if right:  # a policy of a mistake may have returns of any size
                low, top = min(curves.min() for curves in right), found["optimum"]
                axes.set_ylim(low - 0.3 * (top - low), top + 0.1 * (top - low))
            axes.set(title=task, xlabel="steps of the environments", ylabel="return of an episode")
            axes.grid(alpha=0.3)
            axes.legend(frameon=False, fontsize=8)


def curves_of(run: Mapping[str, Any]) -> np.ma.MaskedArray[Any, Any]:
    """Returns by evaluation and seed, masked where no episode ended."""
    curves = np.array([entry["returns"] for entry in run["history"]], float)
    return np.ma.masked_invalid(curves)
