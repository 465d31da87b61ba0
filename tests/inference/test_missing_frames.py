"""Values that are missing from single frames count for nothing, and time passes in a gap."""

import dataclasses
import math

import pytest
import torch
from pyro import poutine
from seqzoo.data import PPC, Batch, ppc
from seqzoo.inference import BPTT, ContrastiveDivergence, Fold, LocalELBO, sweep
from seqzoo.inference.diagnostics.sbc import sbc, simulator
from seqzoo.zoo.parts.likelihoods import NADE, Bernoulli, Gaussian, Poisson
from torch import nn
from torch.testing import assert_close

from seqzoo import inference, zoo

pytestmark = pytest.mark.usefixtures("one_step")

B, T, M = 3, 9, 4
MASK = torch.arange(T) < torch.tensor([9, 7, 5])[:, None]

MODELS = {
    "RVAE": lambda y: zoo.RVAE(M, 2, y, hidden=6),
    "RVAE, told": lambda y: zoo.RVAE(M, 2, y, hidden=6, sees_missing=True),
    "RVAE, predictor": lambda y: zoo.RVAE(
        *(M, 2, y), hidden=6, predictor_hidden=5, predict_frame=True, statistics="mean"
    ),
    "TVAE": lambda y: zoo.TVAE(M, 2, y, hidden=6),
    "TVAE, told": lambda y: zoo.TVAE(M, 2, y, hidden=6, sees_missing=True),
    "TVAE, static": lambda y: zoo.TVAE(M, 2, y, hidden=6, transition=False),
    "REFH": lambda y: zoo.REFH(M, 5, y, scale=0.5),
    "TRBM": lambda y: zoo.TRBM(M, 5, y, scale=0.5),
    "RTRBM": lambda y: zoo.RTRBM(M, 5, y, scale=0.5),
}
RULES = {
    "whole": lambda net: rule_of(net)(net),
    "windows": lambda net: rule_of(net)(net, window=4),
    "through time": lambda net: (
        BPTT(net, window=5, drop_past=0.3)
        if isinstance(net, inference.FrameModel)
        else ContrastiveDivergence(net, through_time=True)
    ),
    "minibatches": lambda net: (
        LocalELBO(net, minibatch=5, drop_past=0.4)
        if isinstance(net, inference.FrameModel)
        else ContrastiveDivergence(net, minibatch=5, drop_past=0.4, through_time=False)
    ),
    "other": lambda net: (
        LocalELBO(net, num_samples=2, bound="iwae")
        if isinstance(net, inference.FrameModel)
        else ContrastiveDivergence(
            net, random=0.5, random_k=2, sample_past=True, through_time=False
        )
    ),
}
every_model = pytest.mark.parametrize("name", MODELS)
every_vae = pytest.mark.parametrize("name", [name for name in MODELS if "VAE" in name])
every_harmonium = pytest.mark.parametrize("name", ["REFH", "TRBM", "RTRBM"])


def rule_of(net):
    return LocalELBO if isinstance(net, inference.FrameModel) else ContrastiveDivergence


def build(name, likelihood=None):
    torch.manual_seed(0)
    net = MODELS[name](likelihood or Poisson(M))
    with torch.no_grad():
        for part in net.parameters():
            part.add_(0.2 * torch.randn_like(part))
    return net


def pattern():
    """Some values, a dead channel, a gap of three frames, and a first frame that was not seen."""
    seen = torch.rand(B, T, M, generator=torch.Generator().manual_seed(1)) > 0.3
    seen[..., 2] = False
    seen[0, 3:6] = seen[1, 0] = False
    seen[0, 0] = True  # one frame that is whole
    return seen


def sequences(filler=0.0, seen=None):
    counts = torch.poisson(torch.full((B, T, M), 2.0), torch.Generator().manual_seed(2))
    seen = pattern() if seen is None else seen
    return Batch(torch.where(seen, counts, filler), MASK, observed=seen)


def learned(rule, batch):
    """Metrics and gradients of all updates, by name."""
    torch.manual_seed(3)
    found = {}
    for number, metrics in enumerate(rule.updates(batch)):
        found |= {f"{key} {number}": value for key, value in metrics.items()}
        for name, part in rule.net.named_parameters():
            if part.grad is not None:
                found[f"{name} {number}"] = part.grad.clone()
    return found


# Rules --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rule"),
    [(name, rule) for name in ("RVAE, told", "TVAE", "REFH") for rule in RULES]
    + [(name, "whole") for name in MODELS if name not in ("RVAE, told", "TVAE", "REFH")]
    + [("RVAE", "minibatches"), ("RVAE, predictor", "through time"), ("RTRBM", "through time")],
)
def test_no_gradient_depends_on_a_filler(name, rule):
    found = [learned(RULES[rule](build(name)), sequences(filler)) for filler in (0.0, math.nan)]
    assert set(found[0]) == set(found[1])
    for key, value in found[0].items():
        assert torch.equal(value, found[1][key]), key
        assert value.isfinite().all(), key


@every_model
def test_frames_of_which_nothing_was_seen_are_not_counted(name):
    batch = sequences()
    metrics = rule_of(build(name))(build(name)).gradients(batch)
    assert metrics["frames"] == batch.frames == batch.observed.any(-1).sum() < MASK.sum()


@every_model
def test_rows_windows_and_padding_do_not_matter(name):
    net, batch = build(name), sequences()
    padded = Batch(
        torch.cat((batch.obs, torch.full((B, 2, M), math.nan)), 1),
        torch.cat((batch.mask, torch.zeros(B, 2, dtype=torch.bool)), 1),
        observed=torch.cat((batch.observed, torch.ones(B, 2, M, dtype=torch.bool)), 1),
    )
    with torch.no_grad():
        whole = sweep(net, batch, net.initial(B)).statistics
        assert_close(sweep(net, padded, net.initial(B)).statistics[:, : T + 1], whole)
        row = sweep(net, batch.rows([1]), net.initial(1)).statistics
        assert_close(row, whole[1:2])
        past, parts = net.initial(B), []
        for start in range(0, T, 2):
            swept = sweep(net, batch.window(start, start + 2), past).statistics
            parts.append(swept[:, :-1])
            past = swept[:, -1]
    assert_close(torch.cat((*parts, past[:, None]), 1), whole)


def test_a_gap_alone_leaves_the_arithmetic_of_whole_frames():
    """A fold whose frames are whole has no ``observed``, so that a NADE takes it, too."""
    seen = torch.ones(B, T, M, dtype=torch.bool)
    seen[0, 3:6] = False
    net = build("RVAE", NADE(M, 3))
    bits = Batch(sequences(seen=seen).obs.clamp_max(1), MASK, observed=seen)
    fold = Fold.of(bits, net.initial(B)[:, None].expand(-1, T, -1))
    assert fold.observed is None
    assert fold.rows == bits.frames
    assert LocalELBO(net).gradients(bits)["loss"].isfinite()
    part = dataclasses.replace(bits, observed=pattern())
    with pytest.raises(ValueError, match="seen whole"):
        LocalELBO(net).gradients(part)


# Likelihoods and energies -------------------------------------------------------------------------


@every_vae
@pytest.mark.parametrize("likelihood", [Bernoulli(M), Poisson(M), Gaussian(M, 0.5)])
def test_the_likelihood_is_a_sum_over_the_values_seen(name, likelihood):
    net, seen = build(name, likelihood), pattern()[:, 1]
    obs, past = torch.randint(0, 2, (B, M)).float(), torch.randn(B, net.initial(1).shape[1])
    fold = Fold(obs * seen, past, observed=seen)
    x = torch.randn(B, 2)
    trace = poutine.trace(poutine.condition(net.model, {"x": x})).get_trace(fold)
    trace.compute_log_prob()
    natural = net.natural(x)
    each = -likelihood.log_normaliser(natural) + likelihood.log_base(obs)
    each = each + natural * likelihood.statistic(obs)
    assert_close(trace.nodes["y"]["log_prob"], torch.where(seen, each, 0.0).sum(-1))


@every_harmonium
def test_a_channel_that_is_never_seen_is_a_unit_that_does_not_exist(name):
    """Energies are those of a harmonium without it, and its weights are not trained."""
    net = build(name)
    small = type(net)(M - 1, 5, Poisson(M - 1))
    keep = torch.tensor([0, 1, 3])
    values = net.state_dict() | {"obs_weight": net.obs_weight[:, keep]}
    small.load_state_dict(values | {"obs_bias": net.obs_bias[keep]})
    seen = torch.ones(B, T, M, dtype=torch.bool)
    seen[..., 2] = False
    obs, past = sequences(seen=seen).obs[:, 0], torch.rand(B, 5)
    assert_close(net.free_energy(obs, past), small.free_energy(obs[:, keep], past))
    ContrastiveDivergence(net, k=3, through_time=False).gradients(sequences(seen=seen))
    assert (net.obs_weight.grad[:, 2] == 0).all()
    assert net.obs_bias.grad[2] == 0
    assert (net.obs_weight.grad[:, keep] != 0).any(0).all()


# Time in a gap ------------------------------------------------------------------------------------


@every_model
@torch.no_grad()
def test_time_passes_in_a_gap_and_waits_for_the_first_frame(name):
    net, batch = build(name), sequences()
    u = inference.run_filter(net, batch)
    frame = net.expected_frame(u[:, 2])
    assert_close(u[0, 3], net.step(net.encode(frame), u[:, 2])[0])
    assert not torch.allclose(u[0, 3], u[0, 2])
    assert torch.equal(u[1, 0], net.initial(1)[0])
    assert torch.equal(u[2, -1], u[2, 4])  # padding


@every_model
@torch.no_grad()
def test_missing_values_are_read_as_what_is_expected_or_as_told(name):
    net, batch = build(name), sequences()
    past, obs, seen = inference.run_filter(net, batch)[:, 0], batch.obs[:, 1], batch.observed[:, 1]
    told = "told" in name
    expected = obs if told else torch.where(seen, obs, net.expected_frame(past))
    if isinstance(net, inference.EnergyModel):  # given the values seen, in rounds of means
        hidden = torch.sigmoid(past @ net.past_weight.T + net.hidden_bias)
        for _ in range(5):
            frame = torch.where(seen, obs, net.likelihood.mean(net.emission(hidden)))
            hidden = net.step(net.encode(frame), past)
        expected = torch.where(seen, obs, net.likelihood.mean(net.emission(hidden)))
    features = net.encode(expected, seen) if told else net.encode(expected)
    assert_close(net.read(obs, seen, past), features)
    if told:
        assert not torch.allclose(net.encode(obs, seen), net.encode(obs))


@pytest.mark.parametrize("told", [False, True])
@torch.no_grad()
def test_a_memory_is_swept_as_it_is_scored(told):
    net, batch = zoo.RNN(M, Poisson(M), hidden=5, sees_missing=told).eval(), sequences()
    before = net.remembered(net.reading(batch.obs, batch.observed))
    swept = sweep(net, batch, net.initial(B)).statistics[:, :-1]
    assert_close(net.memory.output(swept)[MASK], before[MASK])


@pytest.mark.parametrize("name", ["rvae", "refh", "rtrbm"])
def test_a_trained_filter_goes_on_through_a_gap(name):
    """The error of the first frame after 20 that were not seen, beside cutting them out."""
    data, net = PPC(sequences=40, steps=121, seed=1, split="test"), zoo.load(f"ppc/{name}")
    seen = torch.ones(data.obs.shape[:2], dtype=torch.bool)
    seen[:, 100:120] = False
    cut = torch.cat((data.obs[:, :100], data.obs[:, 120:]), 1)
    found = {"whole": data.obs, "gap": Batch(data.obs, seen), "cut": cut}
    position = data.state[:, 120, 0]
    error = {
        key: float(ppc.wrap(ppc.decode(net.reconstruct(obs)[:, -1]) - position).square().mean())
        for key, obs in found.items()
    }
    assert error["gap"] < error["cut"] / 10
    assert error["gap"] < 5e-3
    assert error["whole"] < error["gap"]


@pytest.mark.parametrize("name", ["rvae", "rtrbm"])
def test_a_trained_filter_does_not_take_dead_channels_for_silent_ones(name):
    data, net = PPC(sequences=20, steps=60, seed=1, split="test"), zoo.load(f"ppc/{name}")
    seen = torch.ones_like(data.obs, dtype=torch.bool)
    seen[..., [3, 8, 13]] = False
    later = torch.arange(60) >= 20  # once it knows the velocity
    error = [
        ppc.position_mse(ppc.decode(net.reconstruct(obs)), data.state[..., 0], later.expand(20, -1))
        for obs in (Batch(data.obs, observed=seen), data.obs * seen)
    ]
    assert error[0] < 0.7 * error[1]


# Verbs --------------------------------------------------------------------------------------------


def outputs(net, batch):
    """All that the verbs return for a batch, by name."""
    found = {
        "run_filter": inference.run_filter(net, batch),
        "predict_next": inference.predict_next(net, batch, num_samples=2).samples,
        "rollout": inference.rollout(net, batch, 3).samples,
        "filter": torch.cat(net.filter(batch), -1),
        "reconstruct": net.reconstruct(batch),
    }
    if not isinstance(net, inference.FrameModel):
        previous = {"start": "previous", "steps": 2}
        more = inference.predict_next(net, batch, num_samples=2, options=previous)
        return found | {"from the frame before": more.samples}
    how = {"num_samples": 30}
    scores = inference.loo(net, batch, unit="frame", **how)
    tree = inference.to_arviz(net, batch, num_samples=3)
    return found | {
        "khat": inference.khat(net, batch, **how),
        "smoothed_bound": inference.smoothed_bound(net, batch, **how),
        "loo": scores.elpd,
        "frame_pit": inference.frame_pit(net, batch, num_samples=9),
        "sbc": sbc(simulator(net, batch), num_samples=9).pits["x"],
        "y": torch.as_tensor(tree["observed_data"]["y"].values),
        "scores": torch.as_tensor(tree["log_likelihood"]["y"].values),
    }


@every_model
def test_no_verb_depends_on_a_filler(name):
    net, state = build(name), torch.get_rng_state()
    first, second = (outputs(net, sequences(filler)) for filler in (0.0, 50.0))
    assert torch.equal(state, torch.get_rng_state())
    for key, value in first.items():
        torch.testing.assert_close(value, second[key], rtol=0, atol=0, equal_nan=True, msg=key)
    frames, values = pattern().any(-1) & MASK, pattern() & MASK[..., None]
    for key in {"khat", "loo"} & set(first):
        assert torch.equal(first[key].isfinite(), frames), key
    for key in {"frame_pit", "y"} & set(first):
        assert torch.equal(first[key].isfinite(), values), key


@every_vae
def test_the_state_in_a_gap_is_that_which_is_predicted(name):
    net, batch = build(name), sequences()
    u, found = inference.run_filter(net, batch), net.filter(batch)
    predicted = net.predict_state(u[:, 3])
    assert_close(found.mean[0, 4], predicted.mean[0])
    assert_close(found.variance[0, 4], predicted.variance[0])
    first = net.predict_state(net.initial(1))
    assert_close(found.mean[1, :1], first.mean)


@pytest.mark.slow
def test_a_guide_is_calibrated_as_before_where_values_are_missing():
    """An untrained decoder that ignores x leaves the prior: a guide equal to it is exact."""
    net = zoo.TVAE(M, 2, Poisson(M), hidden=6, transition=False)
    with torch.no_grad():
        for part in (net.decoder, net.recognition):
            for parameter in part.parameters():
                parameter.zero_()
        net.recognition.heads.bias[2:] = net.recognition.alone.bias[2:] = 0.5413
    found = sbc(simulator(net, sequences()), rounds=40)
    assert found.p_value("x") > 0.01


# Refusals -----------------------------------------------------------------------------------------


class Untold(inference.FrameModel):
    """A network of a user who knows nothing of missing values."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(M))

    def check(self, obs): ...

    def initial(self, rows):
        return torch.zeros(rows, M)

    def encode(self, obs):
        return obs * self.weight

    def step(self, features, past):
        return features + past / 2

    def model(self, fold): ...

    def guide(self, fold): ...

    def sample_next(self, past, previous, num_samples=1):
        return past.expand(num_samples, -1, -1)


@pytest.mark.parametrize(
    "verb",
    [
        inference.run_filter,
        inference.predict_next,
        lambda net, batch: inference.rollout(net, batch, 2),
        inference.khat,
        inference.frame_pit,
        inference.to_arviz,
        simulator,
        lambda net, batch: LocalELBO(net).gradients(batch),
        lambda net, batch: inference.fit(BPTT(net), batch, epochs=1, progress=False),
        lambda net, batch: inference.loo(net, batch, unit="frame"),
    ],
)
def test_a_network_that_leaves_nothing_out_is_given_nothing_missing(verb):
    with pytest.raises(ValueError, match="takes_missing"):
        verb(Untold(), sequences())


def test_a_network_that_expects_no_frame_cannot_pass_a_gap():
    net = Untold()
    net.takes_missing = True
    with pytest.raises(ValueError, match="expected_frame"):
        inference.run_filter(net, sequences())


@pytest.mark.parametrize(
    "guide", [zoo.guides.GaussianGuide(9, 2), zoo.spatial.SpatialGuide(3, 1, 2, (1,))]
)
def test_a_guide_that_cannot_be_told_is_refused(guide):
    net = zoo.TVAE(9, guide.latent_dim, Poisson(9), 4, guide=guide, sees_missing=True)
    with pytest.raises(ValueError, match="sees_missing"):
        net.filter(torch.ones(2, 3, 9))


def test_a_map_is_told_by_a_second_image():
    guide = zoo.spatial.SpatialGuide(3, 1, 2, (1,), inputs=2)
    net = zoo.RVAE(9, 9, Poisson(9), 4, guide=guide, sees_missing=True)
    obs, seen = torch.zeros(2, 9), torch.ones(2, 9, dtype=torch.bool)
    seen[:, 4] = False
    assert net.encode(obs, seen).shape == (2, 18)
    assert not torch.allclose(net.encode(obs, seen), net.encode(obs))


# Training -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("told", [False, True])
def test_a_tenth_of_missing_values_costs_little(told):
    """Scored on whole data of a rotation, after training on data with holes."""
    random = torch.Generator().manual_seed(0)
    phase = 0.3 * torch.arange(40) + 6.3 * torch.rand(60, 1, generator=random)
    clean = torch.stack([(phase + shift).sin() for shift in (0.0, 1.0, 2.0, 3.0)], -1)
    obs = clean + 0.5 * torch.randn(clean.shape, generator=random)
    train, test = obs[:40], obs[40:]
    seen = torch.rand(train.shape, generator=random) > 0.1
    scores = []
    for batch in (train, Batch(train, observed=seen)):
        torch.manual_seed(0)
        net = zoo.TVAE(M, 2, Gaussian(M, 0.5), hidden=16, sees_missing=told)
        before = float(LocalELBO(net).gradients(Batch(test))["loss"])
        rule = LocalELBO(net, minibatch=400)
        inference.fit(rule, batch, epochs=50, lr=1e-2, seed=0, progress=False)
        scores.append(float(LocalELBO(net).gradients(Batch(test))["loss"]))
    assert before - scores[0] > 1
    assert abs(scores[1] - scores[0]) < 0.1 * (before - scores[0])
