"""Maps of latents: shapes, places that are alike, single frames against a fold, and learning."""

import pytest
import torch
from seqzoo.zoo.parts.spatial import SpatialDecoder, SpatialGuide, SpatialNet
from torch.distributions import Normal

from seqzoo import inference, zoo

G, C, W, S = 5, 2, 4, (3,)
M = (G * 3) ** 2


def network(**changes):
    how = {
        "guide": SpatialGuide(G, C, W, S),
        "decoder": SpatialDecoder(G, C, W, S),
        "past_decoder": SpatialNet(G, C, 2 * C, W),
        "predictor": SpatialNet(G, 2 * C, 2 * C, W, spreads=True),
        "predict_frame": True,
    }
    likelihood = zoo.likelihoods.Bernoulli(M, grey=True)
    return zoo.RVAE(M, C * G**2, likelihood, past_scale=0.2, **{**how, **changes})


def shifted(flat, channels, side, places):
    """Maps moved to the right, flat."""
    return flat.unflatten(-1, (channels, side, side)).roll(places, -1).flatten(-3)


def inner(flat, channels, side, margin):
    return flat.unflatten(-1, (channels, side, side))[..., margin:-margin, margin:-margin]


@pytest.mark.parametrize("strides", [(3,), (2, 2)])
def test_images_shrink_to_the_grid_and_grow_back(strides):
    side = 4 * torch.tensor(strides).prod().item()
    guide, decoder = SpatialGuide(4, C, W, strides), SpatialDecoder(4, C, W, strides)
    features = guide.encode(torch.rand(2, 3, side**2))
    assert features.shape == (2, 3, W * 16)
    belief = guide(features[:, 0], guide.initial(2))
    assert belief.batch_shape == (2,)
    assert belief.event_shape == (guide.latent_dim,)
    assert decoder(torch.randn(2, 3, C * 16)).shape == (2, 3, side**2)


def test_all_places_are_alike():
    """What moves by a place in the image moves by a place in the map, but at the borders."""
    big = 13
    guide, decoder = SpatialGuide(big, C, W, S), SpatialDecoder(big, C, W, S)
    obs, past = torch.rand(1, (3 * big) ** 2), torch.rand(1, guide.statistics_dim)
    there = shifted(obs, 1, 3 * big, 3), shifted(past, 2 * C, big, 1)
    mean, _ = guide.moments(guide.encode(obs), past)
    moved, _ = guide.moments(guide.encode(there[0]), there[1])
    one, other = inner(shifted(mean, C, big, 1), C, big, 6), inner(moved, C, big, 6)
    assert torch.allclose(one, other, atol=1e-6)
    x = torch.randn(1, guide.latent_dim)
    frame, other = decoder(x), decoder(shifted(x, C, big, 1))
    moved = shifted(frame, 1, 3 * big, 3)
    assert torch.allclose(inner(moved, 1, 3 * big, 12), inner(other, 1, 3 * big, 12), atol=1e-6)


def test_a_first_frame_is_told_from_a_past_of_means_at_zero():
    guide = SpatialGuide(G, C, W, S)
    features = guide.encode(torch.rand(1, M))
    known = torch.cat((torch.zeros(1, guide.latent_dim), torch.ones(1, guide.latent_dim)), 1)
    assert not torch.allclose(
        guide.step(features, guide.initial(1)), guide.step(features, 1e-6 * known)
    )


def test_spreads_are_bounded():
    net = SpatialNet(G, 2 * C, 2 * C, W, spreads=True)
    raw = net(1e6 * torch.randn(3, 2 * C * G**2)).chunk(2, -1)[1]
    spread = torch.nn.functional.softplus(raw)
    assert spread.min() > 0.0199
    assert spread.max() < 2.1


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_what_left_its_limits_learns_to_return(sign):
    """A clamp would have no gradient there: mean and spread of q would stay for ever."""
    guide = SpatialGuide(G, C, W, S)
    features, past = guide.encode(torch.rand(2, M)).detach(), guide.initial(2)
    with torch.no_grad():
        guide.joint[-1].bias.fill_(30.0 * sign)
    mean, spread = guide.moments(features, past)
    assert (mean.abs() == 4).all()
    assert (spread <= 1.5).all()
    optimizer = torch.optim.Adam(guide.parameters(), lr=0.3)
    for _ in range(200):
        optimizer.zero_grad()
        q = guide(features, past)
        torch.distributions.kl_divergence(q.base_dist, Normal(0, 1)).sum().backward()
        optimizer.step()
    mean, spread = guide.moments(features, past)
    assert mean.abs().max() < 0.3
    assert (spread - 1).abs().max() < 0.3


def test_the_loss_of_a_fold_is_the_sum_over_single_frames():
    net = network()
    rule = inference.LocalELBO(net, weights={"x": 0.05, "u": 0.02, "foreseen_frame": 0.3})
    past = net.step(net.encode(torch.rand(4, M)), net.initial(4)).detach()
    fold = inference.Fold(torch.rand(4, M), past)
    with torch.no_grad():
        net.recognition.joint[-1].bias[C:] = -30.0  # so narrow that draws do not matter
        whole = rule.loss(fold)
        single = sum(rule.loss(fold.select([row])) for row in range(4))
    assert torch.allclose(whole, single, rtol=1e-3)


def test_the_predicted_frame_teaches_predictor_and_decoder_and_nothing_else():
    net = network()
    past = net.step(net.encode(torch.rand(4, M)), net.initial(4))
    fold = inference.Fold(torch.rand(4, M), past)
    frame = net.emit(net.amortised(fold.past.detach()).mean).log_prob(fold.obs)
    frame.sum().backward()
    taught = {name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None}
    assert taught == {"predictor", "decoder"}


def test_predict_frame_needs_a_predictor():
    with pytest.raises(ValueError, match="needs a predictor"):
        network(predictor=None)
