"""Private states against a Kalman filter of independent channels in its steady state."""

import math

import pytest
import torch
from scipy.linalg import solve_discrete_are
from seqzoo.data import Batch
from seqzoo.inference.linear.kalman import kalman_filter
from seqzoo.inference.linear.system import LinearGaussian
from seqzoo.zoo import likelihoods
from torch import nn

from seqzoo import zoo

M, B, T = 3, 2, 30
DECAY = torch.tensor([0.95, 0.7, 0.3], dtype=torch.float64)  # a, Q and R of each channel
PROCESS = torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)
NOISE = torch.tensor([0.3, 0.2, 0.1], dtype=torch.float64)


def silent(net):
    """The network with a shared part that says nothing."""
    for name, weight in net.named_parameters():
        if not name.startswith(("memory.decay", "memory.gain", "likelihood")):
            nn.init.zeros_(weight)
    return net.double().eval()


def test_an_rnn_with_a_silent_memory_is_a_kalman_filter_of_each_channel():
    steady = torch.stack(  # variance of the state given the past
        [
            torch.as_tensor(solve_discrete_are([[a]], [[1.0]], [[q]], [[r]])).squeeze()
            for a, q, r in zip(DECAY.tolist(), PROCESS.tolist(), NOISE.tolist())
        ]
    )
    net = silent(zoo.RNN(M, likelihoods.LearnedGaussian(M), hidden=4, private=True))
    with torch.no_grad():
        net.memory.decay_logit[:] = DECAY.logit()
        net.memory.gain_logit[:] = (steady / (steady + NOISE)).logit()
        net.likelihood.log_sd[:] = (steady + NOISE).sqrt().log()
    torch.manual_seed(0)
    obs = torch.randn(B, T, M, dtype=torch.float64).cumsum(1)
    diagonal = [torch.diag(each) for each in (DECAY, PROCESS, torch.ones_like(DECAY), steady)]
    system = LinearGaussian(*diagonal[:3], torch.zeros(M, dtype=torch.float64), diagonal[3])
    exact = kalman_filter(system, obs, NOISE.expand_as(obs)).log_likelihood
    torch.testing.assert_close(net.log_prob(Batch(obs)), exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("cls", [zoo.RNN, zoo.VOSP])
def test_a_missing_value_leaves_the_prediction_to_decay(cls):
    torch.manual_seed(0)
    location, scale = [1.0, -2.0, 100.0], [0.5, 2.0, 10.0]
    sizes = (M,) if cls is zoo.RNN else (M, 1)
    net = cls(
        *sizes,
        likelihoods.LearnedGaussian(M, location, scale),
        hidden=4,
        sees_missing=True,
        private=True,
    )
    net = silent(net)
    a, k = 0.9, 0.5  # of a new channel
    obs = torch.randn(B, 6, M, dtype=torch.float64)
    seen = torch.rand(B, 6, M) > 0.4
    with torch.no_grad():
        path = torch.zeros(B, 6, 1, dtype=torch.float64)
        batch = Batch(obs, observed=seen)
        if cls is zoo.RNN:
            found = net.natural(batch.obs, batch.observed)
        else:
            found = net.natural(path, net.prepare(batch))
    for row in range(B):
        for channel in range(M):
            p = 0.0
            for t in range(6):
                assert float(found[row, t, channel]) == pytest.approx(p, abs=1e-6)
                if seen[row, t, channel]:
                    y = (float(obs[row, t, channel]) - location[channel]) / scale[channel]
                    p += k * (y - p)
                p *= a
    assert not math.isclose(float(found.abs().max()), 0, abs_tol=0.1)


def test_private_states_are_of_traces():
    with pytest.raises(ValueError, match=r"traces.*LearnedGaussian"):
        zoo.RNN(M, likelihoods.Poisson(M), private=True)
