"""The exact KL term beside the published one, and the way in which training tells them apart."""

import math

import pytest
import torch
from seqzoo.data import PianoRolls
from seqzoo.inference.paths import LinearChain, kl_steps, marginal_increments
from seqzoo.zoo import VOSP, likelihoods, path_guides
from seqzoo.zoo.parts.priors import WienerProcess
from seqzoo.zoo.studies import kl
from torch.distributions import Normal, kl_divergence

STEPS = 40


def turns(precise):
    """Spreads 1 and ``precise`` in turn, ``[1, STEPS, 1]``."""
    return torch.tensor([1.0, precise]).repeat(STEPS // 2).reshape(1, STEPS, 1)


@pytest.mark.parametrize("precise", [1e-2, 1e-3])
def test_the_published_term_is_small_where_precise_steps_follow_vague_ones(precise):
    """The exact term is that of a pair of steps: their own spreads and the shared state."""
    mask, mean, scale = torch.ones(1, STEPS).bool(), torch.zeros(1, STEPS, 1), turns(precise)
    q, p = LinearChain(mask, 0.0, mean, scale), WienerProcess(1)(mask)
    assert marginal_increments(q, p)[0, 1:].sum() < 1e-4 * STEPS
    vague, sharp = (
        kl_divergence(Normal(0.0, s), Normal(0.0, 1.0)) + before**2 / 2
        for s, before in ((1.0, precise), (precise, 1.0))
    )
    pair = float(vague + sharp)
    assert pair > -math.log(precise)
    assert kl_steps(q, p)[0, 2:].sum().item() == pytest.approx(pair * (STEPS / 2 - 1), rel=1e-4)


@pytest.mark.parametrize(
    ("spread", "expected"),
    [
        (turns(0.1), -(STEPS - 1) / STEPS),
        (torch.tensor([1.0, 0.1]).repeat_interleave(STEPS // 2).reshape(1, -1, 1), 1 - 3 / STEPS),
    ],
)
def test_the_correlation_of_spreads(spread, expected):
    product, square = kl.turning(spread.log(), torch.ones(1, STEPS).bool())
    assert float(product / square) == pytest.approx(expected, rel=1e-5)


def test_padding_has_no_part_in_the_correlation():
    log_spread = torch.randn(3, 9, 2)
    lengths = (9, 5, 1)
    mask = torch.arange(9) < torch.tensor(lengths)[:, None]
    parts = [
        kl.turning(row[None, :n], mask[:1, :n]) for row, n in zip(log_spread, lengths, strict=True)
    ]
    padded = log_spread.masked_fill(~mask[..., None], math.nan)
    torch.testing.assert_close(kl.turning(padded, mask), sum(parts))


def test_a_vosp_is_measured_as_its_guide_has_it(monkeypatch):
    """The exact KL less the published one is the information that increments share."""
    torch.manual_seed(0)
    net = VOSP(
        *(88, 2, likelihoods.Bernoulli(88)),
        hidden=4,
        width=6,
        guide=path_guides.Diagonal(6, 2),
        decoder_input="path",
    )
    frames = [(torch.rand(n, 88) < 0.1).float() for n in (7, 4)]
    monkeypatch.setattr(kl, "Polyphonic", lambda *_: PianoRolls(frames))
    monkeypatch.setattr(kl.store, "load", lambda name: net)
    card = {"configuration": {"data": {"name": "jsb"}}}
    monkeypatch.setattr(kl.store, "card_of", lambda net: card)
    found = kl.measure_kl("model")
    assert found.exact - found.marginal == pytest.approx(found.shared, rel=1e-5)
    assert -1 <= found.turning <= 1
    assert found.likelihood > found.shared > 0
