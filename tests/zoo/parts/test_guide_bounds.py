"""The recursion of a guide: bounded where it is new, and absent where it is left out."""

import pytest
import torch
from seqzoo.zoo.parts.guides import MAX_MEAN, MAX_SPREAD, FilmGuide, GaussianGuide


def test_statistics_of_a_guide_are_bounded():
    torch.manual_seed(0)
    guide = GaussianGuide(3, 2, hidden=4)
    with torch.no_grad():
        guide.heads.bias.fill_(100.0)
    features, past = guide.encode(torch.zeros(1, 3)), torch.ones(1, 4)
    assert guide.step(features, past).tolist() == [[MAX_MEAN] * 2 + [MAX_SPREAD] * 2]
    assert torch.equal(guide.step(features, past), guide.advance(features, past))
    assert (guide(features, past).base_dist.scale > MAX_SPREAD).all()


@pytest.mark.parametrize("recurrent", [True, False])
def test_a_guide_without_recursion_reads_the_frame_alone(recurrent):
    torch.manual_seed(0)
    guide = FilmGuide(3, 4, hidden=5, emission_dim=2, recurrent=recurrent)
    features = guide.encode(torch.rand(2, 3))
    one, other = (guide.step(features, torch.rand(2, 8)) for _ in range(2))
    assert torch.equal(one, other) == (not recurrent)
    assert guide.from_past.weight.requires_grad == recurrent
    assert not torch.equal(one[0], one[1])
