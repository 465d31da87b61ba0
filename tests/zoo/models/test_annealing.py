"""Annealed importance sampling of harmoniums against normalisers by enumeration."""

import functools
import itertools

import pytest
import torch
from seqzoo.data import Batch
from seqzoo.inference import annealed_likelihood, run_filter
from seqzoo.zoo import REFH, RTRBM, RVAE, TRBM
from seqzoo.zoo.parts.likelihoods import Bernoulli, Gaussian, Poisson

RTRBM_VISIBLE = functools.partial(RTRBM, visible_past=True)
FAMILIES = [(Bernoulli(6), 0.8), (Poisson(4), 0.4), (Gaussian(3, scale=0.5), 0.5)]


def make(kind, likelihood, size, hidden=4):
    torch.manual_seed(2)
    net = kind(likelihood.dim, hidden, likelihood).double()
    for parameter in net.parameters():
        parameter.data.copy_(size * torch.randn_like(parameter))
    obs = likelihood.sample(torch.randn(3, 5, likelihood.dim).double())
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1, 3:] = False
    return net, Batch(obs, mask)


@torch.no_grad()
def exact(net, batch):
    """log p(y_1 .. y_T): the normaliser is a sum over all hidden states, each in closed form."""
    states = run_filter(net, batch)
    past = torch.cat((torch.zeros_like(states[:, :1]), states[:, :-1]), 1)
    hidden = torch.tensor(list(itertools.product((0.0, 1.0), repeat=net.hidden_dim))).double()
    drive = net.hidden_bias + past @ net.past_weight.T
    natural = net.emission(hidden[:, None, None], net.visible_bias(past))
    units = net.likelihood.log_normaliser(natural).sum(-1)
    reward = (drive @ hidden.T).movedim(-1, 0) + units
    joint = net.likelihood.distribution(natural).log_prob(batch.obs) + reward
    return ((joint.logsumexp(0) - reward.logsumexp(0)) * batch.mask).sum(1)


@pytest.mark.parametrize("kind", [RTRBM_VISIBLE, REFH])
@pytest.mark.parametrize(("likelihood", "size"), FAMILIES, ids=str)
@pytest.mark.parametrize("reverse", [False, True])
def test_it_is_the_likelihood_by_enumeration(kind, likelihood, size, reverse):
    net, batch = make(kind, likelihood, size)
    found = annealed_likelihood(net, batch, 80, 300, reverse=reverse)
    torch.testing.assert_close(found, exact(net, batch), atol=0.2, rtol=0)
    few = annealed_likelihood(net, batch, 1, 1, reverse=reverse)
    assert (few - exact(net, batch)).abs().max() > 0.2  # the tolerance tells them apart


def test_one_chain_is_too_high_on_average():
    """E[log Z estimate] < log Z: the mean over seeds lies above the exact value."""
    net, batch = make(TRBM, Bernoulli(6), 1.2)
    found = [annealed_likelihood(net, batch, 1, 2, seed=seed).sum() for seed in range(200)]
    error = torch.stack(found) - exact(net, batch).sum()
    assert error.mean() > 4 * error.std() / len(found) ** 0.5


def test_chunks_padding_and_the_callers_random_state_change_nothing(monkeypatch):
    net, batch = make(TRBM, Bernoulli(6), 0.8)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    found = annealed_likelihood(net, batch, 3, 10)
    assert torch.equal(torch.get_rng_state(), state)
    filled = Batch(batch.obs.masked_fill(~batch.mask[..., None], 1.0), batch.mask)
    torch.testing.assert_close(annealed_likelihood(net, filled, 3, 10), found)
    monkeypatch.setattr("seqzoo.inference.annealed.ROWS", 6)
    chunked = annealed_likelihood(net, batch, 40, 100)
    torch.testing.assert_close(chunked, exact(net, batch), atol=0.2, rtol=0)


def test_what_it_cannot_score_is_refused():
    net, batch = make(TRBM, Bernoulli(6), 0.8)
    seen = torch.ones_like(batch.obs, dtype=torch.bool)
    seen[0, 1, 2] = False
    with pytest.raises(ValueError, match="no missing values"):
        annealed_likelihood(net, Batch(batch.obs, batch.mask, observed=seen))
    grey = TRBM(6, 4, Bernoulli(6, grey=True)).double()
    with pytest.raises(ValueError, match="grey values have no probability"):
        annealed_likelihood(grey, Batch(batch.obs * 0.5, batch.mask))
    rvae = RVAE(obs_dim=6, latent_dim=2, likelihood=Bernoulli(6)).double()
    with pytest.raises(ValueError, match=r"RVAE is not an inference\.EnergyModel"):
        annealed_likelihood(rvae, batch)
