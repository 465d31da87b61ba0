"""Statistics of a guide stay bounded, so that the recursion of a new one does."""

import torch
from seqzoo.zoo.parts.guides import MAX_MEAN, MAX_SPREAD, GaussianGuide


def test_statistics_of_a_guide_are_bounded():
    torch.manual_seed(0)
    guide = GaussianGuide(3, 2, hidden=4)
    with torch.no_grad():
        guide.heads.bias.fill_(100.0)
    features, past = guide.encode(torch.zeros(1, 3)), torch.ones(1, 4)
    assert guide.step(features, past).tolist() == [[MAX_MEAN] * 2 + [MAX_SPREAD] * 2]
    assert torch.equal(guide.step(features, past), guide.advance(features, past))
    assert (guide(features, past).base_dist.scale > MAX_SPREAD).all()
