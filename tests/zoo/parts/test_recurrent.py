"""Recurrent layers by kernels, against those of torch."""

from unittest import mock

import pytest
import torch
from seqzoo.inference import kernels, tape
from seqzoo.zoo.parts import recurrent
from seqzoo.zoo.parts.memory import Memory
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

B, T, N, H = 6, 7, 5, 3
PAIRS = {"gru": (recurrent.GRU, nn.GRU), "tanh": (recurrent.RNN, nn.RNN)}
PRECISE = {"dtype": torch.double}


def pair(cell, layers=1, dropout=0.0, **options):
    """A layer and that of torch with the same weights."""
    options = {"batch_first": True, **options}
    ours, theirs = (each(N, H, layers, dropout=dropout, **options).double() for each in PAIRS[cell])
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def by_kernel(net):
    """Whether a kernel runs."""
    with mock.patch.object(recurrent, "_by_rows", wraps=recurrent._by_rows) as ran:
        net(torch.randn(B, T, N, **PRECISE))
    return ran.called


def results(net, inputs, state, seed=0):
    """Outputs, last states, the next random number, and all gradients of a function of them."""
    given = [inputs.clone().requires_grad_(), state.clone().requires_grad_()]
    torch.manual_seed(seed)
    out, last = net(*given)
    drawn = torch.rand(1)
    loss = (out.cos() * torch.arange(1.0, T + 1, **PRECISE)[:, None]).sum() + last.pow(3).sum()
    return out, last, drawn, *torch.autograd.grad(loss, [*given, *net.parameters()])


@pytest.mark.parametrize(("layers", "dropout"), [(1, 0.0), (3, 0.0), (2, 0.4)])
@pytest.mark.parametrize("cell", PAIRS)
def test_a_kernel_equals_torch_and_so_does_its_gradient(cell, layers, dropout):
    ours, theirs = pair(cell, layers, dropout)
    assert by_kernel(ours)
    inputs, state = torch.randn(B, T, N, **PRECISE), torch.randn(layers, B, H, **PRECISE)
    found, expected = (results(net, inputs, state) for net in (ours, theirs))
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    ours.eval(), theirs.eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(inputs), theirs(inputs), rtol=1e-12, atol=1e-12)
    single = [each.float() for each in ours.float()(inputs.float())]
    torch.testing.assert_close(single, [x.float() for x in theirs(inputs)], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", PAIRS)
def test_a_gradient_is_that_of_differences_and_has_no_second(cell):
    net = pair(cell)[0]
    inputs = torch.randn(B, T, N, **PRECISE, requires_grad=True)
    state = torch.randn(1, 1, H, **PRECISE, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, h: net(x, h.expand(1, B, H))[0], (inputs, state))
    loss = net(inputs)[0].square().sum()
    (slope,) = torch.autograd.grad(loss, inputs, create_graph=True)
    again = torch.autograd.grad(loss, inputs)[0]
    assert torch.equal(slope, again)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        slope.sum().backward()


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        ("gru", {"bidirectional": True}),
        ("gru", {"batch_first": False}),
        ("gru", {"bias": False}),
        ("tanh", {"nonlinearity": "relu"}),
    ],
    ids=["both directions", "time first", "no bias", "another nonlinearity"],
)
def test_torch_runs_other_layers(cell, options):
    ours, theirs = pair(cell, **options)
    inputs = torch.randn(B, T, N, **PRECISE)
    assert not by_kernel(ours)
    assert all(torch.equal(a, b) for a, b in zip(ours(inputs), theirs(inputs)))


def test_torch_runs_on_other_inputs(monkeypatch):
    ours, theirs = pair("gru")
    inputs = torch.randn(B, T, N, **PRECISE)
    packed = pack_padded_sequence(inputs, [7, 6, 6, 3, 2, 1], batch_first=True)
    assert torch.equal(ours(packed)[0].data, theirs(packed)[0].data)
    assert torch.equal(ours(inputs[0])[0], theirs(inputs[0])[0])
    assert ours(inputs[:0])[0].shape == (0, T, H)
    for wrong in ((inputs[..., 1:],), (inputs, torch.zeros(1, 1, H, **PRECISE)), (inputs.float(),)):
        with pytest.raises((RuntimeError, ValueError)) as found:
            ours(*wrong)
        with pytest.raises((RuntimeError, ValueError)) as expected:
            theirs(*wrong)
        assert str(found.value) == str(expected.value)
    with torch.autocast("cpu", torch.bfloat16):
        low = ours.float()(inputs.float())[0]
        assert low.dtype == theirs.float()(inputs.float())[0].dtype
    assert by_kernel(ours.double())
    monkeypatch.setattr(recurrent, "CACHED", 3 * H * H * 8 - 1)
    assert not by_kernel(ours)
    monkeypatch.undo()
    monkeypatch.setattr(kernels, "load", lambda name: None)
    assert not by_kernel(ours)
    state = torch.randn(1, B, H, **PRECISE)
    assert torch.equal(ours.layer(0, inputs, state[0]), theirs.double()(inputs, state)[0])


def test_transforms_and_recordings_see_the_operations_of_torch():
    ours, theirs = pair("gru")
    inputs = torch.randn(2, B, T, N, **PRECISE)
    slopes = [
        torch.func.grad(lambda x, net=net: net(x)[0].square().sum())(inputs[0])
        for net in (ours, theirs)
    ]
    assert torch.equal(*slopes)
    made = tape.Recording(lambda x: (ours(x)[0],), [inputs[0]], ours)
    (again,) = made.replay([inputs[1]])
    assert torch.equal(again, theirs(inputs[1])[0])


def test_threads_share_the_rows(monkeypatch):
    net, inputs = pair("gru")[0], torch.randn(9, T, N, **PRECISE)
    state, before = torch.randn(1, 9, H, **PRECISE), torch.get_num_threads()
    one = results(net, inputs, state)
    monkeypatch.setattr(recurrent, "LARGE", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    two = results(net, inputs, state)
    assert before == 1
    assert all(torch.equal(a, b) for a, b in zip(one, two))


def test_a_nan_stays_one_and_goes_to_no_other_row():
    memory, inputs = Memory(N, H), torch.randn(B, T, N)
    inputs[2, 3] = torch.nan
    found = memory(inputs).isnan()
    assert found[2, 3:].all()
    assert found.sum() == (T - 3) * H
