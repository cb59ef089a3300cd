"""A fast path for the LSTM, written as a newcomer would: its state is a pytree of two arrays.

With u = x W_x + h W_h + b, the tangents of c' = f ∘ c + i ∘ g and h' = o ∘ tanh(c') obey

    ċ' = f ∘ ċ + C ∘ u̇,   ḣ' = D ∘ ċ' + C_o ∘ u̇_o,   u̇ = ḣ W_h + (ẋ W_x + x Ẇ_x + h Ẇ_h + ḃ)
"""

import jax
import jax.numpy as jnp

from gru_jax import LSTMState
from gru_jax._ops import biased
from gru_jax._scan import select
from gru_jax.recurrence.interface import Cell, per_gate


def project(products, params, xs, dtype):
    return products.gates(xs, params.w_x, 4, dtype)


def step(products, weights, options):
    def step(state, projection):
        params, (h, c) = weights.params, state
        u = jnp.concatenate(per_gate(projection, 4), axis=-1)
        u = biased(u + products.state(h, params.w_h, h.dtype), params.b)
        i, f, g, o = jnp.split(u, 4, axis=-1)
        i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
        new = f * c + i * g
        return LSTMState(o * jnp.tanh(new), new), (i, f, g, o)

    return step


def prepared(products, params):
    return products.prepared(params.w_h)


def slots(products, params):
    w_x, w_h = (None if w is None else products.slots(w, 4) for w in (params.w_x, params.w_h))
    return w_x, w_h, params.b


def coefficients(products, at, along, options):
    params, (h, c), (i, f, g, o) = at.weights.params, at.before, at.gates
    (w_x, w_h, b), xs_dot = along
    new = jnp.tanh(f * c + i * g)
    to_c = jnp.stack([g * i * (1 - i), c * f * (1 - f), i * (1 - g * g)], axis=-2)
    to_h, to_o = o * (1 - new * new), new * o * (1 - o)
    terms = []
    if xs_dot is not None:
        terms.append(project(products, params, xs_dot, h.dtype))
    terms += [
        products.slotted(x, w, h.dtype)
        for x, w in ((at.inputs.xs, w_x), (h, w_h))
        if jax.tree.leaves(w)
    ]
    zeros = jnp.zeros((*h.shape[:-1], 4, h.shape[-1]), h.dtype)
    u_dot = sum((jnp.stack(per_gate(term, 4), axis=-2) for term in terms), zeros)
    u_dot = biased(u_dot.reshape(*h.shape[:-1], -1), b).reshape(u_dot.shape)
    kept = jnp.zeros(h.shape, bool)
    if at.inputs.mask is not None:
        kept = select(~at.inputs.mask, jnp.ones_like(kept), kept)
    return (f, to_c, to_h, to_o, kept), u_dot


def linear_step(products, prepared, constants):
    def step(state_dot, coefficients):
        (f, to_c, to_h, to_o, kept), u_dot = coefficients
        h_dot, c_dot = state_dot
        u_dot = u_dot + products.tangent(h_dot, prepared, h_dot.dtype).reshape(u_dot.shape)
        new = f * c_dot + jnp.sum(to_c * u_dot[..., :3, :], axis=-2)
        new_h = to_h * new + to_o * u_dot[..., 3, :]
        return LSTMState(jnp.where(kept, h_dot, new_h), jnp.where(kept, c_dot, new))

    return step


LSTM = Cell(project, step, prepared, slots, coefficients, linear_step)
