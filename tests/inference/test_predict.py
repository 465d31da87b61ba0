"""Prediction and generation against laws that can be written out."""

import itertools
import math

import pytest
import torch
from seqzoo.data import Batch, BouncingBalls
from seqzoo.inference.laplace import explaining_posterior, resample
from seqzoo.zoo.models import baselines
from seqzoo.zoo.parts.likelihoods import Bernoulli, Gaussian

from seqzoo import inference, zoo

B, T, M = 3, 7, 4


def bits(n):
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=n)))


def harmonium(kind, visible=3, hidden=2, seed=0):
    torch.manual_seed(seed)
    net = kind(visible, hidden, Bernoulli(visible), scale=1.0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return net


@pytest.fixture
def obs():
    torch.manual_seed(1)
    return torch.rand(B, T, M).round()


PREDICTORS = {
    "order 0": baselines.Order0,
    "mean": lambda: baselines.MeanFrame(M),
    "REFH": lambda: harmonium(zoo.REFH, M, 5),
    "TRBM": lambda: harmonium(zoo.TRBM, M, 5),
    "RTRBM": lambda: harmonium(zoo.RTRBM, M, 5),
    "RVAE": lambda: zoo.RVAE(M, 2, Bernoulli(M), hidden=6),
    "RVAE, linear": lambda: zoo.RVAE(M, 2, Bernoulli(M), hidden=6, past_hidden=0),
    "RVAE, means": lambda: zoo.RVAE(M, 2, Bernoulli(M), hidden=6, statistics="mean"),
    "TVAE": lambda: zoo.TVAE(M, 2, Bernoulli(M), hidden=6),
}


@pytest.fixture(params=list(PREDICTORS))
def net(request):
    torch.manual_seed(0)
    return PREDICTORS[request.param]()


# What every predictor does -------------------------------------------------------------------


def test_a_prediction_has_the_shape_promised(net, obs):
    predicted = inference.predict_next(net, obs, num_samples=5)
    assert predicted.samples.shape == (5, B, T, M)
    torch.testing.assert_close(predicted.mean, predicted.samples.mean(0))
    assert ((predicted.samples >= 0) & (predicted.samples <= 1)).all()


def test_a_prediction_looks_at_earlier_frames_alone(net, obs):
    changed = obs.clone()
    changed[:, 4:] = 1 - changed[:, 4:]
    first, second = (
        inference.predict_next(net, film, num_samples=3).samples for film in (obs, changed)
    )
    assert torch.equal(first[:, :, :5], second[:, :, :5])
    if not isinstance(net, baselines.MeanFrame):
        assert not torch.equal(first[:, :, 5:], second[:, :, 5:])


def test_predictions_follow_their_seed_and_leave_the_random_state_alone(net, obs):
    state = torch.get_rng_state()
    first = inference.predict_next(net, obs, num_samples=3, seed=2).samples
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first, inference.predict_next(net, obs, num_samples=3, seed=2).samples)
    if not isinstance(net, baselines.Memoryless):
        other = inference.predict_next(net, obs, num_samples=3, seed=3).samples
        assert not torch.equal(first, other)
        assert not torch.equal(first[0], first[1])  # chains are not copies of one another


def test_padding_changes_no_prediction(net, obs):
    padded = torch.cat((obs, torch.full((B, 2, M), float("nan"))), 1)
    mask = (torch.arange(T + 2) < T).expand(B, -1)
    predicted = inference.predict_next(net, Batch(padded, mask), num_samples=3).samples
    assert torch.equal(predicted[:, :, :T], inference.predict_next(net, obs, num_samples=3).samples)
    assert (predicted[:, :, T:] == 0).all()


def test_many_frames_are_predicted_in_pieces(net, obs, monkeypatch):
    monkeypatch.setattr(inference.ahead, "FRAMES", 5)
    sizes, predict = [], net.sample_next
    monkeypatch.setattr(
        net, "sample_next", lambda past, *rest: sizes.append(len(past)) or predict(past, *rest)
    )
    predicted = inference.predict_next(net, obs, num_samples=2).samples
    assert sizes == [5, 5, 5, 5, 1]
    assert predicted.shape == (2, B, T, M)


def test_a_rollout_goes_on_from_the_last_real_frame(net, obs):
    state = torch.get_rng_state()
    film = inference.rollout(net, obs, 4, num_samples=2, seed=1).samples
    assert torch.equal(state, torch.get_rng_state())
    assert film.shape == (2, B, 4, M)
    padded = torch.cat((obs, torch.zeros(B, 2, M)), 1)
    mask = (torch.arange(T + 2) < T).expand(B, -1)
    assert torch.equal(
        film, inference.rollout(net, Batch(padded, mask), 4, num_samples=2, seed=1).samples
    )
    if isinstance(net, baselines.Order0):
        assert (film == obs[:, -1:]).all()


def test_what_cannot_be_predicted_is_refused(net, obs):
    with pytest.raises(ValueError, match="num_samples must be at least 1"):
        inference.predict_next(net, obs, num_samples=0)
    with pytest.raises(ValueError, match="frames must be at least 1"):
        inference.rollout(net, obs, 0)
    with pytest.raises(ValueError, match="NaN"):
        inference.predict_next(net, obs * float("nan"))
    with pytest.raises(ValueError, match="SRN predicts no next frame"):
        inference.predict_next(zoo.SRN(M, zoo.likelihoods.Categorical(3), hidden=4), obs)
    with pytest.raises(ValueError, match="LGDS has no statistics of the past"):
        inference.run_filter(zoo.LGDS(M, M), obs)


# Baselines -------------------------------------------------------------------------------------


def test_order_0_expects_the_frame_before(obs):
    predicted = inference.predict_next(baselines.Order0(), obs).mean
    assert torch.equal(predicted[:, 1:], obs[:, :-1])


def test_the_mean_frame_is_the_mean_of_real_frames(obs):
    net = baselines.MeanFrame(M)
    mask = torch.ones(B, T, dtype=torch.bool)
    mask[0, 3:] = False
    error = inference.Average(net).learn(_batch(obs, mask))
    frames = obs[mask]
    torch.testing.assert_close(net.mean, frames.mean(0))
    assert error == [pytest.approx(float(frames.var(0, correction=0).mean()))]


def _batch(obs, mask):
    from seqzoo.data import Batch

    return Batch(obs, mask)


# Harmoniums, against enumeration -----------------------------------------------------------------


def law_of_frame(net, past):
    """p(y | u) over all frames, for one u ``[H]``."""
    frames = bits(net.obs_dim)
    energy = net.free_energy(frames, past.expand(len(frames), -1))
    return frames, (-energy).softmax(0)


@pytest.mark.parametrize("kind", [zoo.REFH, zoo.TRBM, zoo.RTRBM])
@pytest.mark.parametrize("start", ["random", "previous"])
def test_clamped_chains_reach_the_law_of_the_frame(kind, start):
    net = harmonium(kind)
    past = torch.tensor([[0.2, 0.9], [1.0, 0.0]])
    predicted = net.sample_next(
        past, torch.ones(2, 3), num_samples=40_000, steps=30, start=start
    ).mean(0)
    for u, obtained in zip(past, predicted):
        frames, law = law_of_frame(net, u)
        hidden = net.step(net.encode(frames), u.expand(len(frames), -1))
        expected = law @ net.likelihood.mean(net.emission(hidden))  # a mean of means
        torch.testing.assert_close(obtained, expected.detach(), atol=0.01, rtol=0)


def test_rounds_of_means_follow_the_chain():
    net, past, previous = harmonium(zoo.REFH), torch.rand(2, 2), torch.rand(2, 3).round()
    expected = previous
    for _ in range(3):
        expected = net.likelihood.mean(net.emission(net.step(net.encode(expected), past)))
    found = net.sample_next(past, previous, 1, steps=0, means=3, start="previous")[0]
    torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match="means must be at least 1"):
        net.sample_next(past, previous, means=0)


def test_no_gibbs_step_shows_the_start():
    net = harmonium(zoo.REFH)
    past = torch.rand(2, 2)
    previous = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    expected = net.likelihood.mean(net.emission(net.step(net.encode(previous), past)))
    assert torch.equal(net.sample_next(past, previous, 1, steps=0, start="previous")[0], expected)
    with pytest.raises(ValueError, match="start must be 'random' or 'previous'"):
        net.sample_next(past, previous, start="zero")


def test_the_rEFH_backwards_follows_its_own_joint():
    """The last frame has the marginal law of y; the one before follows from x_T through u."""
    net = harmonium(zoo.REFH, visible=2, hidden=2)
    film = net.sample(40_000, 2, gibbs_steps=40, direction="backwards")
    states = bits(2)
    x, y, u = (grid.flatten() for grid in torch.meshgrid(*[torch.arange(4)] * 3, indexing="ij"))
    drive = states[y] @ net.obs_weight.T + states[u] @ net.past_weight.T + net.hidden_bias
    score = (states[x] * drive).sum(1) + states[y] @ net.obs_bias + states[u] @ net.past_bias
    joint = score.softmax(0)
    marginal_y = torch.zeros(4).index_add(0, y, joint) @ states
    marginal_x = torch.zeros(4).index_add(0, x, joint)
    torch.testing.assert_close(film[:, 1].mean(0), marginal_y.detach(), atol=0.01, rtol=0)
    before = torch.sigmoid(net.past_emission(states))  # mean of x_{T-1} given x_T
    bernoulli = torch.where(states.bool()[None], before[:, None], 1 - before[:, None]).prod(-1)
    earlier = (marginal_x @ bernoulli) @ torch.sigmoid(net.emission(states))
    torch.testing.assert_close(film[:, 0].mean(0), earlier.detach(), atol=0.01, rtol=0)


def test_film_without_noise_shows_means(net):
    if isinstance(net, baselines.Memoryless):
        pytest.skip("generates nothing")
    noisy, clean = (net.sample(50, 3, seed=2, noise=noise) for noise in (True, False))
    assert ((noisy == 0) | (noisy == 1)).all()
    assert ((clean > 0) & (clean < 1)).all()


@pytest.mark.parametrize(
    ("name", "directions"),
    [
        ("REFH", ("forwards", "backwards")),
        ("TRBM", ("forwards",)),
        ("RVAE", ("backwards", "forwards")),
        ("TVAE", ("forwards",)),
    ],
)
def test_directions_of_time(name, directions):
    net = PREDICTORS[name]()
    assert net.directions == directions
    films = [net.sample(2, 6, seed=1, direction=way) for way in directions]
    assert all(film.shape == (2, 6, M) for film in films)
    assert torch.equal(films[0], net.sample(2, 6, seed=1))  # the first is the default
    for way in {"forwards", "backwards", "sideways"} - set(directions):
        with pytest.raises(ValueError, match=f"not '{way}'"):
            net.sample(2, 6, direction=way)


# The rVAE's p(x | u) -----------------------------------------------------------------------------


def test_a_linear_past_has_an_exact_posterior():
    """Against conditioning the joint Gaussian of (x, u)."""
    torch.manual_seed(0)
    K, U, N = 3, 5, 4
    line = torch.nn.Linear(K, U).double()
    scale = torch.rand(U, dtype=torch.float64) + 0.2
    value = torch.randn(N, U, dtype=torch.float64)
    found = explaining_posterior(line, value, scale, K)
    W, eye = line.weight, torch.eye(K, dtype=torch.float64)
    joint_u = W @ W.T + torch.diag(scale**2)
    gain = W.T @ torch.linalg.inv(joint_u)
    torch.testing.assert_close(found.mean, (value - line.bias) @ gain.T)
    expected = (eye - gain @ W).expand(N, K, K)
    torch.testing.assert_close(found.covariance_matrix, expected)


def rvae_of_one_dimension(bend):
    """An rVAE with one latent and u = (mean, spread), whose mu_u is bent."""

    class Bent(torch.nn.Module):
        def forward(self, x):
            return torch.cat((torch.tanh(bend * x) + 0.1 * x, 0.5 + 0.2 * x.square()), -1)

    return zoo.RVAE(M, 1, Bernoulli(M), hidden=4, past_scale=[0.3, 0.4], past_decoder=Bent())


@pytest.mark.parametrize("u", [[0.7, 0.6], [-0.1, 0.9], [1.2, 2.0]])
def test_the_predictive_posterior_against_numerical_integration(u):
    net = rvae_of_one_dimension(bend=1.5)
    past = torch.tensor([u])
    x = torch.linspace(-6, 6, 20_001)[:, None]
    prior = torch.exp(-(x[:, 0] ** 2) / 2)
    residual = (past - net.past_decoder(x)) / torch.tensor([0.3, 0.4])
    density = prior * torch.exp(-residual.square().sum(1) / 2)
    density = density / density.sum()
    mean = float((density * x[:, 0]).sum())
    deviation = math.sqrt(float((density * (x[:, 0] - mean) ** 2).sum()))
    torch.manual_seed(0)
    drawn = net.sample_state(past, 20_000, num_particles=20_000)[:, 0, 0]
    assert float(drawn.mean()) == pytest.approx(mean, abs=0.05 * deviation + 0.01)
    assert float(drawn.std()) == pytest.approx(deviation, rel=0.1)
    # and the sites of the Pyro model say the same, up to a constant
    log_joint = net._log_joint(x, past.expand(len(x), -1))
    torch.testing.assert_close(log_joint.softmax(0), density, atol=1e-7, rtol=1e-3)


def test_resampling_mends_a_wrong_proposal():
    target = torch.distributions.Normal(torch.tensor([1.0, -0.5]), 0.5)
    proposal = torch.distributions.Normal(torch.zeros(2, 1), 1.5)
    proposal = torch.distributions.Independent(proposal, 1)
    torch.manual_seed(0)
    drawn, size = resample(lambda x: target.log_prob(x[..., 0]) + 3.0, proposal, 5000, 5000)
    assert drawn.shape == (5000, 2, 1)
    torch.testing.assert_close(drawn[..., 0].mean(0), target.mean, atol=0.05, rtol=0)
    torch.testing.assert_close(drawn[..., 0].std(0), target.stddev, atol=0.05, rtol=0)
    assert ((size > 500) & (size < 5000)).all()


def test_a_blank_past_foresees_the_prior():
    net = PREDICTORS["RVAE, linear"]()
    past = torch.cat((net.initial(1), net.step(net.encode(torch.ones(1, M)), net.initial(1))))
    torch.manual_seed(0)
    drawn = net.sample_state(past, 20_000)
    torch.testing.assert_close(drawn[:, 0].mean(0), torch.zeros(2), atol=0.03, rtol=0)
    torch.testing.assert_close(drawn[:, 0].std(0), torch.ones(2), atol=0.03, rtol=0)
    assert (drawn[:, 1].std(0) < 0.5).all()


def test_the_rVAE_cannot_sample_its_past_by_gibbs(obs):
    net = PREDICTORS["RVAE"]()
    with pytest.raises(ValueError, match="clamp_past=True"):
        net.gibbs(obs[:, 0], net.initial(B), 1, clamp_past=False)


# Convergence --------------------------------------------------------------------------------


def test_chains_that_agree_and_chains_that_do_not():
    torch.manual_seed(0)
    draws = torch.randn(6, 200, 2, 3)
    draws[:3, :, 1] += 4.0
    found = inference.convergence(draws)
    assert found.rhat.shape == found.ess.shape == (2, 3)
    assert (found.rhat[0] < 1.02).all()
    assert (found.ess[0] > 800).all()
    assert (found.rhat[1] > 1.5).all()
    assert (found.ess[1] < 30).all()


def test_the_effective_sample_size_of_an_autoregression():
    torch.manual_seed(0)
    draws, a = torch.randn(4, 4000), 0.8
    for t in range(1, 4000):
        draws[:, t] = a * draws[:, t - 1] + math.sqrt(1 - a * a) * draws[:, t]
    found = inference.convergence(draws)
    assert float(found.ess) == pytest.approx(16_000 * (1 - a) / (1 + a), rel=0.2)


def test_convergence_needs_chains():
    with pytest.raises(ValueError, match="at least 2 chains"):
        inference.convergence(torch.zeros(1, 100))


def test_draws_that_do_not_move_have_no_effective_size():
    draws = torch.randn(3, 20, 2, generator=torch.Generator().manual_seed(0))
    draws[..., 0] = 4.0
    found = inference.convergence(draws)
    assert found.rhat.isnan().tolist() == found.ess.isnan().tolist() == [True, False]
    assert inference.convergence(torch.ones(2, 10)).ess.isnan()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"num_samples": 0}, "num_samples must be at least 1, got 0"),
        ({"num_chains": 0}, "num_chains must be at least 1, got 0"),
        ({"num_probes": 0}, "num_probes must be at least 1, got 0"),
        ({"num_warmup": -1}, "num_warmup must be at least 0, got -1"),
        ({"past": torch.zeros(2, 7)}, r"\[N, 3\] for this TRBM: got \(2, 7\)"),
        ({"past": torch.zeros(3)}, r"\[N, 3\] for this TRBM: got \(3,\)"),
        ({"past": torch.zeros(0, 3)}, r"\[N, 3\] for this TRBM: got \(0, 3\)"),
        ({"past": Batch(torch.zeros(2, 5, 2))}, r"\[N, 3\] for this TRBM: got a Batch"),
        ({"net": zoo.LGDS(2)}, "LGDS has no Gibbs chains of frames"),
    ],
)
def test_chains_that_cannot_be_followed(how, message):
    net = zoo.TRBM(2, 3, Bernoulli(2))
    with pytest.raises(ValueError, match=message):
        inference.clamped_gibbs(**{"net": net, "past": torch.zeros(2, 3), **how})


@pytest.mark.parametrize("name", ["REFH", "TRBM", "RVAE"])
def test_clamped_chains_can_be_followed(name):
    net = PREDICTORS[name]()
    past = net.step(net.encode(torch.rand(2, M).round()), net.initial(2))
    kept, state = past.clone(), torch.get_rng_state()
    followed = inference.clamped_gibbs(
        net, past, num_chains=3, num_samples=9, num_warmup=2, num_probes=4
    )
    assert followed.shape == (3, 9, 2, 4)
    assert torch.equal(past, kept)
    assert torch.equal(state, torch.get_rng_state())


def test_a_weak_harmonium_converges_and_a_strong_one_sticks():
    """Two visible units that insist on being alike: the more they do, the less chains agree."""
    found = []
    for strength in (0.5, 25.0):
        net = zoo.TRBM(2, 1, Bernoulli(2))
        with torch.no_grad():
            net.obs_weight.fill_(strength)
            net.obs_bias.fill_(-strength / 2)
            net.hidden_bias.fill_(-strength)
        followed = inference.clamped_gibbs(net, torch.zeros(1, 1), num_samples=50)
        found.append(float(inference.convergence(followed).rhat.max()))
    assert found[0] < 1.05
    assert found[1] > 1.5


@pytest.mark.parametrize("pixels", [Bernoulli(144, grey=True), Gaussian(144, scale=0.2)])
def test_balls_are_predicted_with_the_nets_of_film(pixels):
    """Convolutional nets in both VAEs, on real film."""
    film = BouncingBalls(2, 5, size=12).obs
    for kind in (zoo.RVAE, zoo.TVAE):
        encoder = zoo.nets.ConvEncoder(12, 8, (2, 3))
        guide = zoo.guides.GaussianGuide(144, 3, hidden=8, encoder=encoder)
        decoder = zoo.nets.ConvDecoder(3, 12, 8, (3, 2))
        net = kind(144, 3, pixels, 8, guide=guide, decoder=decoder)
        assert inference.predict_next(net, film, num_samples=2).samples.shape == (2, 2, 5, 144)
        loss = inference.LocalELBO(net).gradients(_batch(film, None))["loss"]
        assert torch.isfinite(loss)
        assert all(parameter.grad is not None for parameter in net.parameters())


# Training from where prediction starts -------------------------------------------------------


@pytest.mark.parametrize("kind", [zoo.REFH, zoo.TRBM])
def test_chains_from_random_visibles_give_the_gradient_of_the_conditional(kind):
    """Long chains with u clamped: the gradient of -log p(y | u), which can be enumerated."""
    net = harmonium(kind)
    torch.manual_seed(3)
    obs, past = torch.rand(4, 3).round(), torch.rand(4, 2)
    many = inference.Fold(obs.repeat(20_000, 1), past.repeat(20_000, 1))
    rule = inference.ContrastiveDivergence(net, random=1.0, random_k=40)
    rule.loss(many).div(many.rows).backward()
    found = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    frames = bits(3)
    every = torch.stack([-net.free_energy(frames, u.expand(8, -1)) for u in past])
    (every.logsumexp(1) + net.free_energy(obs, past)).mean().backward()
    for name, parameter in net.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad, atol=0.01, rtol=0)


def test_a_share_of_the_chains_starts_far_from_the_data(monkeypatch):
    net, seen = harmonium(zoo.REFH, M, 5), []

    def gibbs(obs, past, steps, clamp_past=False):
        seen.append((len(obs), steps, clamp_past, bool((obs == 0.5).all())))
        return obs, past

    monkeypatch.setattr(net, "gibbs", gibbs)
    monkeypatch.setattr(net, "random_frames", lambda frames: torch.full((frames, M), 0.5))
    rule = inference.ContrastiveDivergence(net, k=[1, 4, 0.5], random=0.25, random_k=6)
    batch = _batch(torch.rand(5, 8, M).round(), None)
    rule.gradients(batch)
    assert seen == [(10, 6, True, True), (30, 1, False, False)]
    rule.done = 0.9
    rule.gradients(batch)
    assert seen[2:] == [(10, 6, True, True), (30, 4, False, False)]
    rule.done = 0.25  # two steps, by geometric interpolation
    assert rule._steps(rule.k) == 2
    steps = [rule._steps(2.25) for _ in range(2000)]
    assert set(steps) == {2, 3}
    assert sum(steps) / 2000 == pytest.approx(2.25, abs=0.05)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"k": 0}, "k must be at least 1"),
        ({"k": [0.5, 4, 0.5]}, "k must be at least 1"),
        ({"random_k": 0}, "random_k must be at least 1"),
        ({"random": 1.5}, r"random must be"),
    ],
)
def test_chains_that_cannot_be(how, message):
    with pytest.raises(ValueError, match=message):
        inference.ContrastiveDivergence(harmonium(zoo.REFH), **how)
