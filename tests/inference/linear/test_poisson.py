"""Linear systems of counts: the bound against brute force, and steps that never lower it."""

import math

import numpy as np
import pytest
import torch
from scipy import optimize
from seqzoo.data import Batch
from seqzoo.inference import EM, elbo, importance_bound, khat
from seqzoo.inference.linear.m_step import weights_of, with_emission
from seqzoo.inference.linear.poisson import count_prior, fit_counts, smooth_counts
from seqzoo.inference.linear.sites import Sites, _smoother, pulled, site_smoother

from seqzoo import zoo
from tests.inference.linear.turning import turning

from .test_em import data_of, scores, system_of

K, D, T = 2, 3, 5


def net_of(states=K, values=D, inputs=0, seed=0):
    return system_of(zoo.PoissonLGDS(states, values, input_dim=inputs), seed)


def test_the_posterior_of_one_state_is_the_best_gaussian():
    """One frame of one state: the bound is maximised by scipy, and below the integral on a grid."""
    net = net_of(1, 2)
    counts = torch.tensor([[[3.0, 0.0]]])
    found = net.smooth(Batch(counts))
    C, d = net.emission[:, 0].numpy(), net.offset.numpy()
    m, P = net.initial_mean.item(), net.initial_covariance.item()
    y = counts[0, 0].numpy()

    def bound(mean, variance):
        eta, spread = C * mean + d, C**2 * variance
        said = (y * eta - np.exp(eta + spread / 2)).sum() - math.log(6)
        gap = (variance + (mean - m) ** 2) / P - 1 - math.log(variance / P)
        return said - gap / 2

    best = optimize.minimize(lambda v: -bound(v[0], math.exp(v[1])), [0.0, 0.0], tol=1e-12)
    assert found.log_likelihood.item() == pytest.approx(-best.fun, abs=1e-9)
    assert found.mean.item() == pytest.approx(best.x[0], abs=1e-5)
    assert found.covariance.item() == pytest.approx(math.exp(best.x[1]), abs=1e-5)
    x = np.linspace(m - 8 * P**0.5, m + 8 * P**0.5, 20_001)
    eta = np.outer(x, C) + d
    log = (y * eta - np.exp(eta)).sum(1) - math.log(6) - (x - m) ** 2 / (2 * P)
    exact = math.log(np.exp(log).sum() * (x[1] - x[0]) / math.sqrt(2 * math.pi * P))
    assert 0 < exact - found.log_likelihood.item() < 0.02
    assert net.filter(Batch(counts)).log_likelihood.item() == pytest.approx(-best.fun, abs=1e-9)


@pytest.mark.parametrize("inputs", [0, 2])
def test_the_gradient_of_the_bound_is_zero(inputs):
    """Of the bound written out for a whole path, in its mean and in its covariance."""
    net = net_of(inputs=inputs)
    batch = data_of(net, 2, T, 0.3)
    data = net.read(batch)
    found, chain = net.smooth(batch), net.posterior(batch)
    system, row, steps = net.system(), 0, T
    size = K * steps
    prior = torch.zeros(size, size).double()  # of the path, from its innovations
    moves = torch.eye(size).double()
    for t in range(steps):
        now = slice(K * t, K * t + K)
        prior[now, now] = system.process if t else system.initial_covariance
        if t:
            moves[now, now.start - K : now.start] = -system.dynamics
    start = torch.zeros(steps, K).double()
    if inputs:
        start[1:] = data.inputs[row, 1:] @ system.input_dynamics.mT
    start[0] = system.initial_mean
    spread = torch.linalg.solve(moves, torch.linalg.solve(moves, prior).mT)
    centre = torch.linalg.solve(moves, start.flatten())
    noise = torch.eye(size).double().reshape(size, steps, K)
    flat = chain.from_innovations(torch.zeros(2, steps, K).double())[row].flatten()
    paths = chain.from_innovations(noise[:, None].expand(-1, 2, -1, -1))
    root = (paths[:, row].flatten(1) - flat).mT
    mean, root = flat.clone().requires_grad_(), root.clone().requires_grad_()
    cov = root @ root.mT
    level = system.offset + (data.inputs[row] @ system.input_emission.mT if inputs else 0.0)
    big = torch.block_diag(*[system.emission] * steps)
    eta = big @ mean + level.expand(steps, D).flatten()
    each = data.value[row].flatten() * eta - (eta + (big @ cov * big).sum(-1) / 2).exp()
    each = each - torch.lgamma(data.value[row].flatten() + 1)
    said = each[data.variance[row].isfinite().flatten()].sum()
    q = torch.distributions.MultivariateNormal(mean, cov)
    p = torch.distributions.MultivariateNormal(centre, spread)
    bound = said - torch.distributions.kl_divergence(q, p)
    assert bound.item() == pytest.approx(found.log_likelihood[row].item(), abs=1e-8)
    slopes = torch.autograd.grad(bound, (mean, root))
    assert max(slope.abs().max().item() for slope in slopes) < 1e-3
    torch.testing.assert_close(flat.view(steps, K), found.mean[row])


def test_bounds_are_below_one_another():
    net = net_of()
    batch = data_of(net, 4, 8, 0.2)
    variational = net.smooth(batch).log_likelihood.mean()
    torch.manual_seed(0)
    averaged = elbo(net, batch, 500).mean()
    tighter = importance_bound(net, batch, 500).mean()
    assert averaged.item() == pytest.approx(variational.item(), abs=0.1)
    assert variational + 0.01 < tighter < variational + 1
    assert khat(net, batch, 200).max() < 0.7


@pytest.mark.parametrize(("missing", "inputs"), [(0.0, 0), (0.3, 2)])
def test_no_step_lowers_the_bound(missing, inputs):
    net = net_of(2, 4, inputs)
    found = scores(net, data_of(net, 6, 10, missing), iterations=10)
    assert found.diff(dim=0).min() > -1e-8
    assert (found[-1] > found[0] + 1e-3).all()


def test_the_m_step_of_counts_maximises_what_it_says():
    net = net_of(inputs=1)
    data = net.read(data_of(net, 5, T, 0.2))
    beliefs = smooth_counts(net.system(), data)
    system = net.system()
    for _ in range(5):  # a few Newton steps each
        system = fit_counts(system, beliefs, data)
    weights = weights_of(system).clone().requires_grad_()
    moved = with_emission(system, weights)
    seen = data.variance.isfinite() & data.mask[..., None]
    eta = beliefs.mean @ moved.emission.mT + moved.offset + data.inputs @ moved.input_emission.mT
    spread = torch.einsum("dk,btkl,dl->btd", moved.emission, beliefs.covariance, moved.emission)
    total = torch.where(seen, data.value * eta - (eta + spread / 2).exp(), 0.0).sum()
    mean, precision = count_prior(system, data)
    total = total - ((weights - mean).square() * precision).sum() / 2
    assert torch.autograd.grad(total, weights)[0].abs().max() < 1e-5


def test_both_forms_of_the_smoother_agree():
    """The compiled one, where there is numba, and that in torch; with padding before a sequence."""
    net, random = net_of(inputs=1), torch.Generator().manual_seed(0)
    shape, double = (3, T, D), torch.float64
    sites = Sites(
        torch.randn(shape, generator=random, dtype=double),
        torch.rand(shape, generator=random, dtype=double).round(decimals=1),
    )
    mask = torch.arange(T) >= torch.tensor([[0], [2], [0]])
    sites = Sites(*(part.masked_fill(~mask[..., None], 0.0) for part in sites))
    sites = Sites(sites.linear.masked_fill(sites.precision == 0, 0.0), sites.precision)
    inputs = torch.randn(3, T, 1, generator=random, dtype=double)
    with torch.no_grad():
        found = site_smoother(net.system(), sites, net.offset, mask, inputs)
        driven = (inputs[:, 1:] @ net.input_dynamics.mT) * mask[:, :-1, None]
        expected = _smoother(net.system(), *pulled(net.system(), sites, net.offset), mask, driven)
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)


@pytest.mark.slow
def test_em_of_counts_reaches_the_bound_of_the_true_system():
    truth = turning(zoo.PoissonLGDS(3, 20))
    truth.offset.fill_(-1.0)
    train = Batch(truth.sample(30, 60, seed=1))
    net = zoo.PoissonLGDS(3, 20)
    EM(net, restarts=1, iterations=15).learn(train)
    gap = (net.smooth(train).log_likelihood - truth.smooth(train).log_likelihood).sum()
    assert gap / train.frames > -0.01
