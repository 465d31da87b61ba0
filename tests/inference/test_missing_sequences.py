"""Values that are missing from whole sequences count for nothing, and time passes in a gap."""

import math

import numpy as np
import pytest
import torch
from seqzoo.data import PPC, Batch
from seqzoo.inference.diagnostics.sbc import sbc, simulator
from seqzoo.zoo import MDRNN, RNN, SRN, VOSP, VRAE, decoders, likelihoods, memory, path_guides
from seqzoo.zoo.models.baselines import MeanFrame, Order0
from torch import nn
from torch.nn import functional

from seqzoo import inference, zoo

B, T, M, K = 3, 7, 4, 2
MASK = torch.arange(T) < torch.tensor([7, 6, 4])[:, None]
bernoulli = likelihoods.Bernoulli(M)
nade = lambda: likelihoods.NADE(M, 5)  # noqa: E731

MODELS = {
    "VRAE": lambda s: VRAE(M, K, bernoulli, hidden=6, sees_missing=s),
    "VRAE, Markov": lambda s: VRAE(
        *(M, K, bernoulli), hidden=6, guide=path_guides.MarkovChain(6, K), sees_missing=s
    ),
    "VRAE, as published": lambda s: VRAE(
        *(M, K, bernoulli),
        encoder=memory.Reader(2 * M if s else M, 6, "both"),
        guide=path_guides.Diagonal(12, K),
        decoder=decoders.BidirectionalDecoder(K, M, 6),
        decoder_input="path",
        sees_missing=s,
    ),
    "VOSP": lambda s: VOSP(M, K, bernoulli, hidden=6, width=5, sees_missing=s),
    "VOSP, path": lambda s: VOSP(
        M, K, bernoulli, hidden=6, width=5, decoder_input="path", sees_missing=s
    ),
    "RNN": lambda s: RNN(M, bernoulli, hidden=6, sees_missing=s),
    "RNN, LSTM": lambda s: RNN(
        *(M, bernoulli),
        memory=memory.Memory(2 * M if s else M, 6, "lstm", layers=2, skip=True),
        sees_missing=s,
    ),
}
every_model = pytest.mark.parametrize("name", MODELS)
told = pytest.mark.parametrize("told", [False, True], ids=["not told", "told"])


def bits(*shape, seed=0):
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < 0.4).float()


def pattern(whole_frames=False):
    """Some values, a gap of two frames, and a dead channel; or only the gap."""
    seen = torch.rand(B, T, M, generator=torch.Generator().manual_seed(1)) > 0.25
    if whole_frames:
        seen = torch.ones(B, T, M, dtype=torch.bool)
    else:
        seen[..., 2] = False
    seen[0, 3:5] = False
    seen[1, 1] = False
    return seen


def sequences(filler=0.0, whole_frames=False):
    seen = pattern(whole_frames)
    return Batch(torch.where(seen, bits(B, T, M), filler), MASK, observed=seen)


def build(name, told=False):
    torch.manual_seed(0)
    net = MODELS[name](told)
    with torch.no_grad():
        for part in net.parameters():
            part.add_(0.3 * torch.randn_like(part))
    return net.eval()


def likelihood_of(net, batch):
    """log p(x | z) of one sample of the guide, of models without latent state log p(x)."""
    torch.manual_seed(2)
    return inference.evaluate.elbo_terms(net, inference.evaluate.prepare_whole(net, batch))[1]


# The likelihood is that of the values seen --------------------------------------------------------


@told
@every_model
def test_the_likelihood_is_a_sum_over_the_values_seen(name, told):
    net, batch = build(name, told), sequences()
    data = net.prepare(batch)
    if isinstance(net, RNN):
        natural = net.natural(batch.obs, batch.observed)[None]
    else:
        torch.manual_seed(2)
        natural = net.natural(data.belief.expand((1, B)).rsample(), data)
    each = -functional.binary_cross_entropy_with_logits(
        natural, batch.obs.expand_as(natural), reduction="none"
    )
    seen = pattern() & MASK[..., None]
    torch.testing.assert_close(likelihood_of(net, batch), each.masked_fill(~seen, 0).sum((2, 3)))


@told
@every_model
def test_nothing_depends_on_a_filler(name, told):
    """Every bound and diagnostic, and the gradient of the rule."""
    found = []
    for filler in (0.0, math.nan):
        net, batch = build(name, told), sequences(filler)
        numbers = {
            "elbo": inference.elbo(net, batch, 2),
            "importance": inference.importance_bound(net, batch, 3),
            "smoothed": inference.smoothed_bound(net, batch, 30),
            "loo": inference.loo(net, batch, 30).elpd,
        }
        if net.framewise:
            numbers["frames"] = inference.frame_bound(net, batch, 3)
            numbers["frames, smoothed"] = inference.smoothed_bound(net, batch, 30, unit="frame")
        if net.causal:
            numbers["particles"] = inference.particle_bound(net, batch, 4)
        if not isinstance(net, RNN):
            numbers["reconstruct"] = net.reconstruct(batch)
            numbers["denoise"] = inference.denoise(net, batch)
            numbers["impute"] = inference.impute(net, batch, num_chains=2, steps=2).mean
        torch.manual_seed(3)
        metrics = inference.SequenceELBO(net).gradients(batch)
        assert metrics["frames"] == batch.frames == pattern().any(-1)[MASK].sum()
        slopes = {key: part.grad for key, part in net.named_parameters() if part.requires_grad}
        found.append(numbers | metrics | slopes)
    for key, value in found[0].items():
        assert value.isfinite().all(), key
        for other in found[1:]:
            torch.testing.assert_close(other[key], value, rtol=0, atol=0, msg=key)


@told
@pytest.mark.parametrize("name", ["VRAE", "VRAE, Markov", "VOSP", "RNN"])
def test_rows_and_padding_do_not_matter(name, told):
    net, batch = build(name, told), sequences()
    longer = Batch(
        torch.cat((batch.obs, torch.full((B, 2, M), math.nan)), 1),
        torch.cat((batch.mask, torch.zeros(B, 2, dtype=torch.bool)), 1),
        observed=torch.cat((batch.observed, torch.ones(B, 2, M, dtype=torch.bool)), 1),
    )
    many = 4000 if not isinstance(net, RNN) else 1
    bounds = [inference.elbo(net, each, many) for each in (batch, longer, batch.rows([2, 0, 1]))]
    slack = 0.1 if many > 1 else 1e-4
    torch.testing.assert_close(bounds[1], bounds[0], atol=slack, rtol=0)
    torch.testing.assert_close(bounds[2], bounds[0][[2, 0, 1]], atol=slack, rtol=0)


def test_nades_take_frames_hidden_whole_and_refuse_parts():
    torch.manual_seed(0)
    net = RNN(M, nade(), hidden=6)
    batch = sequences(whole_frames=True)
    state = torch.get_rng_state()
    natural = net.natural(batch.obs, batch.observed)
    assert torch.equal(state, torch.get_rng_state())  # what is read in a gap is not random
    each = net.likelihood.distribution(natural).log_prob(batch.obs)
    seen = pattern(whole_frames=True).all(-1) & MASK
    torch.testing.assert_close(net.log_prob(batch), torch.where(seen, each, 0.0).sum(1))
    for verb in (inference.elbo, lambda net, batch: inference.SequenceELBO(net).gradients(batch)):
        with pytest.raises(ValueError, match="not independent"):
            verb(net, sequences())


class Unaware(RNN):
    """A user's network, whose density is of all values."""

    takes_missing = False


@pytest.mark.parametrize(
    "verb",
    [
        inference.elbo,
        lambda net, batch: inference.importance_bound(net, batch, 2),
        lambda net, batch: inference.smoothed_bound(net, batch, 30),
        lambda net, batch: inference.to_arviz(net, batch, 2),
        lambda net, batch: inference.frame_pit(net, batch, 2),
        lambda net, batch: inference.SequenceELBO(net).gradients(batch),
        lambda net, batch: inference.fit(inference.SequenceELBO(net), batch, progress=False),
    ],
)
def test_a_network_that_leaves_nothing_out_is_given_nothing_missing(verb):
    with pytest.raises(ValueError, match="Unaware takes no missing values"):
        verb(Unaware(M, bernoulli, hidden=6), sequences())


# What is read in a gap ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "objective"),
    [("VRAE", "elbo"), ("VRAE", "importance"), ("VRAE", "particles"), ("RNN", "elbo")],
)
def test_a_window_of_a_gap_has_finite_gradients(name, objective):
    """A data set that cuts windows serves some of which nothing was seen."""
    net = build(name)
    found = inference.SequenceELBO(net, objective=objective).gradients(
        sequences().rows([0]).window(3, 5)
    )
    assert found["frames"] == 0
    assert found["loss"].isfinite()
    assert all(part.grad is None or part.grad.isfinite().all() for part in net.parameters())


@pytest.mark.parametrize("rule", [inference.SequenceELBO, inference.LocalELBO])
def test_training_on_nothing_is_refused(rule):
    net = build("VRAE") if rule is inference.SequenceELBO else zoo.RVAE(M, K, bernoulli)
    with pytest.raises(ValueError, match="no value was seen in epoch 0"):
        inference.fit(rule(net), sequences().rows([0]).window(3, 5), epochs=1, progress=False)


def test_an_rnn_reads_what_it_expects_in_place_of_missing_values():
    net, batch = build("RNN"), sequences()
    state, expected = net.initial(B), []
    for t in range(T):
        logits = net.readout(state)
        expected.append(logits)
        frame = torch.where(pattern()[:, t], bits(B, T, M)[:, t], torch.sigmoid(logits))
        state = net.memory.net(frame[:, None], state[None].contiguous())[1][0]
    natural = net.natural(batch.obs, batch.observed)
    real = MASK[..., None].expand_as(natural)
    torch.testing.assert_close(natural[real], torch.stack(expected, 1)[real])
    predicted = inference.predict_next(net, batch, 1).mean
    torch.testing.assert_close(predicted[real], torch.sigmoid(natural)[real])


def test_the_gradient_of_an_rnn_is_that_of_its_log_likelihood():
    """Through the values that it reads in place of missing ones, too."""
    net, batch = build("RNN").double(), sequences()
    batch = Batch(batch.obs.double(), batch.mask, observed=batch.observed)
    metrics = inference.SequenceELBO(net).gradients(batch)
    weight = next(net.readout.parameters())
    slope, step, found = weight.grad[0, 0].item(), 1e-5, []
    for sign in (1, -1):
        with torch.no_grad():
            weight[0, 0] += sign * step
            found.append(-net.log_prob(batch).sum().item() / batch.frames)
            weight[0, 0] -= sign * step
    assert slope == pytest.approx((found[0] - found[1]) / (2 * step), rel=1e-4)
    assert metrics["loss"].item() == pytest.approx(sum(found) / 2, rel=1e-6)


class Turning(nn.Module):
    """A memory of the last frame, a point on a circle."""

    inputs = outputs = state_dim = 2

    def initial(self, *rows):
        return torch.zeros(*rows, 2)

    def step(self, inputs, state):
        return inputs

    def output(self, state):
        return state

    def forward(self, inputs):
        return inputs


def turning(kind):
    """A model that knows by how much the point turns in a step."""
    turn = torch.tensor([[math.cos(0.25), -math.sin(0.25)], [math.sin(0.25), math.cos(0.25)]])
    family = likelihoods.Gaussian(2, 0.1)
    if kind == "RNN":
        net = RNN(2, family, memory=Turning())
        layer = next(part for part in net.readout.modules() if isinstance(part, nn.Linear))
        layer.weight.data, layer.bias.data = turn / 0.1, torch.zeros(2)
        return net
    net = VOSP(2, 1, family, memory=Turning(), width=4)
    net.from_past.weight.data = torch.cat((turn, -turn)) / 0.1  # relu(a) - relu(-a) = a
    net.from_past.bias.data.zero_()
    net.from_latent.weight.data.zero_()
    net.decoder.weight.data = torch.cat((torch.eye(2), -torch.eye(2)), 1)
    net.decoder.bias.data.zero_()
    return net


@torch.no_grad()
def expectation(net, batch):
    """The mean of every frame given those before it, as the likelihood has it."""
    if isinstance(net, RNN):
        return net.likelihood.mean(net.natural(batch.obs, batch.observed))
    path = torch.zeros(*batch.mask.shape, 1)
    return net.likelihood.mean(net.natural(path, net.prepare(batch)))


@pytest.mark.parametrize("kind", ["RNN", "VOSP"])
def test_a_memory_goes_on_through_a_gap(kind):
    """The error after 20 hidden frames is that without a gap; not so where they are cut out."""
    phase = 0.25 * torch.arange(30) + torch.tensor([[0.0], [1.0]])
    obs, net = torch.stack((phase.cos(), phase.sin()), -1), turning(kind)
    gap = torch.ones(2, 30, dtype=torch.bool)
    gap[:, 5:25] = False
    errors = {}
    for name, batch in {
        "whole": Batch(obs),
        "gap": Batch(obs, gap),
        "hidden": Batch(obs, observed=gap[..., None].expand_as(obs)),
        "cut": Batch(obs[:, gap[0]]),
    }.items():
        first = 5 if name == "cut" else 25
        for predicted in (expectation(net, batch), inference.predict_next(net, batch, 1).mean):
            error = float((predicted[:, first] - obs[:, 25]).square().mean())
            assert error == pytest.approx(errors.setdefault(name, error), abs=1e-9)
    assert errors["gap"] == errors["hidden"] < 1e-8
    assert errors["whole"] < 1e-8
    assert errors["cut"] > 0.1


# Restoring ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["VRAE", "VRAE, as published", "VOSP"])
def test_denoising_knows_nothing_of_missing_keys(name):
    """Keys that sound whatever the path, with known probabilities: each has a closed form."""
    net, rate = build(name, told=True), 0.1
    chance = torch.tensor([0.2, 0.5, 0.7, 0.9])
    last = [part for part in net.decoder.modules() if isinstance(part, nn.Linear)][-1]
    last.weight.data.zero_()
    last.bias.data = torch.logit(chance)
    batch = sequences()
    found = inference.denoise(net, batch, rate, num_samples=3, probabilities=True)
    heard = chance / (chance + (1 - chance) * rate)
    expected = torch.where(pattern(), batch.obs * heard, chance)
    torch.testing.assert_close(
        found, expected.masked_fill(~MASK[..., None], 0.0), atol=1e-4, rtol=0
    )


def test_noisy_memory_needs_whole_frames():
    with pytest.raises(ValueError, match="memory_input"):
        inference.denoise(build("VOSP"), sequences(), 0.1, memory_input="noisy")


# Diagnostics -------------------------------------------------------------------------------------


def test_diagnostics_have_no_number_where_nothing_was_seen():
    net, batch = build("VRAE"), sequences()
    seen = pattern().any(-1) & MASK
    found = inference.loo(net, batch, 30, unit="frame")
    assert torch.equal(found.elpd.isnan(), ~seen)
    tree = inference.to_arviz(net, batch, 3)
    observed = np.asarray(tree["observed_data"]["x"])
    assert np.array_equal(np.isnan(observed), ~(pattern() & MASK[..., None]).numpy())
    scores = np.asarray(tree["log_likelihood"]["x"])[0, 0]
    assert np.array_equal(np.isnan(scores), ~seen.numpy())
    drawn = np.asarray(tree["posterior_predictive"]["x"])[0, 0]
    assert np.array_equal(np.isnan(drawn), ~MASK[..., None].expand(B, T, M).numpy())
    pits = inference.frame_pit(build("RNN"), batch, 9)
    assert torch.equal(pits.isnan(), ~(pattern() & MASK[..., None]))


class Known(nn.Module):
    """An encoder of z ~ N(0, 1), x_m | z ~ N(z, 1): the posterior given the values seen."""

    features_dim, dim = 2, 1

    def forward(self, frames, mask, *others):
        if others:  # it is the guide, too
            return inference.LinearChain(mask, 0.0, frames[..., :1], frames[..., 1:])
        values, seen = frames.chunk(2, -1)
        variance = 1 / (1 + seen.sum(-1, keepdim=True))
        return torch.cat((values.sum(-1, keepdim=True) * variance, variance.sqrt()), -1)


class Repeated(nn.Module):
    """A decoder that puts z_t in every place."""

    causal = False

    def forward(self, inputs, mask):
        return inputs.expand(*inputs.shape[:-1], M)


def test_an_exact_guide_is_calibrated_where_values_are_missing():
    net = VRAE(
        *(M, 1, likelihoods.Gaussian(M)),
        prior=zoo.priors.WhiteNoise(1),
        encoder=Known(),
        guide=Known(),
        decoder=Repeated(),
        sees_missing=True,
    )
    batch = sequences()
    spread = inference.importance_bound(net, batch, 1, seed=1) - inference.elbo(net, batch)
    found = sbc(simulator(net, batch), rounds=60, num_samples=19)
    assert found.p_value() > 0.01
    assert spread.abs().max() < 20


# Networks that answer, and averages --------------------------------------------------------------


@pytest.mark.parametrize("stochastic", [0.0, 0.5])
def test_a_network_that_answers_reads_which_inputs_were_seen(stochastic):
    """It is one of twice as many inputs, and no answer is asked in a gap."""
    how = {"hidden": 6, "stochastic": stochastic, "every_step": True}
    torch.manual_seed(0)
    net = SRN(M, likelihoods.Bernoulli(3), **how, sees_missing=True)
    plain = SRN(2 * M, likelihoods.Bernoulli(3), **how)
    plain.load_state_dict(net.state_dict())
    target, gap = bits(B, T, 3, seed=5), MASK.clone()
    gap[0, 2:4] = False
    values = torch.where(gap[..., None], bits(B, T, M), 0.0)
    read = torch.cat((values, gap[..., None].expand_as(values).float()), -1)
    rows = Batch(read, gap, target)  # a gap, of which plain takes no notice of the answers
    found = []
    for filler in (0.0, math.nan):
        asked = torch.where(gap[..., None], target, filler)
        batch = Batch(torch.where(gap[..., None], bits(B, T, M), filler), gap, asked)
        metrics = inference.StraightThrough(net, num_samples=4)
        torch.manual_seed(2)
        metrics = metrics.gradients(batch)
        assert metrics["frames"] == gap.sum()
        found.append((net.log_prob(batch, 5), metrics["loss"], net.predict(batch)))
    torch.testing.assert_close(found[0], found[1])
    mean = plain.predict(Batch(read, MASK))
    torch.testing.assert_close(found[0][2], mean)
    if not stochastic:
        each = -functional.binary_cross_entropy(mean, target, reduction="none").sum(-1)
        torch.testing.assert_close(found[0][0], torch.where(gap, each, 0.0).sum(1))
    assert rows.observed is not None
    with pytest.raises(ValueError, match="SRN takes no missing values"):
        plain.log_prob(rows)


class Unchecked(MDRNN):
    """A user's network that checks nothing itself."""

    def prepare(self, batch):
        return batch


@pytest.mark.parametrize("rule", [inference.TargetPropagation, inference.OutputBPTT])
def test_rules_of_answers_take_missing_inputs_or_refuse_them(rule):
    seen, target = pattern(), torch.rand(B, 2)
    for told in (True, False):
        net = MDRNN(M, 2, hidden=5, sees_missing=told)
        batch = Batch(bits(B, T, M), MASK, target, observed=seen)
        if told:
            assert rule(net).gradients(batch)["loss"].isfinite()
            assert net.from_input.weight.grad[:, M:].any()
            cosines = inference.target_alignment(inference.TargetPropagation(net), batch)
            assert cosines[-1] == pytest.approx(1, abs=1e-4)
            continue
        with pytest.raises(ValueError, match="sees_missing=True"):
            rule(net).gradients(batch)
        net = Unchecked(M, 2, hidden=5)
        with pytest.raises(ValueError, match="takes no missing values"):
            rule(net).gradients(batch)


def test_the_average_is_of_the_values_seen():
    net, batch = MeanFrame(M), sequences(50.0)
    inference.fit(inference.Average(net), batch, progress=False)
    seen = pattern() & MASK[..., None]
    for m in range(M):
        values = bits(B, T, M)[..., m][seen[..., m]]
        assert net.mean[m].item() == pytest.approx(float(values.mean()) if len(values) else 0.0)
    with pytest.raises(ValueError, match="Order0 takes no missing values"):
        Order0().reconstruct(batch)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["RNN", "VOSP"])
def test_a_model_learns_from_what_was_seen_nearly_as_well_as_from_all(kind):
    """30 % of the values missing, and a dead channel; zeros in their place teach less."""
    neurons, dead = 15, 4
    obs, test = (PPC(n, 40, seed=seed).batch().obs for n, seed in ((120, 0), (60, 1)))
    seen = torch.rand(obs.shape, generator=torch.Generator().manual_seed(0)) > 0.3
    alive = torch.arange(neurons) != dead
    held_out, poisson = Batch(test, observed=alive.expand_as(test)), likelihoods.Poisson(neurons)
    scores = {}
    for name, batch in {
        "whole": Batch(obs),
        "missing": Batch(obs, observed=seen & alive),
        "told": Batch(obs, observed=seen & alive),
        "zeros": Batch(obs * (seen & alive)),
    }.items():
        torch.manual_seed(0)
        if kind == "RNN":
            net = RNN(neurons, poisson, hidden=40, sees_missing=name == "told")
        else:
            net = VOSP(neurons, 3, poisson, hidden=40, width=40, sees_missing=name == "told")
        how = {"epochs": 12, "lr": 5e-3, "batch_size": 20, "clip": 5.0}
        inference.fit(inference.SequenceELBO(net), batch, progress=False, **how)
        scores[name] = float(inference.elbo(net, held_out, 5).sum()) / held_out.frames
    assert scores["missing"] > scores["whole"] - 0.3
    assert scores["told"] > scores["whole"] - 0.5
    assert scores["zeros"] < scores["whole"] - 0.5
