"""Spiking data of known systems: the equations by a slow loop, the spikes by their statistics."""

from itertools import pairwise

import pytest
import torch
from seqzoo.data import ChaoticRNN, Lorenz, dynamics


def test_a_lorenz_state_follows_the_equations():
    found = Lorenz(3, 20, seed=1, bin=0.01)
    scale = torch.tensor(dynamics.SPREAD), torch.tensor(dynamics.CENTRE)
    states = (found.state * scale[0] + scale[1]).double()
    for trial in states:
        for now, after in pairwise(trial):
            x, y, z = now.tolist()
            for _ in range(10):  # milliseconds a bin
                x, y, z = (
                    x + 0.006 * 10 * (y - x),
                    y + 0.006 * (x * (28 - z) - y),
                    z + 0.006 * (x * y - 8 / 3 * z),
                )
            torch.testing.assert_close(after, torch.tensor([x, y, z]).double(), rtol=0, atol=2e-2)


def test_a_lorenz_state_is_on_one_scale():
    state = Lorenz(200, 200, seed=0).state.flatten(0, 1)
    torch.testing.assert_close(state.mean(0), torch.zeros(3), rtol=0, atol=0.1)
    torch.testing.assert_close(state.std(0), torch.ones(3), rtol=0, atol=0.1)


def test_a_chaotic_network_follows_its_equation():
    found = ChaoticRNN(2, 10, seed=1, neurons=6)
    x = found.state.double()
    after = x + 0.4 * (torch.einsum("ntk,km->ntm", x.tanh(), found.weights) - x)
    torch.testing.assert_close(after[:, :-1], x[:, 1:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.rates, 0.15 * (1 + found.state.tanh()))


@pytest.mark.parametrize("kind", [Lorenz, ChaoticRNN])
def test_counts_are_poisson_at_the_rates(kind):
    found = kind(400, 50, seed=0)
    assert (found.obs == found.obs.round()).all()
    residual = (found.obs - found.rates) / found.rates.sqrt()
    number = residual.numel() ** 0.5
    assert residual.mean().abs() < 4 / number
    assert abs(float(residual.square().mean()) - 1) < 0.05


@pytest.mark.parametrize("kind", [Lorenz, ChaoticRNN])
def test_trials_follow_the_seed_and_neurons_the_seed_of_the_weights(kind):
    first, again, other = kind(2, 9, seed=1), kind(2, 9, seed=1), kind(2, 9, seed=2)
    assert torch.equal(first.obs, again.obs)
    assert not torch.equal(first.state, other.state)
    for same in (other, kind(2, 9, split="test"), first.fresh(3)):
        assert torch.equal(first.weights, same.weights)
    assert not torch.equal(first.weights, kind(2, 9, weights_seed=5).weights)
    assert len(first.held_out(4)) == 4


@pytest.mark.parametrize(
    ("build", "word"),
    [
        (lambda: Lorenz(2, 9, bin=0.0005), "milliseconds"),
        (lambda: Lorenz(2, 9, bin=0.0105), "milliseconds"),
        (lambda: Lorenz(2, 9, rate=0.0), "rate"),
        (lambda: ChaoticRNN(2, 9, bin=0.05), "bin"),
        (lambda: ChaoticRNN(2, 9, g=float("nan")), "g must"),
    ],
)
def test_mistakes_are_named(build, word):
    with pytest.raises(ValueError, match=word):
        build()
