"""Distributions of paths that inherit a linear chain, and chains of unfit shapes."""

import math

import pytest
import torch
from seqzoo.data import Batch
from seqzoo.inference import LinearChain
from seqzoo.inference.paths import kl_steps, marginal_increments
from seqzoo.zoo import likelihoods, path_guides, priors
from torch.distributions import kl_divergence

from seqzoo import inference, zoo

B, T, M, K, H = 3, 6, 4, 2, 5
MASK = torch.arange(T) < torch.tensor([4, 6, 2])[:, None]
FULL = torch.ones(B, T, dtype=torch.bool)
gaussian = likelihoods.Gaussian(M)


@pytest.fixture
def batch():
    return Batch(torch.randn(B, T, M), MASK)


class Shifted(LinearChain):
    """A chain that is moved by three, the rest of it as it was."""

    def from_innovations(self, noise):
        return super().from_innovations(noise) + 3

    def to_innovations(self, path):
        return super().to_innovations(path - 3)


class Named(LinearChain):
    """A Wiener process with arguments of its own, a law that is not changed."""

    def __init__(self, mask, spread):
        self.spread = spread
        super().__init__(mask, 1.0, torch.zeros(1, K), torch.full((1, K), spread))


def chain(kind=LinearChain):
    return kind(FULL, 0.0, torch.zeros(1, K), torch.ones(1, K))


def test_a_subclass_of_a_chain_is_not_taken_for_one():
    q, p = chain(Shifted), chain()
    path = q.rsample((4000,))
    truth = 9 / 2 * K  # a step: two normals, three standard deviations apart
    assert kl_steps(q, p, path).mean().item() == pytest.approx(truth, abs=0.1)
    assert kl_steps(p, q, p.rsample((4000,))).mean().item() == pytest.approx(truth, abs=0.1)
    assert not kl_steps(p, p).any()
    for laws in ((q, p), (p, q)):
        with pytest.raises(NotImplementedError, match="Shifted"):
            kl_steps(*laws)
        with pytest.raises(NotImplementedError, match="Shifted"):
            kl_divergence(*laws)
        with pytest.raises(ValueError, match="Shifted"):
            marginal_increments(*laws)
    assert not kl_divergence(p, p).any()


def test_a_law_that_is_expanded_stays_what_it_is():
    for law in (chain(Shifted), Named(MASK, 0.5), priors.GaussianProcess(K)(MASK)):
        wide = law.expand((7, B))
        assert type(wide) is type(law)
        assert (*wide.batch_shape, *wide.event_shape) == (7, B, T, K)
        path = law.sample((7,))
        assert torch.equal(wide.log_prob(path), law.log_prob(path))
        assert torch.equal(wide.mode, law.mode.expand(7, B, T, K))
        assert law.batch_shape == (B,)
    assert Named(MASK, 0.5).expand((7, B)).spread == 0.5


class Moving(path_guides.Diagonal):
    """A guide whose law is a changed chain."""

    def forward(self, features, mask, prior, decoder=None):
        law = super().forward(features, mask, prior)
        return Shifted(mask, 0.0, law.offset, law.scale)


def test_a_changed_chain_is_trained_by_its_own_divergence(batch):
    torch.manual_seed(0)
    net = zoo.VRAE(M, K, gaussian, H, prior=priors.WhiteNoise(K), guide=Moving(H, K))
    with torch.no_grad():
        for part in net.recognition.parameters():
            part.zero_()
    terms = inference.evaluate.elbo_terms(net, net.prepare(batch), 2000)
    sd = math.log(2) + path_guides.MIN_SPREAD
    a_step = K * (-math.log(sd) + (sd**2 + 9 - 1) / 2)
    found = terms.divergence.mean(0)
    torch.testing.assert_close(found[MASK], torch.full((12,), a_step), atol=0.2, rtol=0)
    assert not found[~MASK].any()


def test_a_changed_chain_does_not_make_a_vosp_framewise():
    assert zoo.VOSP(M, K, gaussian, H, width=H).framewise
    net = zoo.VOSP(M, K, gaussian, H, width=H, prior=priors.WhiteNoise(K), guide=Moving(H, K))
    assert not net.framewise


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        ((0.0, torch.zeros(B, T - 1, K), torch.ones(1, K)), "offset must broadcast to .*3, 6, 2"),
        ((0.0, torch.zeros(B, T, K), torch.ones(B, T, K - 1 + 2)), "offset must broadcast"),
        ((torch.ones(B + 1, 1, K), torch.zeros(1, K), torch.ones(1, K)), "coefficient must"),
        ((torch.ones(()), torch.zeros(1, K), torch.ones(1, K)), r"coefficient must .* got \(\)"),
        ((0.0, torch.zeros(1, K), torch.ones(2, B, T, K)), "scale must broadcast"),
        ((0.0, torch.zeros(1, K), 1.0), "scale must be a tensor"),
    ],
)
def test_the_parts_of_a_chain_must_broadcast(parts, complaint):
    with pytest.raises(ValueError, match=complaint):
        LinearChain(MASK, *parts)


def test_parts_that_broadcast_are_taken():
    for shape in ((K,), (1, K), (T, 1), (B, 1, K), (B, T, K)):
        law = LinearChain(MASK, 0.5, torch.zeros(1, K), torch.ones(shape))
        assert law.event_shape == (T, K)
        assert law.rsample().shape == (B, T, K)
