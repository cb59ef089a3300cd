"""The moving average of the parameters: against its definition, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from common import assert_close

from experiments.harness.averaging import Averaged, averaged

pytestmark = pytest.mark.usefixtures("jax_defaults")


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_the_average_follows_the_parameters_which_it_does_not_change(decay):
    first = {"w": jnp.array([1.0, -2.0]), "b": jnp.array(0.5)}
    optimiser = optax.adam(0.1)
    both = averaged(optimiser, decay)
    pair, pair_state = Averaged(first, first), both.init(Averaged(first, first))
    alone, alone_state = first, optimiser.init(first)
    expected = first
    rng = np.random.default_rng(0)
    for _ in range(5):
        gradients = jax.tree.map(
            lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), first
        )
        ignored = jax.tree.map(jnp.ones_like, first)
        updates, pair_state = both.update(Averaged(gradients, ignored), pair_state, pair)
        pair = optax.apply_updates(pair, updates)
        updates, alone_state = optimiser.update(gradients, alone_state, alone)
        alone = optax.apply_updates(alone, updates)
        expected = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, expected, alone)
        for found, wanted in ((pair.params, alone), (pair.average, expected)):
            jax.tree.map(lambda f, w: assert_close(f, w, rtol=1e-6), found, wanted)
