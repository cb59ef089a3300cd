"""An average of the parameters along a run, which generalises better than the last of them."""

from typing import Any, NamedTuple

import jax
import optax


class Averaged(NamedTuple):
    """Parameters, and their exponential moving average."""

    params: Any
    average: Any


def averaged(optimiser: optax.GradientTransformation, decay: float) -> optax.GradientTransformation:
    """Optimises `Averaged` parameters: the average follows, whatever its gradient (Polyak 1992).

    After each update `average ← decay · average + (1 − decay) · params`.

    Args:
      optimiser: of the parameters alone.
      decay: in [0, 1); with 0 the average is the parameters.
    """

    def init(both: Averaged) -> Any:
        return optimiser.init(both.params)

    def update(gradients: Averaged, state: Any, both: Averaged | None = None) -> Any:
        assert both is not None
        updates, state = optimiser.update(gradients.params, state, both.params)
        target = optax.apply_updates(both.params, updates)
        shift = jax.tree.map(lambda new, old: (1 - decay) * (new - old), target, both.average)
        return Averaged(updates, shift), state

    return optax.GradientTransformation(init, update)
