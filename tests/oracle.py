"""The GRU written out in NumPy float64 from the equations: one loop, one row, one gate at a time.

It shares no code with the library, and no JAX runs in it.
"""

import numpy as np


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def gru_step(params, h, x):
    """One step for one row: h [H], x [I]; `params` has NumPy arrays."""
    hidden = h.shape[0]
    z_columns, r_columns, n_columns = (slice(i * hidden, (i + 1) * hidden) for i in range(3))
    b = params.b if params.b is not None else np.zeros(3 * hidden)
    b_hn = params.b_hn if params.b_hn is not None else np.zeros(hidden)
    w_x, w_h = params.w_x, params.w_h
    z = sigmoid(x @ w_x[:, z_columns] + h @ w_h[:, z_columns] + b[z_columns])
    r = sigmoid(x @ w_x[:, r_columns] + h @ w_h[:, r_columns] + b[r_columns])
    if params.reset == "before":
        n = np.tanh(x @ w_x[:, n_columns] + (r * h) @ w_h[:, n_columns] + b[n_columns])
    else:
        n = np.tanh(x @ w_x[:, n_columns] + b[n_columns] + r * (h @ w_h[:, n_columns] + b_hn))
    return (1 - z) * h + z * n


def gru_unroll(params, h0, xs, *, mask=None, resets=None, reverse=False):
    """The whole sequence: h0 [*batch, H], xs [T, *batch, I]."""
    steps, batch = xs.shape[0], xs.shape[1:-1]
    h_last = np.array(h0)
    hs = np.zeros((steps, *batch, h0.shape[-1]))
    for row in np.ndindex(*batch):
        for t in reversed(range(steps)) if reverse else range(steps):
            if mask is not None and not mask[(t, *row)]:
                continue
            h = h_last[row]
            if resets is not None and resets[(t, *row)]:
                h = np.zeros_like(h)
            h_last[row] = hs[(t, *row)] = gru_step(params, h, xs[(t, *row)])
    return h_last, hs
