"""The cells in NumPy float64, written from their equations: one row and one step at a time.

It shares no code with the library, and no JAX runs in it. Every step is `(params, h, x) -> h'` for
one row, h `[H]` and x `[I]`; the LSTM's state is a tuple (h, c). Biases may be None.
"""

import numpy as np


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def gru_step(params, h, x, scale=1.0):
    """`scale` [H] multiplies the state where it enters the products."""
    hidden = h.shape[0]
    z_columns, r_columns, n_columns = (slice(i * hidden, (i + 1) * hidden) for i in range(3))
    b = params.b if params.b is not None else np.zeros(3 * hidden)
    b_hn = params.b_hn if params.b_hn is not None else np.zeros(hidden)
    w_x, w_h, scaled = params.w_x, params.w_h, h * scale
    z = sigmoid(x @ w_x[:, z_columns] + scaled @ w_h[:, z_columns] + b[z_columns])
    r = sigmoid(x @ w_x[:, r_columns] + scaled @ w_h[:, r_columns] + b[r_columns])
    if params.reset == "before":
        n = np.tanh(x @ w_x[:, n_columns] + (r * scaled) @ w_h[:, n_columns] + b[n_columns])
    else:
        u = scaled @ w_h[:, n_columns] + b_hn
        n = np.tanh(x @ w_x[:, n_columns] + b[n_columns] + r * u)
    return (1 - z) * h + z * n


def rnn_step(params, h, x):
    return np.tanh(x @ params.w_x + h @ params.w_h + _bias(params))


def lstm_step(params, state, x):
    h, c = state
    i, f, g, o = np.split(x @ params.w_x + h @ params.w_h + _bias(params), 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def mgu_step(params, h, x):
    hidden, b = h.shape[0], _bias(params)
    f = sigmoid(x @ params.w_x[:, :hidden] + h @ params.w_h[:, :hidden] + b[:hidden])
    n = np.tanh(x @ params.w_x[:, hidden:] + (f * h) @ params.w_h[:, hidden:] + b[hidden:])
    return (1 - f) * h + f * n


def layer_norm_gru_step(params, h, x):
    """norm="apart" as in haste, "together" as in Dreamer."""
    if params.norm == "apart":
        a = _normal(x @ params.w_x, 1e-5) * params.gain + params.b
        u = _normal(h @ params.w_h, 1e-5) * params.gain_h + params.b_h
        (a_z, a_r, a_n), (u_z, u_r, u_n) = np.split(a, 3), np.split(u, 3)
        z, n = sigmoid(a_z + u_z), np.tanh(a_n + sigmoid(a_r + u_r) * u_n)
    else:
        a = _normal(x @ params.w_x + h @ params.w_h, 1e-3) * params.gain + params.b
        a_z, a_r, a_n = np.split(a, 3)
        z, n = sigmoid(a_z), np.tanh(sigmoid(a_r) * a_n)
    return (1 - z) * h + z * n


def min_gru_step(params, h, x):
    a_z, n = np.split(x @ params.w_x + _bias(params), 2)
    z = sigmoid(a_z)
    return (1 - z) * h + z * n


def unroll(
    step,
    params,
    h0,
    xs,
    *,
    mask=None,
    resets=None,
    reset_state=None,
    reverse=False,
    state_scale=None,
    unit_mask=None,
    zoneout=0.0,
):
    """A step over a sequence: h0 [*batch, H], or a tuple of such, and xs [T, *batch, I].

    `reset_state` is like h0, or without its batch axes; None stands for zeros. A unit keeps its old
    value where `unit_mask` [T, *batch, H] is False, and a share `zoneout` of it everywhere.

    Returns:
      `(h_last, hs)`, like h0 and with a leading axis T; hs is zero where masked.
    """
    several = isinstance(h0, tuple)
    h_last = [np.array(part, np.float64) for part in (h0 if several else (h0,))]
    steps, batch = xs.shape[0], xs.shape[1:-1]
    hs = [np.zeros((steps, *part.shape)) for part in h_last]
    fresh = [np.zeros_like(part) for part in h_last]
    if reset_state is not None:
        given = reset_state if several else (reset_state,)
        fresh = [np.broadcast_to(new, old.shape) for new, old in zip(given, h_last, strict=True)]
    for row in np.ndindex(*batch):
        noise = () if state_scale is None else (state_scale[row],)
        for t in reversed(range(steps)) if reverse else range(steps):
            at = (t, *row)
            if mask is not None and not mask[at]:
                continue
            reset = resets is not None and resets[at]
            h = [part[row] for part in (fresh if reset else h_last)]
            new = step(params, tuple(h) if several else h[0], xs[at], *noise)
            for i, part in enumerate(new if several else (new,)):
                part = zoneout * h[i] + (1 - zoneout) * part
                part = part if unit_mask is None else np.where(unit_mask[at], part, h[i])
                h_last[i][row] = hs[i][at] = part
    return (tuple(h_last), tuple(hs)) if several else (h_last[0], hs[0])


def gru_unroll(params, h0, xs, **keywords):
    return unroll(gru_step, params, h0, xs, **keywords)


def _bias(params):
    return np.zeros(params.w_x.shape[1]) if params.b is None else params.b


def _normal(a, epsilon):
    return (a - a.mean()) / np.sqrt(a.var() + epsilon)
