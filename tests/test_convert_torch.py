"""Stacks of PyTorch: outputs, gradients, round trips, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import B, H, I, T, assert_close, random_inputs, random_params
from convert_common import assert_same, draw

import gru_jax
from gru_jax import Bidirectional, GRUStack, convert

# warnings of the frameworks are not ours to fix
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("jax_defaults"),
]
BIAS = pytest.mark.parametrize("bias", [True, False])


def torch_module(layers, bidirectional, bias=True):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = torch.nn.GRU(I, H, layers, bias=bias, bidirectional=bidirectional)
    for weight in module.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    return torch, module


def torch_states(torch, layers, bidirectional, seed=0):
    """The same initial states in both forms."""
    h0 = draw(layers * (1 + bidirectional), B, H, seed=seed)
    ours = tuple(
        Bidirectional(h0[2 * i], h0[2 * i + 1]) if bidirectional else h0[i] for i in range(layers)
    )
    return torch.tensor(h0), ours


def flat_states(h_lasts):
    return jnp.stack(jax.tree.leaves(h_lasts))


@pytest.mark.parametrize(("layers", "bidirectional"), [(1, False), (2, False), (3, True)])
@BIAS
def test_stack_outputs_match(layers, bidirectional, bias):
    torch, module = torch_module(layers, bidirectional, bias)
    stack = convert.from_torch(module.state_dict())
    theirs, ours = torch_states(torch, layers, bidirectional)
    _, xs = random_inputs()
    with torch.no_grad():
        hs, h_last = module(torch.tensor(np.asarray(xs)), theirs)
    our_lasts, our_hs = gru_jax.gru_stack_unroll(stack, ours, xs)
    assert_close((our_hs, flat_states(our_lasts)), (hs.numpy(), h_last.numpy()))

    other = gru_jax.init_gru_stack(
        jax.random.key(1),
        I,
        (H,) * layers,
        bidirectional=bidirectional,
        reset="after",
        preset="torch",
        bias=bias,
    )
    arrays = {k: torch.tensor(np.asarray(v)) for k, v in convert.to_torch(other).items()}
    module.load_state_dict(arrays)
    with torch.no_grad():
        hs, _ = module(torch.tensor(np.asarray(xs)), theirs)
    assert_close(gru_jax.gru_stack_unroll(other, ours, xs)[1], hs.numpy())


@pytest.mark.parametrize("bidirectional", [True, False])
@BIAS
def test_round_trip_of_stacks_is_exact(bidirectional, bias):
    """Without PyTorch; the biases of z and r are already summed."""
    stack = gru_jax.init_gru_stack(
        jax.random.key(0),
        I,
        (H,) * 11,
        bidirectional=bidirectional,
        reset="after",
        bias=bias,
        preset="torch",
    )
    state_dict = convert.to_torch(stack)
    assert_same(convert.from_torch(state_dict), stack)
    assert len(state_dict) == 11 * (1 + bidirectional) * (4 if bias else 2)
    cell = stack.layers[0].forward if bidirectional else stack.layers[0]
    assert_same(convert.from_torch(convert.to_torch(cell)), cell)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_stack_gradients_match(bidirectional):
    torch, module = torch_module(2, bidirectional)
    theirs, ours = torch_states(torch, 2, bidirectional)
    _, xs = random_inputs()
    out_weights = draw(T, B, H * (1 + bidirectional))
    inputs = torch.tensor(np.asarray(xs), requires_grad=True)
    theirs.requires_grad_()
    hs, _ = module(inputs, theirs)
    torch.sum(hs * torch.tensor(out_weights)).backward()
    state_dict = {k: jnp.asarray(v.detach().numpy()) for k, v in module.state_dict().items()}

    def loss(state_dict, h0s, xs):
        hs = gru_jax.gru_stack_unroll(convert.from_torch(state_dict), h0s, xs)[1]
        return jnp.sum(hs * out_weights)

    weights, states, by_xs = jax.grad(loss, argnums=(0, 1, 2))(
        state_dict, jax.tree.map(jnp.asarray, ours), xs
    )
    expected = {name: weight.grad.numpy() for name, weight in module.named_parameters()}
    # float32 sums over T · B terms in another order
    tolerance = {"rtol": 1e-5, "atol": 1e-5}
    assert_close(weights, expected, **tolerance)
    assert_close(flat_states(states), theirs.grad.numpy(), **tolerance)
    assert_close(by_xs, inputs.grad.numpy(), **tolerance)


def test_packed_sequences_match_masks():
    """Packed rows are equivalent to a mask."""
    torch, module = torch_module(2, bidirectional=True)
    theirs, ours = torch_states(torch, 2, bidirectional=True)
    _, xs = random_inputs()
    lengths = [5, 3, 1, 4]
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.tensor(np.asarray(xs)), lengths, enforce_sorted=False
    )
    with torch.no_grad():
        hs, h_last = module(packed, theirs)
    hs, _ = torch.nn.utils.rnn.pad_packed_sequence(hs, total_length=T)
    our_lasts, our_hs = gru_jax.gru_stack_unroll(
        convert.from_torch(module.state_dict()),
        ours,
        xs,
        mask=gru_jax.sequence_mask(np.array(lengths), T),
    )
    assert_close((our_hs, flat_states(our_lasts)), (hs.numpy(), h_last.numpy()))


GOOD = {"weight_ih_l0": (3 * H, I), "weight_hh_l0": (3 * H, H)}


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({}, r"lacks \['weight_hh_l0', 'weight_ih_l0'\]"),
        ({**GOOD, "weight_hr_l0": (2, H)}, r"unknown \['weight_hr_l0'\]"),
        ({**GOOD, "surplus": (2, H)}, r"unknown \['surplus'\]"),
        ({**GOOD, "weight_ih_l2": (3 * H, H)}, r"lacks|unknown"),
        ({**GOOD, "bias_ih_l0": (3 * H,)}, r"lacks \['bias_hh_l0'\]"),
        ({**GOOD, "weight_hh_l0": (3 * H, H + 1)}, "weight_hh_l0 has shape"),
        ({**GOOD, "weight_ih_l0": (3 * H + 1, I)}, "weight_ih_l0 has shape"),
        ({**GOOD, "weight_ih_l1": (3 * H, I), "weight_hh_l1": (3 * H, H)}, "weight_ih_l1 has sh"),
        ({**GOOD, "bias_ih_l0": (H,), "bias_hh_l0": (3 * H,)}, "bias_ih_l0 has shape"),
        ({"weight_ih": (3 * H, I)}, r"torch.nn.GRUCell lacks \['weight_hh'\]"),
    ],
)
def test_wrong_entries_are_refused(shapes, message):
    with pytest.raises(ValueError, match=message):
        convert.from_torch({name: np.zeros(shape) for name, shape in shapes.items()})


def test_stacks_that_torch_cannot_represent_are_refused():
    one, other = (random_params(reset="after", inputs=n, hidden=m) for n, m in ((I, 7), (7, 6)))
    with pytest.raises(ValueError, match=r"hidden sizes \[6, 7\]"):
        convert.to_torch(GRUStack((one, other)))
    two = random_params(reset="after", inputs=7)
    with pytest.raises(ValueError, match="the same number of directions"):
        convert.to_torch(GRUStack((one, Bidirectional(two, two))))
